"""The same bits for any number of threads and any split of the rows, and what streams refuse."""

from __future__ import annotations

import numpy as np
import pytest

import cpgen as cp
from cpgen.errors import RequestError
from cpgen.ir.call import Call
from cpgen.ir.noise import HADAMARD
from tests.catalogue import CATALOGUE

ENTRY = CATALOGUE["mlp_tanh"]
ROWS = 128
ARRAYS = ENTRY.arrays(rows=ROWS)
WITH_ROWS = {v.name for v in ENTRY.build().graph().variables if v.has_rows}


def bits(found: cp.Estimates) -> list[bytes]:
    return [part.tobytes() for e in found.values() for part in (e.value, e.stderr)]


def pieces(sizes: list[int]) -> list[dict[str, object]]:
    ends = np.cumsum([0, *sizes])
    return [
        {name: a[start:end] if name in WITH_ROWS else a for name, a in ARRAYS.items()}
        for start, end in zip(ends, ends[1:], strict=False)
    ]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("design", ["hadamard", "independent"])
def test_threads_and_splits_do_not_change_a_bit(real: str, design: str, fused: bool) -> None:
    arrays = {name: a.astype(real) for name, a in ARRAYS.items()}
    expected = None
    for threads in (1, 2, 7):
        est = ENTRY.compile(programs=(), real=real, threads=threads, fused=fused)
        whole = bits(est.diagonal(samples=6, seed=3, design=design, exact=False, **arrays))
        expected = expected or whole
        assert whole == expected
        for sizes in ([16] * 8, [1, 30, 17, 64, 16]):
            stream = est.stream(samples=6, seed=3, design=design, exact=False)
            for piece in pieces(sizes):
                stream.add(**{name: np.asarray(a, real) for name, a in piece.items()})
            assert stream.rows == ROWS
            assert bits(stream.result()) == expected


@pytest.mark.parametrize("name", ["mlp_tanh", "recurrent", "softplus_energy"])
def test_one_sample_has_the_bits_of_the_program_with_variances(name: str) -> None:
    """It is computed without them, since one column gives none."""
    entry = CATALOGUE[name]
    arrays = entry.arrays(rows=9)
    est = entry.compile(programs=(), threads=1)
    found = est.diagonal(samples=1, seed=5, exact=False, method="cp", **arrays)
    whole = est.loaded("diagonal:cp")
    assert any(label.startswith("var_") for label, _ in whole.program.outputs)
    given, rows = est.core.arrays(whole, arrays)
    assert rows == 9
    call = Call(rows, 1, seed=5, design=HADAMARD, row_scale=1 / rows, threads=1)
    outputs = whole.backend.run(given, call)
    for leaf, estimate in found.items():
        assert estimate.value.tobytes() == outputs[f"diag_{leaf}"].tobytes()
        assert np.isnan(estimate.stderr).all() == (f"var_diag_{leaf}" in outputs)


def test_a_stream_can_be_exact() -> None:
    est = ENTRY.compile(programs=())
    stream = est.stream(exact=True)
    for piece in pieces([16] * 8):
        stream.add(**piece)
    found = stream.result()
    assert found.exact
    for name, e in est.diagonal(exact=True, **ARRAYS).items():
        np.testing.assert_allclose(found[name].value, e.value, rtol=1e-13)


def test_the_interpreter_streams_like_the_native_code() -> None:
    results = []
    for backend in ("native", "interpreter"):
        stream = ENTRY.compile(programs=(), backend=backend).stream(samples=4, seed=1, exact=False)
        for piece in pieces([100, 28]):
            stream.add(**piece)
        results.append(stream.result())
    for name, e in results[0].items():
        np.testing.assert_allclose(results[1][name].value, e.value, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(results[1][name].stderr, e.stderr, rtol=1e-9, atol=1e-13)


def test_what_a_stream_refuses() -> None:
    est = ENTRY.compile(programs=(), backend="interpreter")
    with pytest.raises(cp.errors.RequestError, match="seen no rows"):
        est.stream().result()
    with pytest.raises(cp.errors.RequestError, match="cannot be streamed"):
        est.stream(method="hutchinson")
    by_input = cp.compile(CATALOGUE["softplus_energy"].build(), wrt=["x"], programs=(), backend="interpreter")
    with pytest.raises(cp.errors.RequestError, match="x has rows"):
        by_input.stream()
    mean = cp.compile(CATALOGUE["factorisation"].build(), programs=(), backend="interpreter")
    with pytest.raises(cp.errors.RequestError, match="total_rows"):
        mean.stream()


def test_fused_results_agree_with_the_plain_ones_and_say_what_they_are() -> None:
    plain, fused = (ENTRY.compile(programs=(), fused=f) for f in (False, True))
    a, b = (est.diagonal(exact=True, **ARRAYS) for est in (plain, fused))
    for name in a:
        np.testing.assert_allclose(b[name].value, a[name].value, rtol=1e-12, atol=1e-14)
        assert "fused" in b[name].backend and "fused" not in a[name].backend
    with pytest.raises(RequestError, match="fused=True is for target='cpu'"):
        ENTRY.compile(programs=(), fused=True, target="cuda")
