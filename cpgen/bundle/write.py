"""Folders that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cpgen.errors import RequestError

MANIFEST = "bundle.json"


def write_files(folder: Path, name: str, texts: Mapping[str, str]) -> None:
    """Make ``folder`` hold ``texts`` and a manifest of them.

    An earlier bundle is replaced; files that it did not contain are kept.  Raises RequestError, and changes nothing, if
    the folder is something else, if a generated file was edited, or if it cannot be written.
    """
    old = _manifest(folder)
    manifest = {"generator": "cpgen", "bundle": name, "files": {f: _digest(t.encode()) for f, t in texts.items()}}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise RequestError(f"cannot write beside {folder}: {error.strerror}; name another folder") from error
    try:
        for file, text in texts.items():
            (fresh / file).write_text(text, encoding="utf-8", newline="\n")
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        fresh.chmod(0o755)
        if folder.exists():
            keep = [e.name for e in folder.iterdir() if e.name not in old and e.name != MANIFEST]
            clash = [e for e in keep if (fresh / e).exists()]
            if clash:
                raise RequestError(f"{folder}/{clash[0]} is not part of the old bundle; move it away first")
            previous = fresh.with_name(fresh.name + "-old")
            os.rename(folder, previous)
            os.rename(fresh, folder)
            for entry in keep:
                os.rename(previous / entry, folder / entry)
            shutil.rmtree(previous)
        else:
            os.rename(fresh, folder)
    except OSError as error:
        raise RequestError(f"cannot write {folder}: {error.strerror}; name another folder") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _manifest(folder: Path) -> dict[str, str]:
    """Files of the bundle in ``folder`` with their digests; empty if there is none and the folder may be used."""
    if not folder.exists():
        return {}
    if not folder.is_dir():
        raise RequestError(f"{folder} is a file; name a folder for the bundle")
    place = folder / MANIFEST
    try:
        if not place.exists():
            if any(folder.iterdir()):
                raise RequestError(f"{folder} is not empty and holds no bundle; name another folder")
            return {}
        files = json.loads(place.read_text(encoding="utf-8"))["files"]
        for file, digest in files.items():
            path = folder / file
            if path.exists() and _digest(path.read_bytes()) != digest:
                raise RequestError(f"{path} was changed since it was generated; move it away first")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{place} cannot be read: {error}; name another folder") from error
    return dict(files)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
