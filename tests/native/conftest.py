"""Native code needs a C compiler."""

from __future__ import annotations

import pytest

from cpgen.errors import EnvironmentProblem
from cpgen.native import find_compiler


@pytest.fixture(scope="session", autouse=True)
def compiler() -> None:
    try:
        find_compiler()
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
