"""cpgen itself, through its public interface; and the reference answers that the peers are compared with."""

from __future__ import annotations

import numpy as np

import cpgen as cp
from benchmarks.peers.methods import BOTH, SAMPLES, Answer, Method, Methods, flat, one
from benchmarks.peers.workloads import Workload

EXACT_LIMIT = 10_000  # columns; more than this is not asked for


def methods(workload: Workload, real: str, threads: int, fused: bool = False) -> Methods:
    data, leaves = workload.data(real), workload.leaves
    model = workload.build()
    estimator = cp.compile(model, wrt=list(leaves), real=real, threads=threads, programs=(), fused=fused)
    wanted = set(workload.quantities)
    if "value" in wanted:
        yield Method("value", "value", lambda: estimator.value(**data), one)
    yield Method("gradient", "gradient", lambda: estimator.gradient(**data), lambda a: flat(leaves, a))
    if workload.single:
        for what in ("value", "gradient", "diagonal", "trace", "hessian"):
            if what not in (*wanted, "gradient"):
                continue
            names = (what,) if what in ("value", "trace") else leaves
            yield Method(what, "bound", estimator.bind(what, **data), lambda a, names=names: flat(names, a))
    if workload.single and "sample" in wanted and estimator.columns("diagonal") == 0:
        # no noise is needed, so that the bound exact answer is what a sample of it would be
        exact = estimator.bind("diagonal", **data)
        for label in ("sample", f"{SAMPLES} samples"):
            yield Method(label, "bound", exact, lambda a: flat(leaves, a), stochastic=True)
    if "hessian" in wanted:
        yield Method("hessian", "hessian", lambda: estimator.hessian(**data), lambda a: one(a.matrix()))
    values = {v: v for v in leaves}
    if "diagonal" in wanted:
        columns = estimator.columns("diagonal")
        if columns is not None and columns <= EXACT_LIMIT:
            yield Method(
                "diagonal",
                f"exact, {columns} columns" if columns else "exact, closed form",
                lambda: estimator.diagonal(exact=True, **data),
                lambda a: flat(leaves, {v: a[v].value for v in values}),
            )
    if "sample" in wanted:
        for label, count in (("sample", 1), (f"{SAMPLES} samples", SAMPLES)):
            yield Method(
                label,
                "curvature propagation",
                lambda count=count: estimator.diagonal(samples=count, exact=False, method="cp", **data),
                lambda a: flat(leaves, {v: a[v].value for v in values}),
                stochastic=True,
            )
        yield Method(
            BOTH,
            "curvature propagation",
            lambda: estimator.value_gradient_and_diagonal(samples=1, exact=False, **data),
            lambda a: np.concatenate([flat(leaves, a[1]), flat(leaves, {v: a[2][v].value for v in values})]),
            stochastic=True,
        )
    if "trace" in wanted:
        yield Method("trace", "exact", lambda: estimator.trace(exact=True, **data), lambda a: one(a.value))
    if "trace sample" in wanted:
        for label, count in (("trace sample", 1), (f"{SAMPLES} trace samples", SAMPLES)):
            yield Method(
                label,
                "curvature propagation",
                lambda count=count: estimator.trace(samples=count, exact=False, method="cp", **data),
                lambda a: one(a.value),
                stochastic=True,
            )


def references(workload: Workload, real: str, threads: int) -> dict[str, Answer]:
    """Products with the probe (what a Hutchinson sampler must return) and Hutchinson's error at 64 samples."""
    data, leaves = workload.data(real), workload.leaves
    estimator = cp.compile(workload.build(), wrt=list(leaves), real=real, threads=threads, programs=())
    probe = workload.probe(data)
    product = estimator.hvp(probe, **data)
    answers: dict[str, Answer] = {}
    if "sample" in workload.quantities:
        answers["sample"] = flat(leaves, {v: probe[v] * product[v] for v in leaves})
        answers[BOTH] = np.concatenate([flat(leaves, estimator.gradient(**data)), answers["sample"]])
        drawn = estimator.diagonal(samples=64, method="hutchinson_plain", exact=False, **data)
        answers["hutchinson"] = flat(leaves, {v: drawn[v].value for v in leaves})
        drawn = estimator.diagonal(samples=64, exact=False, method="cp", design="independent", **data)
        answers["curvature propagation"] = flat(leaves, {v: drawn[v].value for v in leaves})
    if "trace sample" in workload.quantities:
        answers["trace sample"] = (probe["x"] * product["x"]).sum(1).astype(np.float64)
    return answers
