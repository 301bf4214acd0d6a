"""BackPACK's exact diagonal and curvlinops' XDiag, for the networks that are a torch.nn.Sequential."""

from __future__ import annotations

from typing import Any

import torch
from backpack import backpack, extend
from backpack.extensions import DiagHessian
from curvlinops import HessianLinearOperator, xdiag
from torch import nn

from benchmarks.peers.methods import Method, Methods, one
from benchmarks.peers.workloads import Workload

XDIAG = 100
FEW_ROWS = 1  # of W6: all 32 rows need more than 20 GB and minutes


def network(workload: Workload, data: dict[str, Any]) -> nn.Sequential:
    """The workload's network with the drawn weights in it."""
    weights = list(workload.leaves)
    layers: list[nn.Module] = []
    for w, b in zip(weights[::2], weights[1::2], strict=True):
        if w == "F1":
            layers += [nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)]
        elif w == "F2":
            layers += [nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()]
        else:
            layers += [nn.Linear(data[w].reshape(len(data[w]), -1).shape[1], len(data[w])), nn.Tanh()]
        layer = next(m for m in reversed(layers) if isinstance(m, (nn.Conv2d, nn.Linear)))
        layer.weight.data = data[w].reshape(layer.weight.shape).clone()
        layer.bias.data = data[b].clone()
    return nn.Sequential(*layers[:-1])


def methods(workload: Workload, real: str, threads: int) -> Methods:
    if workload.by_row or workload.name == "W7":
        return
    torch.set_num_threads(threads)
    torch.set_default_dtype(getattr(torch, real))  # BackPACK makes unit vectors of the default
    data = {name: torch.from_numpy(array) for name, array in workload.data(real).items()}
    squared = "par" in workload.name
    rows = FEW_ROWS if workload.name == "W6" else len(data["x"])
    model = extend(network(workload, data).to(data["x"].dtype))
    loss = extend(nn.MSELoss() if squared else nn.CrossEntropyLoss())
    target = data["y"] if squared else data["y"].argmax(1)
    factor = 0.5 if squared else 1.0

    def exact() -> Any:
        model.zero_grad()
        with backpack(DiagHessian()):
            loss(model(data["x"][:rows]), target[:rows]).backward()
        return [p.diag_h for p in model.parameters()]

    def joined(parts: Any) -> Any:
        return factor * one(torch.cat([p.detach().reshape(-1) for p in parts]))

    whole = len(data["x"])
    yield Method(
        "diagonal",
        "BackPACK DiagHessian (exact)" + ("" if rows == whole else f", {rows} row"),
        exact,
        joined if rows == whole else lambda parts: None,
        scale=whole / rows,
    )
    if workload.name in ("W3/par/1024", "W4", "W8"):
        free = network(workload, data).to(data["x"].dtype)
        pieces = [p for p in free.parameters() if p.requires_grad]
        plain = nn.MSELoss() if squared else nn.CrossEntropyLoss()
        operator = HessianLinearOperator(
            free, plain, pieces, [(data["x"], target)], check_deterministic=False
        )
        yield Method(
            "xdiag",
            f"curvlinops XDiag, {XDIAG} products",
            lambda: xdiag(operator, XDIAG),
            lambda a: factor * one(a.detach() if hasattr(a, "detach") else a),
            stochastic=True,
        )
