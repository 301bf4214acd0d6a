"""Everything about a program is decided in ``loops``; ``emit`` translates what a plan says."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, get_args

import pytest

from cpgen.code.tree import Body
from cpgen.emit import emit_c
from cpgen.emit.body import StageBody
from cpgen.emit.cuda import emit_cuda
from cpgen.ir.nodes import Map
from cpgen.loops import plan
from cpgen.loops.device import device_plan
from cpgen.loops.kernels import Kernel
from cpgen.loops.plan import Nest
from cpgen.loops.products import product
from cpgen.loops.schedule import Schedule
from tests.catalogue import CATALOGUE
from tests.repository.test_imports import PACKAGE, imported

ROOM = PACKAGE / "loops"
# what emission may use of the room: the data of plans, and arithmetic of indices
DATA = {"kernels", "plan", "ranges", "schedule"}
# the numbers of a schedule that kernels are chosen by
LIMITS = {"products", "least_panel", "gemm", "shared_bytes"}


def used(path: Path, text: str | None = None) -> Iterator[str]:
    """The modules of the room that a file imports from."""
    for _, name in imported(path, text):
        parts = name.split(".")
        if parts[:2] == ["cpgen", "loops"] and len(parts) > 2:
            yield parts[2]


def limits(text: str) -> list[str]:
    """The limits of schedules that a text reads."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr in LIMITS:
            holder = node.value
            name = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
            found += [node.attr] if name == "schedule" else []
    return found


def test_emission_knows_plans_and_not_how_they_are_made() -> None:
    for path in sorted((PACKAGE / "emit").glob("*.py")):
        assert set(used(path)) <= DATA, path.name
        assert not limits(path.read_text(encoding="utf-8")), path.name


def test_what_emission_knows_needs_nothing_else_of_the_room() -> None:
    for name in DATA:
        assert set(used(ROOM / f"{name}.py")) <= DATA, name


@pytest.mark.parametrize(
    ("text", "modules", "read"),
    [
        ("from cpgen.loops.products import product", {"products"}, []),
        ("from ..loops.fuse import groups", {"fuse"}, []),
        ("large = plan.schedule.gemm <= size", set(), ["gemm"]),
        ("if schedule.products: pass", set(), ["products"]),
        ("kernel.gemm, schedule.panel", set(), []),
    ],
)
def test_the_check_itself(text: str, modules: set[str], read: list[str]) -> None:
    assert set(used(PACKAGE / "emit" / "x.py", text)) == modules
    assert limits(text) == read


def test_every_kind_of_kernel_has_a_translation() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (PACKAGE / "emit").glob("*.py"))
    assert all(kind.__name__ in text for kind in get_args(Kernel))


def called(run: Callable[[], Any]) -> set[str]:
    """The functions outside DATA that ``run`` calls in the room."""
    found = set[str]()

    def look(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and ROOM in path.parents and path.stem not in DATA:
            found.add(f"{path.stem}.{frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found


@pytest.fixture(scope="module")
def texts() -> list[Callable[[], object]]:
    """Makers of texts that have every kind of kernel."""
    program = CATALOGUE["mlp_tanh"].compile(programs=(), backend="interpreter").derive("gradient").program
    plans = [plan(program), plan(program, tile=1), plan(program, compact=True), plan(program, blas=1)]
    schedules = [None, Schedule(products=2, least_panel=2, columns=2, gemm=1)]
    launched = [device_plan(program, "float64", schedule) for schedule in schedules]
    kinds = {type(stage.kernel) for made in (*plans, *launched) for stage in made.stages}
    assert kinds == set(get_args(Kernel))
    return [
        *(lambda made=made: emit_c("m", [made]) for made in plans),
        *(lambda made=made: emit_cuda("m", [made]) for made in launched),
    ]


def test_nothing_is_decided_while_text_is_made(texts: list[Callable[[], object]]) -> None:
    assert set[str]().union(*map(called, texts)) == set()


def test_a_decision_in_emission_is_noticed(
    texts: list[Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = StageBody.map

    def deciding(self: StageBody, root: Map, nest: Nest) -> Body:
        return sound(self, root, nest) if product(root) is None else []

    monkeypatch.setattr(StageBody, "map", deciding)
    assert "products.product" in called(texts[0])
