"""Some formulas of benchmarks/delicate.py; the table that it wrote holds what the documentation says."""

from __future__ import annotations

import csv

import pytest

from benchmarks.delicate import FORMULAS, RESULT, judge

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
    for row in judge(formula, "interpreter"):
        assert row["non-finite"] == 0
        assert max(float(str(row[k])) for k in ("value", "gradient", "Hessian")) < 1.5, row


def test_the_table_is_complete() -> None:
    with open(RESULT, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["formula"], r["type"]) for r in rows] == [(f.name, t) for f in FORMULAS for t in ("float32", "float64")]
    assert all(float(r["value"]) < 7 for r in rows)
    assert all(r["non-finite"] == "0" for r in rows if r["type"] == "float64")
