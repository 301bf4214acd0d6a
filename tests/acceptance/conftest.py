"""Catalogue models are compiled once in a session, and only those that the selected tests name."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import cpgen as cp
from cpgen.errors import EnvironmentProblem
from cpgen.native import find_compiler
from tests.catalogue import CATALOGUE

PROGRAMS = ("value", "gradient", "hvp", "diagonal", "trace", "hessian:cp")


@pytest.fixture(scope="session")
def compiled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], cp.Estimator]:
    """``compiled(model, backend)``, with all of PROGRAMS; C compilers of several models run side by side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CPGEN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        try:
            find_compiler()
        except EnvironmentProblem as problem:
            pytest.skip(str(problem))
        parameters = [getattr(item, "callspec", None) for item in request.session.items]
        names = sorted({c.params["name"] for c in parameters if c and c.params.get("name") in CATALOGUE})
        native: dict[str, cp.Estimator] = {}
        for name in names:
            native[name] = CATALOGUE[name].compile(programs=(), backend="native")
            for program in PROGRAMS:
                native[name].derive(program)
        interpreted: dict[str, cp.Estimator] = {}
        with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
            pending = {name: pool.submit(native[name].load, *PROGRAMS) for name in names}

            def get(name: str, backend: str) -> cp.Estimator:
                if backend == "native":
                    pending[name].result()
                    return native[name]
                if name not in interpreted:
                    interpreted[name] = CATALOGUE[name].compile(programs=(), backend="interpreter")
                return interpreted[name]

            yield get
            pool.shutdown(cancel_futures=True)
