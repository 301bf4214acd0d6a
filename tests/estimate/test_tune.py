"""Measured choices: they are kept in a file, change no answer beyond rounding, and are refused for another model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cpgen as cp
from cpgen.errors import RequestError
from cpgen.estimate.tuning import Tuning, load_tuning
from tests.catalogue import CATALOGUE


def test_tuning_is_kept_and_changes_no_answer(tmp_path: Path) -> None:
    entry = CATALOGUE["softplus_energy"]
    arrays = entry.arrays(rows=64)
    est = entry.compile(programs=())
    tuning = est.tune(**arrays)
    assert set(tuning.methods.values()) <= {"cp", "directions"}
    tuning.save(tmp_path / "t.json")
    assert load_tuning(tmp_path / "t.json") == tuning
    again = entry.compile(programs=(), tuning=tmp_path / "t.json")
    for leaf, value in est.diagonal(exact=True, **arrays).items():
        np.testing.assert_allclose(again.diagonal(exact=True, **arrays)[leaf].value, value.value, rtol=1e-10, atol=1e-12)


def test_both_methods_and_any_tile_can_be_chosen() -> None:
    entry = CATALOGUE["softplus_energy"]
    arrays = entry.arrays(rows=64)
    est = entry.compile(programs=())
    wrt = tuple(v.name for v in est.wrt)
    expected = est.trace(exact=True, **arrays).value
    for method in ("cp", "directions"):
        chosen = Tuning("softplus_energy", wrt, "float64", {"trace": method, "trace:exact": method}, {"trace": 4})
        tuned = entry.compile(programs=(), tuning=chosen)
        assert tuned.derive("trace").estimator == method
        found = tuned.trace(exact=True, **arrays)
        assert found.method == method
        np.testing.assert_allclose(found.value, expected, rtol=1e-11)
        assert tuned.loaded("trace").backend.native.plan.tile == 4  # type: ignore[attr-defined]


def test_a_tuning_of_something_else_is_refused(tmp_path: Path) -> None:
    entry = CATALOGUE["softplus_energy"]
    other = Tuning("another", ("x",), "float64")
    with pytest.raises(RequestError, match="measured for the model 'another'"):
        entry.compile(programs=(), tuning=other)
    bad = tmp_path / "bad.json"
    bad.write_text('{"model": "m"}')
    with pytest.raises(RequestError, match="not a tuning that cpgen wrote"):
        entry.compile(programs=(), tuning=bad)
    with pytest.raises(RequestError, match="not a tuning"):
        cp.compile(entry.build(), wrt=list(entry.wrt), tuning=tmp_path / "absent.json")
    Tuning("softplus_energy", ("x",), "float64", {}, {"trace": 0}).save(bad)
    with pytest.raises(RequestError, match="between 1 and 1024"):
        load_tuning(bad)


def test_the_interpreter_cannot_be_tuned() -> None:
    entry = CATALOGUE["softplus_energy"]
    tuning = entry.compile(programs=(), backend="interpreter").tune(**entry.arrays())
    assert set(tuning.methods) <= {"diagonal:auto", "trace:auto"} and not tuning.tiles
