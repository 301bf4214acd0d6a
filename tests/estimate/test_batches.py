"""How many noise columns go into one sweep."""

from __future__ import annotations

import numpy as np
import pytest

from cpgen.estimate.core import BATCH_BYTES, Data
from tests.catalogue import CATALOGUE


def test_only_memory_that_columns_need_makes_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    est = CATALOGUE["mlp_tanh"].compile(backend="interpreter", programs=())
    loaded, data = est.loaded("diagonal:cp"), Data({}, 10)

    def takes(fixed: int, each: int) -> None:
        monkeypatch.setattr(loaded.backend, "workspace_bytes", lambda call: fixed + each * call.columns)

    takes(8 * BATCH_BYTES, 0)  # large layers on a GPU: a few columns at a time have memory, however many there are
    assert est.core.batch(loaded, data, 64) == 64
    takes(8 * BATCH_BYTES, BATCH_BYTES // 16)
    assert est.core.batch(loaded, data, 64) == 16
    takes(0, BATCH_BYTES)
    assert est.core.batch(loaded, data, 64) == 2
    assert est.core.batch(loaded, data, 1) == 1


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_a_batch_of_one_column_leaves_the_bars_of_the_others(backend: str) -> None:
    """One column has no spread: the third of three adds to the mean and not to the variance of a column."""
    entry = CATALOGUE["mlp_tanh"]
    est = entry.compile(backend=backend, programs=())
    found = est.diagonal(samples=2, rtol=1e-9, max_samples=3, exact=False, method="cp", **entry.arrays())
    once = est.diagonal(samples=3, exact=False, method="cp", **entry.arrays())
    assert not found.exact
    for leaf, estimate in found.items():
        assert estimate.samples == 3 and np.isfinite(estimate.stderr).all()
        assert estimate.exact or estimate.stderr.max() > 0
        np.testing.assert_allclose(estimate.value, once[leaf].value, rtol=1e-9, atol=1e-12)
