"""The folder of compiled libraries and notes: what is found there is run or believed, so it is looked at before.

A library lies in a folder of its own, named by all that went into it, under a file name that is the digest of its
content: ``NAME_KEY/SHA256.so``.  A file that was cut off, overwritten or half written by a crash does not have the digest
that its name says; it is removed and built again.  Files appear by a rename of what is complete and on the disk, so any
number of processes may build the same library at once and be killed at any time.

A note is a text that an earlier process left under a key (:func:`keep`, :func:`kept`): what it found out about a model or
a compiler, so that the next one need not.  Its file begins with the digest of key and text; what does not fit is no note.
A note that cannot be read or written is not missed: what it says is found out again.

Nobody but this user (or root) may be able to replace what is there: the folder, every folder above it and the library
belong to one of them and can be written to by nobody else.  Where that does not hold, or the folder cannot be written to,
a private temporary folder of this process serves instead, and a warning says so once.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from cpgen.errors import EnvironmentProblem, warn_user

ABANDONED = 3600  # seconds after which a folder in which a library was being built belongs to a process that died
BUILDING = "build-"
NOTES = "notes"
# a C comment, or a literal in which the same signs mean nothing
_COMMENT = re.compile(r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|/\*.*?\*/|//[^\n]*""", re.DOTALL)


class CacheProblem(EnvironmentProblem):
    """A folder cannot keep compiled libraries; another one may."""


def cache_folder() -> Path:
    """CPGEN_CACHE_DIR, else cpgen under XDG_CACHE_HOME or ~/.cache; made with mode 0700.

    Raises CacheProblem if there is none, it cannot be made or written to, or somebody else could replace what lies
    in it.
    """
    named = os.environ.get("CPGEN_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME")
    hint = "set CPGEN_CACHE_DIR to a folder that you own and can write to"
    try:
        if named:
            folder = Path(os.path.abspath(named))
        else:
            folder = Path(os.path.abspath(base)) / "cpgen" if base else Path.home() / ".cache" / "cpgen"
    except (RuntimeError, OSError) as error:  # no HOME and no entry for this user; a working directory that is gone
        raise CacheProblem(f"there is no place for a cache folder ({error}); {hint}") from error
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise CacheProblem(
            f"the cache folder {ascii(str(folder))} has a name that is not UTF-8: no library loads by it; {hint}"
        ) from error
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        untrusted = why_untrusted(folder)
    except OSError as error:
        raise CacheProblem(f"the cache folder {folder} cannot be made ({error}); {hint}") from error
    if untrusted:
        raise CacheProblem(f"the cache folder {folder} is not safe: {untrusted}; mend that, or {hint}")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise CacheProblem(f"the cache folder {folder} cannot be written to; {hint}")
    return folder


def why_untrusted(path: Path) -> str:
    """Why somebody else could replace ``path`` or what lies in it; empty if nobody can (or nobody can tell, on Windows).

    Raises OSError if it is not there.
    """
    if not hasattr(os, "geteuid"):
        return ""
    lexical = Path(os.path.abspath(path))
    real = Path(os.path.realpath(path))
    # a link can be replaced by whoever can write to the folder it lies in
    for place in dict.fromkeys((real, *lexical.parents, *real.parents)):
        status = place.stat()
        if status.st_uid not in (0, os.geteuid()):
            return f"{place} belongs to another user, who could replace the compiled code"
        shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if shared == stat.S_IWGRP and _own_group(status.st_gid):
            continue
        sticky = place != real and status.st_mode & stat.S_ISVTX  # there, only owners can rename or remove
        if shared and not sticky:
            return f"other users can write to {place} (chmod go-w)"
    return ""


@lru_cache(maxsize=64)
def _own_group(group: int) -> bool:
    """Whether a group holds this user alone: the group that many systems make for each user, and give new folders to."""
    try:
        import grp
        import pwd

        name = pwd.getpwuid(os.geteuid()).pw_name
        found = grp.getgrgid(group)
    except (ImportError, KeyError):
        return False
    return found.gr_name == name and set(found.gr_mem) <= {name}


def stored(name: str, files: Mapping[str, str], identity: str, make: Callable[[Path], Path]) -> Path:
    """The library of ``files``: from the cache, else what ``make(folder)`` makes in a folder that holds the files.

    ``identity`` is all that decides the result besides the files.  Comments in them do not: a line added above a model
    moves the line numbers that they mention.  Raises CacheProblem if no folder will do, and what ``make`` raises; its
    OSError counts as the folder's.
    """
    digest = hashlib.sha256(identity.encode(errors="surrogateescape"))
    for file in sorted(files):
        code = _COMMENT.sub(lambda found: found.group(1) or " ", files[file])
        lines = [line.rstrip() for line in code.splitlines() if line.strip()]
        digest.update(b"\0" + file.encode() + b"\0" + "\n".join(lines).encode())
    key = f"{name[:40]}_{digest.hexdigest()[:32]}"
    try:
        return _stored(cache_folder(), key, files, make)
    except CacheProblem as problem:
        return _stored(_temporary_folder(problem.message), key, files, make)


def ready_folder() -> Path:
    """Where libraries will be made: the cache folder, or the temporary one that serves instead.  Raises CacheProblem."""
    try:
        return cache_folder()
    except CacheProblem as problem:
        return _temporary_folder(problem.message)


def _stored(folder: Path, key: str, files: Mapping[str, str], make: Callable[[Path], Path]) -> Path:
    try:
        place = folder / key
        place.mkdir(mode=0o700, exist_ok=True)
        found = _intact(place)
        if found is not None:
            return found
        _sweep(folder)
        with tempfile.TemporaryDirectory(prefix=BUILDING, dir=folder, ignore_cleanup_errors=True) as work:
            for file, text in files.items():
                (Path(work) / file).write_text(text, encoding="utf-8")
            made = make(Path(work))
            library = place / f"{_digest(made)}.so"
            made.chmod(0o700)
            _write_through(made)
            os.replace(made, library)
            _write_through(place)
        return library
    except OSError as error:
        raise CacheProblem(f"compiled code cannot be kept in {folder} ({error})") from error


def _intact(place: Path) -> Path | None:
    """The library in ``place`` that has the digest in its name and that nobody else can have put there."""
    for library in sorted(place.glob("*.so")):
        if _own(library) and _digest(library) == library.stem:
            return library
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            library.unlink()
    return None


def _own(file: Path) -> bool:
    """Whether it is a plain file that nobody else can have written."""
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False
    return not hasattr(os, "geteuid") or status.st_uid in (0, os.geteuid())


def library_kept(name: str) -> Path | None:
    """The library that lies in the cache under ``name``, what :func:`stored` returned from the cache folder on; None if
    it is gone or not what it was."""
    try:
        place = cache_folder() / Path(name).parent.name
        found = _intact(place) if place.is_dir() else None
    except (CacheProblem, OSError):
        return None
    return found if found is not None and found.name == Path(name).name else None


# Notes


def kept(key: str) -> str | None:
    """The note under ``key``; None if there is none that can be trusted to be what :func:`keep` wrote."""
    try:
        file = _note(key)
        if not _own(file):
            return None
        digest, _, text = file.read_text(encoding="utf-8").partition("\n")
    except (CacheProblem, OSError, UnicodeError):
        return None
    return text if digest == _signed(key, text) else None


def keep(key: str, text: str) -> None:
    """Leave a note under ``key`` in place of one that is there; does nothing where that is not possible."""
    with contextlib.suppress(CacheProblem, OSError):
        file = _note(key)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor, work = tempfile.mkstemp(prefix=BUILDING, dir=file.parent)  # with mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(f"{_signed(key, text)}\n{text}")
            os.replace(work, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(work)
            raise


def _note(key: str) -> Path:
    return cache_folder() / NOTES / hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:40]


def _signed(key: str, text: str) -> str:
    return hashlib.sha256(f"{key}\0{text}".encode(errors="surrogateescape")).hexdigest()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _write_through(path: Path) -> None:
    """Have the system write a file or folder to the disk: a name must not appear there before the content."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed while building left behind."""
    for work in (*folder.glob(f"{BUILDING}*"), *(folder / NOTES).glob(f"{BUILDING}*")):
        with contextlib.suppress(OSError):
            if time.time() - work.lstat().st_mtime > ABANDONED:
                if work.is_dir():
                    shutil.rmtree(work, ignore_errors=True)
                else:
                    work.unlink()


_TEMPORARY: list[Path] = []
_making = threading.Lock()  # programs are compiled side by side


def _temporary_folder(reason: str) -> Path:
    """A private folder that lasts as long as this process; raises CacheProblem if there is no place for one."""
    with _making:
        return _made_temporary(reason)


def _made_temporary(reason: str) -> Path:
    if _TEMPORARY and _TEMPORARY[0].is_dir():
        return _TEMPORARY[0]
    try:
        folder = Path(tempfile.mkdtemp(prefix="cpgen-"))
    except OSError as error:
        raise CacheProblem(f"{reason}; nor is there a temporary folder ({error})") from error
    _TEMPORARY[:] = [folder]
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not when a child that was forked off ends
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    warn_user(f"{reason}. Meanwhile compiled code is kept in {folder}, for this process only")
    return folder
