"""What a plan says of its stages is what their trees are, and people are told of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import sympy as sp

import cpgen as cp
from cpgen.code.tree import Block, For, If, Statement
from cpgen.emit.body import stage_body
from cpgen.ir.nodes import Program
from cpgen.loops import Plan, plan
from cpgen.loops.device import device_plan
from cpgen.loops.kernels import Loops, Multiply, Panels, Terms, Threads
from cpgen.loops.plan import ROW
from cpgen.loops.schedule import Schedule
from tests.catalogue import CATALOGUE

MODELS = ["mlp_tanh", "convolution_2d", "lattice"]


def derived(name: str, key: str) -> Program:
    return CATALOGUE[name].compile(programs=(), backend="interpreter").derive(key).program


def plans(program: Program) -> list[Plan]:
    return [plan(program), plan(program, tile=1), plan(program, compact=True)]


def dealt(body: Sequence[Statement]) -> Iterator[Block | For]:
    """The statements that threads share."""
    for s in body:
        if isinstance(s, (For, Block)) and s.pragma.startswith(("OMP_FOR", "OMP_SINGLE")):
            yield s
        if isinstance(s, (For, Block, If)):
            yield from dealt(s.body)


@pytest.mark.parametrize("name", MODELS)
def test_threads_wait_as_often_as_the_plan_says(name: str) -> None:
    """Once behind each stage without rows, and nowhere behind a sum over rows."""
    for made in plans(derived(name, "diagonal")):
        waits = {
            s.number: sum(not part.pragma.endswith("NOWAIT") for part in dealt(stage_body(made, s, "m_").build()))
            for s in made.stages
        }
        assert sum(waits[s.number] for s in (*made.setup, *made.finish)) == made.barriers[0]
        row = [s for segment in made.segments for s in segment.stages]
        assert not any(waits[s.number] for s in (*row, *made.accumulate))


@pytest.mark.parametrize("name", MODELS)
def test_loops_dealt_out_as_one_have_nothing_in_between(name: str) -> None:
    for made in plans(derived(name, "diagonal")):
        for stage in made.stages:
            team = stage.nest.team if stage.nest else None
            assert (team is None) == (stage.phase == ROW or stage.nest is None)
            for part in dealt(stage_body(made, stage, "m_").build()) if team else ():
                loop: Statement = part
                together = part.pragma.removesuffix("_NOWAIT").removeprefix("OMP_FOR_")
                for _ in range(int(together) - 1 if together.isdigit() else 0):
                    assert isinstance(loop, For) and len(loop.body) == 1
                    (loop,) = loop.body
                assert part.pragma.startswith("OMP_SINGLE") or isinstance(loop, For)


def test_a_product_is_computed_in_pieces_and_by_whom_it_says() -> None:
    program = derived("mlp_tanh", "gradient")
    kernels = [s.kernel for s in plan(program, blas=1).stages]
    given = [k.blas for k in kernels if isinstance(k, Loops) and k.blas]
    assert given and all(p.outs * p.depth == p.size > 0 for p in given)
    assert not any(isinstance(s.kernel, Loops) and (s.kernel.blas or s.kernel.pieces) for s in plan(program).stages)


def test_the_launches_of_a_gpu_are_the_stages_in_order() -> None:
    program = derived("mlp_tanh", "gradient")
    made = device_plan(program, "float64", Schedule(products=2, least_panel=2, gemm=10**6))
    for segment in made.segments:
        assert tuple(s for launch in segment.launches for s in launch) == segment.stages
        for launch in segment.launches:
            assert len(launch) == 1 or not any(isinstance(s.kernel, Multiply) for s in launch)
    apart = {s.number: s.kernel for s in (*made.setup, *made.accumulate, *made.finish)}
    assert all(isinstance(k, (Threads, Panels, Terms)) and k.launch for k in apart.values())
    assert {type(k) for k in apart.values()} >= {Panels, Terms}
    assert not any(isinstance(k, Panels) and k.gemm for k in apart.values())
    usual = device_plan(program, "float64", Schedule())
    assert not usual.spread and made.spread


def test_show_says_how_a_program_is_computed() -> None:
    est = CATALOGUE["mlp_tanh"].compile(programs=(), backend="interpreter")
    told = est.show("gradient").split("strategy\n")[1].split("stages\n")[0]
    assert f"{plan(est.derive('gradient').program).tile} rows side by side" in told
    m = cp.Model("wide")
    n, t, i, h = m.axes("n t i h", n=cp.ROWS, t=64, i=512, h=512)
    x, W = m.input("x", n, t, i), m.param("W", h, i)
    y = m.define("y", (n, t, h), sp.tanh(cp.sum(W[h, i] * x[n, t, i], i)))
    m.objective(cp.sum(y[n, t, h], t, h))
    told = cp.compile(m, wrt=["W"], programs=(), backend="interpreter").show("value")
    assert "one row at a time" in told and "more than the 1048576 of a cache" in told
