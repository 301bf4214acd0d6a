"""The documented error bounds of the runtime header: kept on a few points, and the same in header, docs and results."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.math_accuracy import BINARY, UNARY, defined, evaluate, judged, library, points

ROOT = Path(__file__).resolve().parents[2]
HEADER = (ROOT / "templates" / "runtime" / "cpgen_scalar.h").read_text()
BOUNDS = {
    name: {"float64": float(double), "float32": float(single)}
    for name, double, single in re.findall(
        r" (\w+) ([\d.]+)/([\d.]+?)[,.](?=\s)", HEADER[: HEADER.index("*/")]
    )
}
COUNT = 250
# where the whole range is judged; sin, cos and tan reduce theirs in integers
LARGEST = dict.fromkeys(("sin", "cos", "tan"), float("inf"))

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")


@pytest.fixture(scope="module", params=["float64", "float32", "float64 fused", "float32 fused"])
def loops(request, tmp_path_factory):
    real, _, fused = request.param.partition(" ")
    return real, library(real, tmp_path_factory.mktemp("loops"), fused=bool(fused))


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_error_stays_below_its_documented_bound(loops, name):
    real, lib = loops
    args = points(name, real, COUNT, seed=5)
    got = evaluate(lib, name, args)
    judgeable = 0
    for values, value in zip(zip(*(a.tolist() for a in args), strict=True), got.tolist(), strict=True):
        # the exact value must be finite, and the argument one that mpmath is quick for
        reachable = all(abs(v) <= LARGEST.get(name, 1e4) for v in values)
        if not reachable or not defined(name, values) or not np.isfinite(value):
            continue
        if name == "atan2" and 0.0 in values:  # mpmath has no signed zero
            continue
        judgeable += 1
        assert judged(name, real, values, value) <= BOUNDS[name][real], values
    assert judgeable > 20


def test_every_function_has_a_bound():
    assert list(BOUNDS) == [*UNARY, *BINARY]


def test_results_and_documentation_agree_with_the_bounds():
    with open(ROOT / "benchmarks" / "results" / "math_accuracy.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(BOUNDS)
    text = (ROOT / "docs" / "mathematics.md").read_text()
    found = {(r["function"], r["type"]): float(r["largest error (ulp)"]) for r in rows}
    for name, bound in BOUNDS.items():
        assert all(found[name, real] <= bound[real] for real in bound)
        cells = [f"{bound[r]:g} | {found[name, r]:.2f}" for r in ("float64", "float32")]
        assert f"| {name} | {cells[0]} | {cells[1]} |" in text
