"""PyTorch on the CPU: autograd as written, and torch.func under torch.compile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.peers.methods import BOTH, SAMPLES, Method, Methods, one
from benchmarks.peers.workloads import Workload

OPS = SimpleNamespace(
    sin=torch.sin,
    cos=torch.cos,
    tanh=torch.tanh,
    sqrt=torch.sqrt,
    einsum=torch.einsum,
    softplus=functional.softplus,
    softmax=torch.softmax,
    logsumexp=torch.logsumexp,
    conv=lambda x, w, padding: functional.conv2d(x, w, padding=padding),
    pool=lambda x: functional.avg_pool2d(x, 2),
    mean=lambda x, axis: x.mean(axis, keepdim=True),
)


def joined(parts: Any) -> Any:
    return one(torch.cat([p.detach().reshape(-1) for p in parts]))


def methods(workload: Workload, real: str, threads: int) -> Methods:
    torch.set_num_threads(threads)
    data = {name: torch.from_numpy(array) for name, array in workload.data(real).items()}
    names = workload.leaves
    leaves = tuple(data[v].clone().requires_grad_() for v in names)
    plain = tuple(data[v] for v in names)
    probe = tuple(torch.from_numpy(workload.probe(workload.data(real))[v]) for v in names)
    wanted = set(workload.quantities)

    def total(*leaves: Any) -> Any:
        rows = workload.rows(OPS, {**data, **dict(zip(names, leaves, strict=True))})
        return rows.mean() if workload.mean else rows.sum()

    if "value" in wanted:
        yield Method("value", "eager", lambda: total(*plain), lambda a: one(a.detach()))
    yield Method("gradient", "autograd", lambda: torch.autograd.grad(total(*leaves), leaves), joined)

    def double_backward() -> Any:
        gradient = torch.autograd.grad(total(*leaves), leaves, create_graph=True)
        return torch.autograd.grad(gradient, leaves, probe)

    def times_probe(products: Any) -> Any:
        return joined([v * p for v, p in zip(probe, products, strict=True)])

    def by_row(products: Any) -> Any:
        return one((probe[0] * products[0]).sum(1))

    quantity, answer = ("sample", times_probe) if "sample" in wanted else ("trace sample", by_row)
    sampled = bool(wanted & {"sample", "trace sample"})
    if sampled:
        yield Method(quantity, "Hutchinson, autograd double backward", double_backward, answer)
    if "sample" in wanted:

        def both() -> Any:
            gradient = torch.autograd.grad(total(*leaves), leaves, create_graph=True)
            return gradient, torch.autograd.grad(gradient, leaves, probe)

        def answer_both(found: Any) -> Any:
            return np.concatenate([joined(found[0]), times_probe(found[1])])

        yield Method(BOTH, "Hutchinson, autograd double backward", both, answer_both)

        def several() -> Any:
            gradient = torch.autograd.grad(total(*leaves), leaves, create_graph=True)
            sums = [torch.zeros_like(v) for v in plain]
            for _ in range(SAMPLES):
                signs = tuple(torch.randint(0, 2, v.shape).to(v.dtype) * 2 - 1 for v in plain)
                products = torch.autograd.grad(gradient, leaves, signs, retain_graph=True)
                for running, v, product in zip(sums, signs, products, strict=True):
                    running += v * product
            return [s / SAMPLES for s in sums]

        label = "Hutchinson, autograd double backward"
        yield Method(f"{SAMPLES} samples", label, several, joined, stochastic=True)
    if workload.single:
        return
    gradient = torch.func.grad(total, argnums=tuple(range(len(names))))
    compiled = torch.compile(gradient, dynamic=False)
    yield Method("gradient", "torch.func, torch.compile", lambda: compiled(*plain), joined)
    if sampled:

        def along(*leaves: Any) -> Any:
            return sum((g * v).sum() for g, v in zip(gradient(*leaves), probe, strict=True))

        product = torch.compile(torch.func.grad(along, argnums=tuple(range(len(names)))), dynamic=False)
        yield Method(quantity, "Hutchinson, torch.func, torch.compile", lambda: product(*plain), answer)
        if "sample" in wanted:

            def gradient_and_along(*leaves: Any) -> Any:
                found = gradient(*leaves)
                return sum((g * v).sum() for g, v in zip(found, probe, strict=True)), found

            pair = torch.func.grad(gradient_and_along, argnums=tuple(range(len(names))), has_aux=True)
            paired = torch.compile(pair, dynamic=False)

            def answer_pair(found: Any) -> Any:
                return np.concatenate([joined(found[1]), times_probe(found[0])])

            yield Method(BOTH, "Hutchinson, torch.func, torch.compile", lambda: paired(*plain), answer_pair)
