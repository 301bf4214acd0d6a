"""Catalogue models are compiled once in a process."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

import cpgen as cp
from cpgen.errors import EnvironmentProblem
from cpgen.native import find_compiler
from tests.catalogue import CATALOGUE

PROGRAMS = ("value", "gradient", "hvp", "diagonal", "trace", "hessian:cp")


@pytest.fixture(scope="session")
def compiled() -> Callable[[str, str], cp.Estimator]:
    """``compiled(model, backend)``; the native one has all of PROGRAMS in one library."""
    try:
        find_compiler()
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))

    @functools.cache
    def get(name: str, backend: str) -> cp.Estimator:
        est = CATALOGUE[name].compile(programs=(), backend=backend)
        if backend == "native":
            est.load(*PROGRAMS)
        return est

    return get
