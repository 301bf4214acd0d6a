"""The CUDA text of a model, run on the host by the shim, and the C text it must agree with bit for bit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cpgen.code.tree import For, Statement
from cpgen.native.cuda import CudaCompiler

SHIM = Path(__file__).parent / "shim"
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-x", "c++", "-DCPGEN_CUDA_SHIM", f"-I{SHIM}")


def shim_compiler(*flags: str) -> CudaCompiler:
    """g++ in the place of nvcc."""
    found = shutil.which("g++")
    if found is None:
        pytest.skip("g++ is not installed")
    return CudaCompiler(found, "shim " + (SHIM / "cuda_runtime.h").read_text(), (*flags, *FLAGS))


def without(loop: For, statement: Statement, which: int) -> For:
    """``loop`` without one of the two places of ``statement`` in it: a fault to be noticed."""
    places = [k for k, s in enumerate(loop.body) if s == statement]
    assert len(places) == 2
    return replace(loop, body=tuple(s for k, s in enumerate(loop.body) if k != places[which]))


@pytest.fixture(scope="session")
def shim() -> CudaCompiler:
    return shim_compiler()
