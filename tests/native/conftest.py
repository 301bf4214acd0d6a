"""Compiled libraries of the tests go to a folder of their own."""

from __future__ import annotations

import pytest

from cpgen.errors import EnvironmentProblem
from cpgen.native import find_compiler


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    patch = pytest.MonkeyPatch()
    patch.setenv("CPGEN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    try:
        find_compiler()
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    yield
    patch.undo()
