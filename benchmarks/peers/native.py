"""C text of a peer, compiled for this machine with the flags that favour it."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path


def build(
    text: str, *, fast: bool = False, keep: list[tempfile.TemporaryDirectory[str]] | None = None
) -> Path:
    """A shared library of ``text``; its folder lives as long as ``keep`` does.  ``fast``: -ffast-math."""
    folder = tempfile.TemporaryDirectory()
    (keep if keep is not None else KEPT).append(folder)
    source, object_file, library = (Path(folder.name, f"peer.{end}") for end in ("c", "o", "so"))
    source.write_text(text)
    flags = ["-O3", "-march=native", "-fopenmp", "-fPIC", "-w", *(["-ffast-math"] if fast else [])]
    subprocess.run(["gcc", *flags, "-c", str(source), "-o", str(object_file)], check=True)
    # linked without -ffast-math, which would make the whole process flush subnormal numbers
    link = ["gcc", "-shared", str(object_file), "-o", str(library), "-fopenmp", "-lmvec", "-lm"]
    subprocess.run(link, check=True)
    return library


KEPT: list[tempfile.TemporaryDirectory[str]] = []


def load(text: str, *, fast: bool = False) -> ctypes.CDLL:
    return ctypes.CDLL(str(build(text, fast=fast)))
