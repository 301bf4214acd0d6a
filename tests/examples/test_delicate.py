"""Some formulas of benchmarks/delicate.py; the table that it wrote holds what the documentation says."""

from __future__ import annotations

import csv

import pytest

from benchmarks.delicate import BACKENDS, FORMULAS, RESULT, judge

QUICK = (
    "diode about a working point",
    "Arrhenius, constants written out",
    "thermistor (beta)",
    "skin depth",
    "logistic log-likelihood",
    "Kullback-Leibler term",
)


@pytest.mark.parametrize("name", QUICK)
def test_errors_are_those_of_the_inputs(name: str) -> None:
    formula = next(f for f in FORMULAS if f.name == name)
    for row in judge(formula, ["interpreter"]):
        assert row["non-finite"] == 0
        assert max(float(str(row[k])) for k in ("value", "gradient", "Hessian")) < 1.5, row


def test_the_table_is_complete() -> None:
    with open(RESULT, newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [(f.name, t, b) for f in FORMULAS for t in ("float32", "float64") for b in BACKENDS]
    assert [(r["formula"], r["type"], r["backend"]) for r in rows] == wanted
    assert all(r["non-finite"] == "0" for r in rows)
    # the Student density's difference of loggamma counts the last digits of either
    assert all(float(r["value"]) < (7 if r["backend"] == "interpreter" else 25) for r in rows)
    cancelling = ("Student log-density", "Planck, SI units")
    kept = [r for r in rows if r["formula"] not in cancelling]
    assert all(float(r[k]) < 2.5 for r in kept for k in ("value", "gradient", "Hessian"))
