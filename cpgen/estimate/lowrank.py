"""Trace and diagonal from products with the Hessian, for spectra with a few dominant eigenvalues.

Hutch++ (Meyer, Musco, Musco & Woodruff, SOSA 2021), XTrace and XDiag (Epperly, Tropp & Webber, SIAM J. Matrix Anal. Appl.
2024).  Each captures the range of a sketch exactly and samples the rest; all are unbiased, for the vectors that are
averaged are independent of the basis they are projected with.  Matrices are symmetric, in stacks: the Hessian of each
row, or one for all leaves without rows.  ``multiply(V)[b, :, j] = A[b] V[b, :, j]`` for ``V[b, elements, j]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.probes import direction_count
from cpgen.derive.programs import direction_names
from cpgen.derive.request import HVP
from cpgen.errors import RequestError
from cpgen.estimate.core import Core
from cpgen.estimate.products import hvp
from cpgen.estimate.results import Estimate
from cpgen.estimate.sampling import Sampling
from cpgen.ir.build import new_input
from cpgen.ir.nodes import COLUMNS
from cpgen.ir.noise import INDEPENDENT, noise_array

Array = NDArray[np.float64]
Multiply = Callable[[Array], Array]

OF_TRACE, OF_DIAGONAL = ("xtrace", "hutch++"), ("xdiag",)
LEAST = {"xtrace": 4, "xdiag": 4, "hutch++": 3}  # products
RANK = 1e-10  # relative to the largest: what counts as a direction of a sketch


def hutch_plus_plus(multiply: Multiply, sketch: Array, probes: Array) -> tuple[Array, Array]:
    """Trace and variance of each matrix of the stack: ``tr(Q'AQ)`` and a mean over what is off ``Q``.

    ``sketch`` and ``probes`` hold independent random signs.  The variance is that of the mean over probes, whose part
    alone is random for a given sketch; NaN for a single one.
    """
    q = _basis(multiply(sketch))
    captured = _inner(q, multiply(q)).sum(-1)
    off = probes - q @ (_t(q) @ probes)
    each = _inner(off, multiply(off))
    count = each.shape[-1]
    variance = each.var(-1, ddof=1) / count if count > 1 else np.full(captured.shape, np.nan)
    return captured + each.mean(-1), variance


def xtrace(multiply: Multiply, signs: Array) -> tuple[Array, Array]:
    """Trace and variance of each matrix: each vector measures what the basis of the others leaves out.

    The variance is the paper's estimate, from the spread of the parts.
    """
    y = multiply(signs)
    q = _basis(y)
    aq = multiply(q)
    inner = _t(q) @ aq
    total = np.trace(inner, axis1=-2, axis2=-1)
    parts = []
    for i, s in enumerate(_left_out(q, y)):
        off, a_off = signs[..., i : i + 1], y[..., i : i + 1]
        w = _t(q) @ off
        w = w - s @ (_t(s) @ w)
        off, a_off = off - q @ w, a_off - aq @ w
        parts.append(total - np.einsum("bks,bkl,bls->b", s, inner, s) + _inner(off, a_off)[..., 0])
    each = np.stack(parts)
    return each.mean(0), each.var(0, ddof=1) / len(each)


def xdiag(multiply: Multiply, signs: Array) -> Array:
    """The diagonal of each matrix, ``[b, elements]``; the literature has no error bar for it."""
    y = multiply(signs)
    q = _basis(y)
    aq = multiply(q)
    whole = (q * aq).sum(-1)
    total = np.zeros_like(whole)
    for i, s in enumerate(_left_out(q, y)):
        w = _t(q) @ y[..., i : i + 1]
        w = w - s @ (_t(s) @ w)
        rest = y[..., i] - (q @ w)[..., 0]
        total += whole - ((q @ s) * (aq @ s)).sum(-1) + signs[..., i] * rest
    return total / signs.shape[-1]


def _left_out(q: Array, y: Array) -> list[Array]:
    """For each column of ``y``: an orthonormal basis, in terms of ``q``, of what the others do not span.

    Where the others span all of ``q`` (as where ``y`` has not full rank) it is zero.
    """
    inner = _t(q) @ y
    found = []
    for i in range(y.shape[-1]):
        u = _basis(np.delete(inner, i, axis=-1))
        rest = np.eye(u.shape[-2]) - u @ _t(u)
        # the columns of q that are zero, where a matrix of the stack has less rank, belong to nobody
        rest = rest * (np.square(q).sum(-2) > 0.5)[:, :, None]
        found.append(_basis(rest, 0.5))
    return found


def _basis(y: Array, least: float = RANK) -> Array:
    """Orthonormal columns that span those of each ``y``; zero columns where a matrix of the stack has less rank."""
    u, sizes, _ = np.linalg.svd(y, full_matrices=False)
    largest = sizes[..., :1] if least == RANK else 1.0
    return np.where((sizes > least * largest)[..., None, :], u, 0.0)


def _t(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)


def _inner(a: Array, b: Array) -> Array:
    return np.einsum("bek,bek->bk", a, b)


def estimated(
    core: Core, method: str, sampling: Sampling, arrays: Mapping[str, object]
) -> dict[str, Estimate]:
    """The trace, or the diagonal by leaf, with ``sampling.samples`` products of the Hessian at most.

    Raises RequestError where that has no meaning: leaves of both kinds, too few samples, ``exact=True``, ``rtol``.
    """
    sampling.check()
    wrt = core.wrt
    if direction_count(wrt) is None:
        raise RequestError(f"method={method!r} is for inputs with rows or for parameters, not for both at once")
    if sampling.exact or sampling.rtol is not None:
        raise RequestError(f"method={method!r} knows neither exact=True nor rtol: take method='auto'")
    if sampling.samples < LEAST[method]:
        raise RequestError(f"method={method!r} needs at least {LEAST[method]} samples (products), not {sampling.samples}")
    loaded = core.loaded(HVP)
    data = core.arrays(loaded, arrays)
    stack = data.row_count if wrt[0].has_rows else 1
    sizes = [int(np.prod(v.element_shape, dtype=np.int64)) for v in wrt]
    ends = np.cumsum([0, *sizes])
    names = direction_names(core.graph, wrt)
    needed = {node.name for node in loaded.program.inputs}

    def multiply(v: Array) -> Array:
        result = np.empty_like(v)
        for j in range(v.shape[-1]):
            column = {}
            for k, leaf in enumerate(wrt):
                if names[leaf.name] in needed:
                    part = v[:, ends[k] : ends[k + 1], j]
                    shape = ((stack,) if leaf.has_rows else ()) + leaf.element_shape
                    column[names[leaf.name]] = np.ascontiguousarray(part.reshape(shape), core.real)
            outputs = hvp(core, loaded, data.with_arrays(column))
            for k, leaf in enumerate(wrt):
                result[:, ends[k] : ends[k + 1], j] = outputs[leaf.name].reshape(stack, -1)
        return result

    def signs(count: int, first: int = 0) -> Array:
        found = []
        for leaf in wrt:
            node = new_input(f"v_{leaf.name}", (COLUMNS, *leaf.shape), "noise")
            drawn = noise_array(
                node, loaded.program, sampling.seed, stack, count, INDEPENDENT, sampling.first_row, first
            )
            found.append(drawn.reshape(count, stack, -1))
        return np.moveaxis(np.concatenate(found, axis=-1), 0, -1)

    total, count = int(ends[-1]), int(sampling.samples)
    if method == "hutch++":
        third = min(count // 3, total)
        value, variance = hutch_plus_plus(multiply, signs(third), signs(count - 2 * third, third))
        used = count
    else:
        half = min(count // 2, total + 1)
        used = 2 * half
        if method == "xdiag":
            value = xdiag(multiply, signs(half))
            variance = np.full(value.shape, np.nan)
        else:
            value, variance = xtrace(multiply, signs(half))

    def made(name: str, part: Array, spread: Array, shape: tuple[int, ...]) -> Estimate:
        return Estimate(
            name=name,
            value=part.reshape(shape).astype(core.real),
            stderr=np.sqrt(spread).reshape(shape).astype(core.real),
            samples=used,
            exact=False,
            seed=sampling.seed,
            method=method,
            design="independent",
            backend=loaded.backend.label,
        )

    lead = (stack,) if wrt[0].has_rows and data.rows is not None else ()
    if method != "xdiag":
        return {"trace": made("trace", value, variance, lead)}
    parts = {v.name: slice(ends[k], ends[k + 1]) for k, v in enumerate(wrt)}
    return {
        v.name: made(v.name, value[:, parts[v.name]], variance[:, parts[v.name]], (*lead, *v.element_shape)) for v in wrt
    }
