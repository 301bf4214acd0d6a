"""Random models: no crash, no wrong number, every refusal a cpgen error.  benchmarks/random_models.py runs thousands."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings

from tests.random.check import outcome
from tests.random.generate import randoms
from tests.random.illegal import ILLEGAL, attempt
from tests.short import cases


@pytest.mark.slow
@settings(
    max_examples=15, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(randoms())
def test_a_drawn_model_agrees_with_its_own_evaluator(rng: random.Random) -> None:
    found = outcome(rng)
    assert found.status in ("ok", "refused", "skipped"), found.detail


@pytest.mark.parametrize("number", cases(range(30), (2, 4, 5, 7, 8, 9, 10, 11)))
def test_a_numbered_model_agrees_with_its_own_evaluator(number: int) -> None:
    found = outcome(random.Random(f"tests:{number}"))
    assert found.status in ("ok", "refused", "skipped"), found.detail


@pytest.mark.parametrize("name", ILLEGAL)
def test_a_mistake_is_refused(name: str) -> None:
    found = attempt(name, random.Random(name))
    assert found.status == "refused", found.detail
