"""Value, gradient and diagonal from one call: the same answers for less than the three calls cost."""

from __future__ import annotations

import numpy as np
import pytest

from cpgen.ir.cost import operations
from tests.catalogue import CATALOGUE, estimator

NAMES = ["mlp_tanh", "attention", "chained_rosenbrock", "recurrent", "robot_arm"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", [{"samples": 1}, {"samples": 5}, {"exact": True}, {"method": "hutchinson", "samples": 2}])
def test_the_same_answers(name: str, how: dict[str, object]) -> None:
    entry = CATALOGUE[name]
    est, arrays = estimator(name), entry.arrays()
    value, gradient, diagonal = est.value_gradient_and_diagonal(**how, seed=3, **arrays)
    close = {"rtol": 1e-11, "atol": 1e-12}
    assert value == pytest.approx(est.value(**arrays), rel=1e-12)
    for leaf, expected in est.gradient(**arrays).items():
        np.testing.assert_allclose(gradient[leaf], expected, **close)
    alone = est.diagonal(**how, seed=3, **arrays)
    for leaf, estimate in alone.items():
        np.testing.assert_allclose(diagonal[leaf].value, estimate.value, **close)
        np.testing.assert_allclose(diagonal[leaf].stderr, estimate.stderr, rtol=1e-6, atol=1e-9)
        assert (diagonal[leaf].exact, diagonal[leaf].samples) == (estimate.exact, estimate.samples)


def test_batches_of_columns_leave_the_gradient_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CATALOGUE["mlp_tanh"]
    est, arrays = entry.compile(programs=()), entry.arrays()
    once = est.value_gradient_and_diagonal(samples=8, exact=False, **arrays)
    monkeypatch.setattr(est.core, "batch", lambda loaded, data, columns: min(columns, 3))
    value, gradient, _ = est.value_gradient_and_diagonal(samples=8, exact=False, **arrays)
    assert value == once[0] and all(np.array_equal(gradient[k], once[1][k]) for k in gradient)


def test_the_forward_pass_is_shared() -> None:
    est = estimator("mlp_tanh")
    apart = [operations(est.derive(key).program) for key in ("gradient", "diagonal")]
    assert operations(est.derive("diagonal+gradient").program) < 0.8 * sum(apart)
