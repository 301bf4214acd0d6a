"""JAX, jit-compiled, and folx on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.methods import BOTH, SAMPLES, SLICE, Method, Methods, flat, one
from benchmarks.peers.workloads import Workload

jax.config.update("jax_enable_x64", True)

FULL_LIMIT = 10_000  # entries; a longer diagonal is timed on SLICE of its columns


def _conv(x: Any, w: Any, padding: int) -> Any:
    return jax.lax.conv_general_dilated(x, w, (1, 1), [(padding, padding)] * 2)


OPS = SimpleNamespace(
    sin=jnp.sin,
    cos=jnp.cos,
    tanh=jnp.tanh,
    sqrt=jnp.sqrt,
    einsum=jnp.einsum,
    softplus=jax.nn.softplus,
    softmax=jax.nn.softmax,
    logsumexp=jax.nn.logsumexp,
    conv=_conv,
    pool=lambda x: x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).mean((3, 5)),
    mean=lambda x, axis: x.mean(axis, keepdims=True),
)


def methods(workload: Workload, real: str, threads: int) -> Methods:
    data = {name: jnp.asarray(array) for name, array in workload.data(real).items()}
    leaves = {v: data[v] for v in workload.leaves}
    probe = {v: jnp.asarray(p) for v, p in workload.probe(workload.data(real)).items()}
    wanted = set(workload.quantities)

    def rows(leaves: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
        return workload.rows(OPS, {**data, **leaves})

    def total(leaves: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
        return rows(leaves, data).mean() if workload.mean else rows(leaves, data).sum()

    def method(
        quantity: str, label: str, f: Any, *arguments: Any, scale: float = 1.0, stochastic: bool = False
    ) -> Method:
        compiled = jax.jit(f)

        def answer(a: Any) -> Any:
            if isinstance(a, tuple):
                return np.concatenate([flat(workload.leaves, part) for part in a])
            return flat(workload.leaves, a) if isinstance(a, dict) else one(a)

        return Method(
            quantity, label, lambda: jax.block_until_ready(compiled(*arguments)), answer, scale, stochastic
        )

    gradient = jax.grad(total)
    if "value" in wanted:
        yield method("value", "jit", total, leaves, data)
    yield method("gradient", "jit", gradient, leaves, data)
    if "sample" in wanted:

        def sample(leaves: Any, data: Any, v: Any) -> Any:
            product = jax.jvp(lambda a: gradient(a, data), (leaves,), (v,))[1]
            return {name: v[name] * product[name] for name in v}

        yield method("sample", "Hutchinson, jit jvp(grad)", sample, leaves, data, probe)

        def both(leaves: Any, data: Any, v: Any) -> Any:
            found, product = jax.jvp(lambda a: gradient(a, data), (leaves,), (v,))
            return found, {name: v[name] * product[name] for name in v}

        yield method(BOTH, "Hutchinson, jit jvp(grad)", both, leaves, data, probe)

        def samples(leaves: Any, data: Any, key: Any) -> Any:
            _, product = jax.linearize(lambda a: gradient(a, data), leaves)

            def step(sums: Any, key: Any) -> Any:
                keys = dict(zip(leaves, jax.random.split(key, len(leaves)), strict=True))
                v = {n: jax.random.rademacher(keys[n], a.shape, a.dtype) for n, a in leaves.items()}
                return jax.tree.map(lambda s, a, b: s + a * b, sums, v, product(v)), None

            zero = jax.tree.map(jnp.zeros_like, leaves)
            sums, _ = jax.lax.scan(step, zero, jax.random.split(key, SAMPLES))
            return jax.tree.map(lambda s: s / SAMPLES, sums)

        yield method(
            f"{SAMPLES} samples",
            "Hutchinson, jit linearize, scan",
            samples,
            leaves,
            data,
            jax.random.key(0),
            stochastic=True,
        )
    if workload.by_row:
        yield from _by_row(workload, method, rows, leaves, data, probe)
    elif "diagonal" in wanted:
        sizes = [int(a.size) for a in leaves.values()]
        count = sum(sizes)
        columns = count if count <= FULL_LIMIT else SLICE

        together = 1 if "F1" in leaves else SLICE  # XLA runs a convolution for each filter apart very slowly

        def diagonal(leaves: Any, data: Any) -> Any:
            point, back = jax.flatten_util.ravel_pytree([leaves[v] for v in workload.leaves])

            def flat_gradient(p: Any) -> Any:
                g = gradient(dict(zip(workload.leaves, back(p), strict=True)), data)
                return jax.flatten_util.ravel_pytree([g[v] for v in workload.leaves])[0]

            _, product = jax.linearize(flat_gradient, point)

            def entry(i: Any) -> Any:
                return product(jnp.zeros_like(point).at[i].set(1.0))[i]

            return jax.lax.map(entry, jnp.arange(columns), batch_size=together)

        label = f"jit linearize, vmap by {together} over unit vectors"
        yield method("diagonal", label, diagonal, leaves, data, scale=count / columns)


def _by_row(workload: Workload, method: Any, rows: Any, leaves: Any, data: Any, probe: Any) -> Methods:
    name = workload.leaves[0]
    x, wanted = leaves[name], set(workload.quantities)

    def second(x: Any, v: Any, data: Any) -> Any:
        """v' H v of each row by two forward tangents."""

        def first(a: Any) -> Any:
            return jax.jvp(lambda b: rows({name: b}, data), (a,), (v,))[1]

        return jax.jvp(first, (x,), (v,))[1]

    def diagonal(x: Any, data: Any) -> Any:
        def column(i: Any) -> Any:
            return second(x, jnp.zeros_like(x).at[:, i].set(1.0), data)

        return jax.lax.map(column, jnp.arange(x.shape[1]), batch_size=min(20, x.shape[1])).T

    def products(x: Any, data: Any) -> Any:
        _, product = jax.linearize(jax.grad(lambda a: rows({name: a}, data).sum()), x)

        def column(i: Any) -> Any:
            return product(jnp.zeros_like(x).at[:, i].set(1.0))[:, i]

        return jax.lax.map(column, jnp.arange(x.shape[1]), batch_size=min(20, x.shape[1])).T

    if "hessian" in wanted:

        def one_row(row: Any) -> Any:
            return rows({name: row[None]}, data)[0]

        yield method("hessian", "jit vmap hessian", jax.vmap(jax.hessian(one_row)), x)
    if "diagonal" in wanted:
        yield method("diagonal", "jit, jvp of jvp", diagonal, x, data)
        yield method("diagonal", "jit linearize(grad)", products, x, data)
    if "trace sample" in wanted:
        yield method("trace sample", "Hutchinson, jit jvp of jvp", second, x, probe[name], data)
    if "trace" in wanted:
        yield method("trace", "jit, jvp of jvp", lambda x, data: diagonal(x, data).sum(1), x, data)
        yield method("trace", "jit linearize(grad)", lambda x, data: products(x, data).sum(1), x, data)
        try:
            import folx
        except ImportError:
            return
        laplacian = folx.forward_laplacian(lambda row: rows({name: row[None]}, data)[0])
        batch = 8 if len(x) <= 128 else len(x)
        yield method(
            "trace",
            "folx forward_laplacian, jit",
            lambda x: jax.lax.map(lambda row: laplacian(row).laplacian, x, batch_size=min(batch, len(x))),
            x,
        )
