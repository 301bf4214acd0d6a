"""The cache of compiled libraries under attack: torn and planted files, folders that cannot be used, killed processes."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpgen.errors import CpgenWarning, EnvironmentProblem
from cpgen.native import cache, find_compiler
from cpgen.native.cache import CacheProblem, cache_folder, why_untrusted
from cpgen.native.compiler import compile_library

ROOT = Path(__file__).resolve().parents[2]
SOURCE = {"answer.c": "/* model.py:3 */\nint answer(void);\nint answer(void) { return 42; } // 'the'\n"}
OTHER_USER = 65534


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CPGEN_CACHE_DIR", str(folder))
    monkeypatch.setattr(cache, "_TEMPORARY", [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield folder


def library(files: dict[str, str] = SOURCE) -> Path:
    return compile_library("answer", files, find_compiler())


def answer(path: Path) -> int:
    """Loaded in a process of its own: a torn library would take this one with it."""
    command = [sys.executable, "-c", "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).answer())", str(path)]
    return subprocess.run(command, timeout=60).returncode


def test_comments_are_not_part_of_the_key() -> None:
    first = library()
    moved = SOURCE["answer.c"].replace("model.py:3", "model.py:14\n   and more").replace("// 'the'", "")
    assert library({"answer.c": moved}) == first
    assert library({"answer.c": SOURCE["answer.c"].replace("42", "43")}) != first
    quoted = 'const char *answer(void);\nconst char *answer(void) { return "%s"; }\n'
    assert library({"answer.c": quoted % "/* a */"}) != library({"answer.c": quoted % "/* b */"})


@pytest.mark.parametrize("harm", ["cut", "zeroed", "emptied", "changed", "writable", "link", "folder"])
def test_a_library_that_is_not_what_was_built_is_built_again(harm: str, tmp_path: Path) -> None:
    good = library()
    content = good.read_bytes()
    if harm == "cut":
        good.write_bytes(content[: len(content) // 2])
    elif harm == "zeroed":
        good.write_bytes(bytes(len(content)))
    elif harm == "emptied":
        good.write_bytes(b"")
    elif harm == "changed":
        good.write_bytes(content.replace(b"answer", b"aNswer"))
    elif harm == "writable":
        good.chmod(0o777)
    elif harm == "link":
        elsewhere = tmp_path / "elsewhere.so"
        good.rename(elsewhere)
        good.symlink_to(elsewhere)
    else:
        good.rename(good.parent / "aa.so")  # a planted one, by a name that is not its digest
    found = library()
    assert found == good and answer(found) == 42
    assert stat.S_ISREG(found.lstat().st_mode) and stat.S_IMODE(found.stat().st_mode) == 0o700
    assert [f.name for f in found.parent.iterdir()] == [found.name]
    before = found.stat().st_mtime_ns
    assert library() == found and found.stat().st_mtime_ns == before  # once


def falls_back(said: str) -> Path:
    with pytest.warns(CpgenWarning, match=said):
        found = library()
    folder = found.parents[1]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert answer(found) == 42
    assert library() == found  # and no second warning
    return folder


@pytest.mark.parametrize("mode", [0o777, 0o770 | stat.S_ISVTX, 0o707])
def test_a_folder_that_others_can_write_to(own_folder: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = library()
    planted.write_bytes(b"not a library")
    monkeypatch.setattr(cache, "_own_group", lambda group: False)
    own_folder.chmod(mode)
    folder = falls_back("other users can write to")
    assert folder != own_folder and planted.read_bytes() == b"not a library"


def test_a_parent_that_others_can_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("CPGEN_CACHE_DIR", str(shared / "cache"))
    shared.chmod(0o777)
    falls_back("other users can write to .*shared")
    shared.chmod(0o777 | stat.S_ISVTX)  # like /tmp: there, only owners can rename
    assert cache_folder() == shared / "cache"


def test_a_group_of_one(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library()
    own_folder.chmod(0o770)
    monkeypatch.setattr(cache, "_own_group", lambda group: True)
    assert cache_folder() == own_folder


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give folders away")
def test_folders_of_another_user(own_folder: Path, tmp_path: Path) -> None:
    good = library()
    os.chown(good, OTHER_USER, -1)
    assert library().stat().st_uid == os.geteuid()
    os.chown(own_folder, OTHER_USER, -1)
    falls_back("belongs to another user")
    link = tmp_path / "link"
    link.symlink_to(own_folder)
    assert "belongs to another user" in why_untrusted(link)


def test_a_link_in_a_folder_of_others(tmp_path: Path) -> None:
    """The link could be turned elsewhere after it was looked at."""
    (tmp_path / "mine").mkdir(mode=0o700)
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "link").symlink_to(tmp_path / "mine")
    loose.chmod(0o777)
    assert "other users can write to" in why_untrusted(loose / "link")
    assert why_untrusted(tmp_path / "mine") == ""


def test_a_file_in_its_place(own_folder: Path) -> None:
    own_folder.touch()
    falls_back("cannot be made")


def test_a_folder_that_cannot_be_written_to(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder().chmod(0o500)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # what root would not be told
    falls_back("cannot be written to")


def test_a_full_disk(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(source: Path, target: Path) -> None:
        if own_folder in Path(target).parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    falls_back("No space left on device")
    assert not list(own_folder.glob("build-*"))


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("CPGEN_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    falls_back("no place for a cache folder")


def test_a_name_that_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPGEN_CACHE_DIR", os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    falls_back("not UTF-8")


def test_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CPGEN_CACHE_DIR", "here/cache")
    found = library()
    assert found.is_absolute() and tmp_path / "here" / "cache" in found.parents and answer(found) == 42


def test_no_folder_anywhere(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_folder.touch()

    def none(**options: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(cache.tempfile, "mkdtemp", none)
    with pytest.raises(CacheProblem, match="nor is there a temporary folder"):
        library()
    assert issubclass(CacheProblem, EnvironmentProblem)  # so that the interpreter takes over


def test_what_killed_processes_left_is_removed(own_folder: Path) -> None:
    old, new = (cache_folder() / name for name in ("build-old", "build-new"))
    for folder in (old, new):
        folder.mkdir()
        (folder / "answer.c").touch()
    os.utime(old, (time.time() - 2 * cache.ABANDONED,) * 2)
    library()
    assert not old.exists() and new.exists()


def test_the_temporary_folder_goes_with_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    script = (
        "from cpgen.native.compiler import compile_library, find_compiler\n"
        f"print(compile_library('answer', {SOURCE!r}, find_compiler()))"
    )
    environment = {**os.environ, "CPGEN_CACHE_DIR": str(tmp_path / "file"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "CpgenWarning" in done.stderr
    assert not Path(done.stdout.strip()).parents[1].exists()


def test_processes_that_build_together_and_are_killed(own_folder: Path) -> None:
    """CPGEN_TEST_KILLS: how many (default 6)."""
    kills, together = int(os.environ.get("CPGEN_TEST_KILLS", "6")), 8 if "CPGEN_TEST_KILLS" in os.environ else 3
    body = "\n".join(f"int f{k}(int x); int f{k}(int x) {{ return x * {k} + 1; }}" for k in range(300))
    files = {"answer.c": body + SOURCE["answer.c"]}
    script = (
        "import sys\nfrom cpgen.native.compiler import compile_library, find_compiler\n"
        f"print(compile_library('answer', {files!r}, find_compiler()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    rng = random.Random(0)

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)

    running = [start() for _ in range(together)]
    for _ in range(kills):
        time.sleep(rng.uniform(0.0, 0.6))
        victim = running.pop(rng.randrange(len(running)))
        os.killpg(victim.pid, signal.SIGKILL)
        victim.communicate()
        if rng.random() < 0.5:
            for found in own_folder.glob("*/*.so"):
                found.unlink(missing_ok=True)  # so that the others build again
        running.append(start())
    ends = [process.communicate(timeout=300)[0].strip() for process in running]
    assert all(process.returncode == 0 for process in running) and len(set(ends)) == 1
    found = Path(ends[0])
    assert answer(found) == 42 and library(files) == found
