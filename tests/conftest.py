"""What all tests share: the short suite and the whole one, one folder of compiled libraries, and who must run alone.

Compiled libraries are kept between runs, in pytest's own cache folder: their key is the whole text, the compiler and
its flags, so a library that is found there is the one that would have been built.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.catalogue import CATALOGUE

os.environ.setdefault("CPGEN_NOTES", "0")  # tests begin without what others found out; test_warm.py says otherwise

KEPT_BYTES = 1 << 30  # of compiled libraries; beyond it the oldest are removed


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="the whole suite: also the tests that are marked slow")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "cache"):
        os.environ.setdefault("CPGEN_CACHE_DIR", str(config.cache.mkdir("libraries")))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not (config.option.all or "slow" in config.option.markexpr or _named(config)):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)


def _named(config: pytest.Config) -> bool:
    """Whether the command names single tests, and so wants them."""
    return any("::" in argument for argument in config.args)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """A process takes a file at once, or what a file tests of one model of the catalogue, and keeps what it has made."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModel(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, rest = nodeid.partition("::")
            words = rest.partition("[")[2].rstrip("]").split("-")
            return "/".join([file, *(word for word in words if word in CATALOGUE)])

    return ByModel(config, log) if config.option.dist == "load" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with turn(item.config, item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def turn(config: pytest.Config, alone: bool) -> Iterator[None]:
    """Wait until no other process of this checkout runs a test (``alone``), or none that must be alone.

    Who waits to be alone holds the gate, so that nobody can slip in before.
    """
    if not hasattr(config, "cache"):
        yield
        return
    folder = config.cache.mkdir("turns")
    with open(folder / "gate", "w") as gate, open(folder / "room", "w") as room:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)  # also for a child that a test has forked off and left


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the oldest libraries where they have become too many."""
    if hasattr(session.config, "workerinput") or not hasattr(session.config, "cache"):
        return
    folders = sorted(session.config.cache.mkdir("libraries").iterdir(), key=lambda f: f.stat().st_mtime, reverse=True)
    total = 0
    for folder in folders:
        total += sum(file.stat().st_size for file in _files(folder))
        if total > KEPT_BYTES:
            shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]
