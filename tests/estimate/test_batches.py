"""How many noise columns go into one sweep."""

from __future__ import annotations

import pytest

from cpgen.estimate.estimator import BATCH_BYTES
from tests.catalogue import CATALOGUE


def test_only_memory_that_columns_need_makes_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    est = CATALOGUE["mlp_tanh"].compile(backend="interpreter", programs=())
    loaded = est.loaded("diagonal:cp")

    def takes(fixed: int, each: int) -> None:
        monkeypatch.setattr(
            loaded.backend, "workspace_bytes", lambda call, threads: fixed + each * call.columns
        )

    takes(8 * BATCH_BYTES, 0)  # large layers on a GPU: a few columns at a time have memory, however many there are
    assert est._batch(loaded, 10, 64) == 64
    takes(8 * BATCH_BYTES, BATCH_BYTES // 16)
    assert est._batch(loaded, 10, 64) == 16
    takes(0, BATCH_BYTES)
    assert est._batch(loaded, 10, 64) == 2
    assert est._batch(loaded, 10, 1) == 1
