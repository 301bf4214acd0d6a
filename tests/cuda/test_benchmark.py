"""benchmarks/gpu.py where there is no GPU: its plumbing on the host's CUDA shim, and its accounts of every kernel."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

import cpgen as cp
from benchmarks import gpu as benchmark
from cpgen.emit.cuda import emit_cuda
from cpgen.loops.device import device_plan
from cpgen.native import cuda
from cpgen.native.cuda import CudaCompiler


def test_every_section_is_written(
    shim: CudaCompiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda, "find_nvcc", lambda: shim)
    monkeypatch.setattr(benchmark, "QUICK", benchmark.Sizes(rows=3, pixels=5, width=6, points=3, dimensions=5))
    monkeypatch.setattr(benchmark, "REPEATS", 1)
    monkeypatch.setattr(benchmark, "WORKLOADS", ("laplacian",))
    idle = {"sample: nobody": lambda: None, "exact: nobody": lambda: None}
    monkeypatch.setattr(benchmark, "peers", lambda data, what: idle)
    place = tmp_path / "gpu.csv"
    assert benchmark.main(["--quick", "--out", str(place)]) == 0
    lines = list(csv.DictReader(place.open()))
    assert "by the shim" in lines[0]["what"] and lines[0]["section"] == "hardware"
    assert {x["section"] for x in lines[1:]} == {"calls", "kernels", "error", "targets"}
    for x in lines:
        if x["section"] == "kernels":
            assert float(x["seconds"]) > 0 and float(x["of arithmetic"]) >= 0
    [verdict] = [x for x in lines if x["section"] == "targets"]
    assert verdict["note"] == ("met" if float(verdict["seconds"]) >= 5 else "missed")


def test_targets() -> None:
    seconds = {"gradient: cpgen": 2.0, "sample: cpgen": 1.5, "sample: jax": 4.0, "sample: torch": 2.5}
    found = {text: (test(ratio), ratio) for text, test, ratio in benchmark.targets("diagonal", seconds, {}) if ratio}
    assert list(found.values()) == [(True, 0.75), (False, 0.6)]
    alone = benchmark.targets("diagonal", {"gradient: cpgen": 2.0, "sample: cpgen": 1.5}, {})
    assert alone[1][2] is None
    spent = {"sample: cpgen": 2.0, "exact: cpgen, 8 columns": 3.0, "exact: jax": 11.0, "sample: torch": 10.0}
    [(_, test, ratio)] = benchmark.targets("laplacian", {}, spent)
    assert ratio == 5.0 and test(ratio)


@pytest.mark.parametrize("what", ["diagonal", "laplacian"])
def test_kernels_account_for_all_operations(what: str) -> None:
    """With the real extents: each launched kernel has its stages, and together they are the program's operations."""
    if what == "diagonal":
        est = cp.compile(benchmark.classifier(), wrt=["W1"], real="float32", backend="interpreter", programs=())
        program = est.derive("diagonal:cp").program
    else:
        est = cp.compile(benchmark.energy(), wrt=["x"], real="float32", backend="interpreter", programs=())
        program = est.derive("trace:cp").program
    plan = device_plan(program, "float32")
    files = emit_cuda(est.graph.name, [plan], "float32")
    [view] = files.programs
    launched = set(re.findall(rf"CPGEN_LAUNCH\({view.name}_(\w+)", files.source)) - {"clear"}
    stages = benchmark.stages_of(view)
    assert "multiply" in launched and len(launched) > 6
    used = [s for kernel in launched for s in stages[kernel]]
    assert sorted(s.number for s in used) == [s.number for s in plan.stages]
    rows, columns = 64, 4
    total = sum(benchmark.work(plan, stages[kernel], rows, columns)[0] for kernel in launched)
    assert total == plan.operations(rows, columns).total
    outs, depth = (1024, 784) if what == "diagonal" else (1024, 1024)
    count, moved = benchmark.work(plan, (next(s for s in plan.stages if s.number == view.products[0].stage),), rows, 0)
    assert count == 2 * rows * outs * depth and moved == 4 * (outs * depth + rows * (outs + depth))


def test_no_device_is_said_and_nothing_is_written(
    shim: CudaCompiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda, "find_nvcc", lambda: shim)
    monkeypatch.setattr(benchmark, "QUICK", benchmark.Sizes(rows=3, pixels=5, width=6, points=3, dimensions=5))
    monkeypatch.setattr(benchmark, "WORKLOADS", ("laplacian",))  # as compiled for the test above
    monkeypatch.setenv("CPGEN_SHIM_DEVICES", "0")
    assert benchmark.main(["--quick", "--out", str(tmp_path / "gpu.csv")]) == 0
    assert "NOT RUN, nothing was measured: target='cuda' needs a GPU" in capsys.readouterr().out
    assert not (tmp_path / "gpu.csv").exists()
