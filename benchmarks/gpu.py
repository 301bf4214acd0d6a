"""cpgen on a GPU beside JAX and PyTorch on the same one: ``python benchmarks/gpu.py [--out results/gpu.csv]``.

Two workloads in float32: the weight diagonal of a tanh classifier 784-1024-1024-10 on 8,192 rows, and the Laplacian of a
softplus energy with two hidden layers of 1,024 on 4,096 points in 1,024 dimensions.  Everything lies on the device
before the clock starts, calls are interleaved, each is timed until the device is idle, and answers are compared first.
Peers that are not installed are left out and named.  For cpgen's programs the operations are given, and what share of the
device's measured rate (a large product in single precision, no tensor cores) they reach.  The time to an error of 1
percent is the time of one sample by the number of samples that the spread of 16 asks for; for the peers, whose samplers
are Hutchinson's, with the fastest of them.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cpgen as cp  # noqa: E402
from cpgen.errors import EnvironmentProblem  # noqa: E402
from cpgen.ir.noise import HADAMARD, IDENTITY  # noqa: E402

REPEATS = 11
Timed = Callable[[], None]


def classifier() -> cp.Model:
    m = cp.Model("classifier")
    n, i, h, k, c = m.axes("n i h k c", n=cp.ROWS, i=784, h=1024, k=1024, c=10)
    x, y = m.input("x", n, i), m.input("y", n, c)
    W1, b1 = m.param("W1", h, i), m.param("b1", h)
    W2, b2 = m.param("W2", k, h), m.param("b2", k)
    W3, b3 = m.param("W3", c, k), m.param("b3", c)
    z1 = m.define("z1", (n, h), sp.tanh(cp.sum(W1[h, i] * x[n, i], i) + b1[h]))
    z2 = m.define("z2", (n, k), sp.tanh(cp.sum(W2[k, h] * z1[n, h], h) + b2[k]))
    s = m.define("s", (n, c), cp.sum(W3[c, k] * z2[n, k], k) + b3[c])
    m.objective(cp.logsumexp(s[n, c], c) - cp.sum(y[n, c] * s[n, c], c), reduction="mean")
    return m


def energy(inputs: int = 1024, hidden: int = 1024) -> cp.Model:
    m = cp.Model("energy")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=inputs, h=hidden, k=hidden)
    x = m.input("x", n, i)
    W, b, V, c = m.param("W", h, i), m.param("b", h), m.param("V", k, h), m.param("c", k)
    z = m.define("z", (n, h), sp.log(1 + sp.exp(cp.sum(W[h, i] * x[n, i], i) + b[h])))
    s = m.define("s", (n, k), cp.sum(V[k, h] * z[n, h], h) + c[k])
    m.objective(cp.sum(sp.log(1 + sp.exp(s[n, k])), k) + cp.sum(x[n, i] ** 2, i) / 2)
    return m


def classifier_data(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def weights(out: int, into: int) -> np.ndarray:
        return rng.normal(0, into**-0.5, (out, into)).astype(np.float32)

    data = {"x": rng.uniform(0, 1, (rows, 784)).astype(np.float32)}
    data["y"] = np.eye(10, dtype=np.float32)[rng.integers(0, 10, rows)]
    data |= {"W1": weights(1024, 784), "W2": weights(1024, 1024), "W3": weights(10, 1024)}
    return data | {name: np.zeros(size, np.float32) for name, size in (("b1", 1024), ("b2", 1024), ("b3", 10))}


def energy_data(rows: int, size: int = 1024) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(size=(rows, size)), "b": np.zeros(size), "c": np.zeros(size)}
    data |= {name: rng.normal(0, size**-0.5, (size, size)) for name in ("W", "V")}
    return {name: value.astype(np.float32) for name, value in data.items()}


class Own:
    """cpgen's programs with everything on the device."""

    def __init__(self, model: cp.Model, wrt: list[str], data: dict[str, np.ndarray]) -> None:
        self.est = cp.compile(model, wrt=wrt, real="float32", target="cuda", programs=())
        self.data, self.rows = data, len(data["x"])

    def timed(self, key: str, columns: int, design: int) -> tuple[Timed, Callable[[], dict[str, np.ndarray]], Any]:
        """``(call, answer, context)``; the context holds the device memory and must stay open."""
        loaded = self.est.loaded(key)
        program = loaded.backend.program  # type: ignore[attr-defined]
        given, _ = self.est.arrays(loaded, self.data)
        sizes = {"rows": self.rows, "columns": columns}
        outputs = {
            name: np.zeros([e if isinstance(e, int) else sizes[e.value] for e in node.shape], np.float32)
            for name, node in loaded.program.outputs
        }
        scales = {"row_scale": 1 / self.rows, "column_scale": 1.0 if design == IDENTITY else 1 / max(columns, 1)}
        scales["variance_scale"] = 0.0 if columns < 2 or design == IDENTITY else 1 / (columns * (columns - 1))
        context = program.prepared(given, outputs, self.rows, columns, {"seed": 0, "design": design}, scales)
        launch, places = context.__enter__()

        def call() -> None:
            launch()
            program.device.wait()

        def answer() -> dict[str, np.ndarray]:
            call()
            for name, place in places.items():
                program.device.get(outputs[name], place)
            return outputs

        return call, answer, context


def torch_peers(data: dict[str, np.ndarray], what: str) -> dict[str, Timed]:
    import torch

    if not torch.cuda.is_available():
        raise ImportError("PyTorch has no GPU here")
    torch.backends.cuda.matmul.allow_tf32 = False
    t = {k: torch.tensor(v, device="cuda") for k, v in data.items()}

    def done(function: Callable[[], Any]) -> Timed:
        def call() -> None:
            function()
            torch.cuda.synchronize()

        return call

    if what == "diagonal":
        names = ["W1", "b1", "W2", "b2", "W3", "b3"]

        def loss(p: dict[str, Any]) -> Any:
            z = torch.tanh(t["x"] @ p["W1"].T + p["b1"])
            z = torch.tanh(z @ p["W2"].T + p["b2"])
            return torch.nn.functional.cross_entropy(z @ p["W3"].T + p["b3"], t["y"])

        p = {k: t[k] for k in names}
        gradient = torch.func.grad(loss)

        def sample() -> Any:
            v = {k: torch.randint(0, 2, w.shape, device="cuda") * 2.0 - 1 for k, w in p.items()}
            _, product = torch.func.jvp(gradient, (p,), (v,))
            return {k: v[k] * product[k] for k in names}

        return {
            "gradient: torch": done(lambda: gradient(p)),
            "gradient: torch.compile": done(_compiled(torch, lambda: gradient(p))),
            "sample: torch, Hutchinson": done(sample),
        }

    def one(x: Any) -> Any:
        z = torch.nn.functional.softplus(t["W"] @ x + t["b"])
        return torch.nn.functional.softplus(t["V"] @ z + t["c"]).sum() + (x * x).sum() / 2

    hvp = torch.func.vmap(lambda x, v: torch.func.jvp(torch.func.grad(one), (x,), (v,))[1])

    def probe() -> Any:
        v = torch.randint(0, 2, t["x"].shape, device="cuda") * 2.0 - 1
        return (v * hvp(t["x"], v)).sum(1)

    return {"sample: torch, Hutchinson": done(probe)}


def _compiled(torch: Any, function: Callable[[], Any]) -> Callable[[], Any]:
    return torch.compile(function)


def jax_peers(data: dict[str, np.ndarray], what: str) -> dict[str, Timed]:
    import jax
    import jax.numpy as jnp

    if jax.devices()[0].platform != "gpu":
        raise ImportError("JAX has no GPU here")
    d = {k: jnp.asarray(v) for k, v in data.items()}
    jax.config.update("jax_default_matmul_precision", "highest")

    def done(function: Callable[..., Any], *arguments: Any) -> Timed:
        compiled = jax.jit(function)
        return lambda: jax.block_until_ready(compiled(*arguments))

    key = jax.random.PRNGKey(0)
    if what == "diagonal":
        p = {k: d[k] for k in ("W1", "b1", "W2", "b2", "W3", "b3")}

        def loss(p: dict[str, Any]) -> Any:
            z = jnp.tanh(d["x"] @ p["W1"].T + p["b1"])
            z = jnp.tanh(z @ p["W2"].T + p["b2"])
            s = z @ p["W3"].T + p["b3"]
            return (jax.nn.logsumexp(s, axis=1) - (d["y"] * s).sum(1)).mean()

        def sample(p: dict[str, Any]) -> Any:
            keys = jax.random.split(key, len(p))
            v = {k: jax.random.rademacher(q, w.shape, w.dtype) for q, (k, w) in zip(keys, p.items(), strict=True)}
            return jax.tree.map(jnp.multiply, v, jax.jvp(jax.grad(loss), (p,), (v,))[1])

        return {"gradient: jax": done(jax.grad(loss), p), "sample: jax, Hutchinson": done(sample, p)}

    def one(x: Any) -> Any:
        z = jax.nn.softplus(d["W"] @ x + d["b"])
        return jax.nn.softplus(d["V"] @ z + d["c"]).sum() + (x * x).sum() / 2

    def probe(x: Any) -> Any:
        v = jax.random.rademacher(key, x.shape, x.dtype)
        return jax.vmap(lambda x, v: v @ jax.jvp(jax.grad(one), (x,), (v,))[1])(x, v)

    found = {"sample: jax, Hutchinson": done(probe, d["x"])}
    try:
        import folx
    except ImportError:
        return found
    laplacian = folx.forward_laplacian(one)
    found["exact: jax, folx"] = done(lambda x: jax.lax.map(lambda r: laplacian(r).laplacian, x, batch_size=32), d["x"])
    return found


def measure(calls: dict[str, Timed]) -> dict[str, tuple[float, float, float]]:
    """Median and quartiles of the seconds of each call, interleaved."""
    for call in calls.values():
        call()
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - before)
    return {name: tuple(np.percentile(s, [50, 25, 75])) for name, s in seconds.items()}  # type: ignore[misc]


def peers(data: dict[str, np.ndarray], what: str) -> dict[str, Timed]:
    found: dict[str, Timed] = {}
    for make in (torch_peers, jax_peers):
        try:
            found |= make(data, what)
        except ImportError as problem:
            print(f"left out: {make.__name__}: {problem}")
    return found


def ceiling() -> float | None:
    """Single-precision operations a second of a large product, tensor cores off."""
    try:
        import torch
    except ImportError:
        return None
    torch.backends.cuda.matmul.allow_tf32 = False
    a = torch.rand(8192, 8192, device="cuda")
    seconds = measure({"product": lambda: (a @ a, torch.cuda.synchronize())})["product"][0]  # type: ignore[dict-item]
    return 2 * 8192**3 / seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(ROOT / "benchmarks/results/gpu.csv"))
    options = parser.parse_args()
    lines = [["workload", "call", "median s", "quartile s", "quartile s", "operations", "share of ceiling"]]
    top = None
    plan = (
        ("diagonal", classifier(), ["W1", "b1", "W2", "b2", "W3", "b3"], classifier_data(8192)),
        ("laplacian", energy(), ["x"], energy_data(4096)),
    )
    for what, model, wrt, data in plan:
        try:
            own = Own(model, wrt, data)
            key = {"diagonal": "diagonal:cp", "laplacian": "trace:cp"}[what]
            made = {
                "gradient: cpgen": own.timed("gradient", 0, HADAMARD),
                "sample: cpgen": own.timed(key, 1, HADAMARD),
                "16 samples: cpgen": own.timed(key, 16, HADAMARD),
            }
            exact = own.est.columns(key)
            if exact is not None and exact <= 16:
                made[f"exact, {exact} columns: cpgen"] = own.timed(key.replace(":cp", ":units"), exact, IDENTITY)
        except EnvironmentProblem as problem:
            print(f"not run: {problem}")
            return 0
        top = top or ceiling()
        calls = {name: call for name, (call, _, _) in made.items()} | peers(data, what)
        operations = {
            "gradient: cpgen": _operations(own, "gradient", 0),
            "sample: cpgen": _operations(own, key, 1),
            "16 samples: cpgen": _operations(own, key, 16),
        }
        seconds = measure(calls)
        for name, (median, low, high) in seconds.items():
            count = operations.get(name)
            share = f"{count / median / top:.3f}" if count and top else ""
            lines.append([what, name, f"{median:.3e}", f"{low:.3e}", f"{high:.3e}", str(count or ""), share])
            print(*lines[-1], sep="\t", flush=True)
        for name, needed in to_one_percent(own, what).items():
            own_call = name == "cp"
            samples = [s[0] for n, s in seconds.items() if n.startswith("sample") and ("cpgen" in n) is own_call]
            if not samples:
                continue
            best = min(samples)
            lines.append([what, f"to 1 percent by {name}", f"{needed * best:.3e}", "", "", "", ""])
            print(*lines[-1], f"({needed:.0f} samples)", sep="\t", flush=True)
        for _, _, context in made.values():
            context.__exit__(None, None, None)
    with Path(options.out).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    return 0


def to_one_percent(own: Own, what: str) -> dict[str, float]:
    """Samples for a relative error of 1 percent, by the spread of 16 independent ones, by cpgen and by Hutchinson."""
    found = {}
    for method in ("cp", "hutchinson"):
        numbers = {"samples": 16, "seed": 2, "method": method, "design": "independent", "exact": False}
        if what == "diagonal":
            estimates = list(own.est.diagonal(**numbers, **own.data).values())  # type: ignore[arg-type]
        else:
            estimates = [own.est.trace(**numbers, **own.data)]  # type: ignore[arg-type]
        spread = sum(float(np.sum(np.square(e.stderr, dtype=np.float64))) for e in estimates) * 16
        size = sum(float(np.sum(np.square(e.value, dtype=np.float64))) for e in estimates)
        found[method] = max(spread / size / 0.01**2, 1.0)
    return found


def _operations(own: Own, key: str, columns: int) -> int:
    plan = own.est.loaded(key).backend.program.plan  # type: ignore[attr-defined]
    return int(plan.operations(own.rows, columns).total)


if __name__ == "__main__":
    sys.exit(main())
