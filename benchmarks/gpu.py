"""cpgen on a GPU beside JAX and PyTorch on the same one: ``python benchmarks/gpu.py [--out gpu.csv] [--quick]``.

Two workloads in float32: the weight diagonal of a tanh classifier 784-1024-1024-10 on 8,192 rows, and the Laplacian of a
softplus energy with two hidden layers of 1,024 on 4,096 points in 1,024 dimensions.  Everything lies on the device
before the clock starts, calls are interleaved, each is timed until the device is idle.  Peers that are not installed are
left out and named.  Four sections are written:

* calls: median and quartiles;
* kernels: each kernel of one call by CUDA events, with its share of the arithmetic and of the bandwidth ceiling.  The
  ceilings follow from clock rates and widths that the driver states; arithmetic counts one operation a lane and clock,
  as nothing is fused.  Bytes are those that a launch must move if it reads and writes each array once;
* error: the time to an error of 1 percent.  For samplers the time of one sample by the number of samples that the spread
  of 16 asks for, and by one sample where that is less; an exact answer counts as it is;
* targets: what was wanted, what was found.

``--quick`` takes small extents, to see that everything runs.  Where there is no GPU it says so and writes nothing.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import importlib.metadata
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cpgen as cp  # noqa: E402
from cpgen.errors import EnvironmentProblem  # noqa: E402
from cpgen.ir.call import Call  # noqa: E402
from cpgen.ir.nodes import COLUMNS, ROWS, Map, Node  # noqa: E402
from cpgen.ir.noise import HADAMARD, IDENTITY  # noqa: E402
from cpgen.loops.plan import Plan, Segment, Stage  # noqa: E402
from cpgen.native import cuda  # noqa: E402

REPEATS = 11
WORKLOADS = ("diagonal", "laplacian")
LANES = {(8, 0): 64}  # of a multiprocessor in single precision; 128 elsewhere
HEADER = ["section", "workload", "what", "seconds", "quartile", "quartile", "operations"]
HEADER += ["of arithmetic", "of bandwidth", "note"]
Timed = Callable[[], None]


@dataclass(frozen=True)
class Sizes:
    """Extents of both workloads."""

    rows: int = 8192
    pixels: int = 784
    width: int = 1024
    points: int = 4096
    dimensions: int = 1024


QUICK = Sizes(48, 70, 66, 40, 65)


def classifier(pixels: int = 784, width: int = 1024) -> cp.Model:
    m = cp.Model("classifier")
    n, i, h, k, c = m.axes("n i h k c", n=cp.ROWS, i=pixels, h=width, k=width, c=10)
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


def classifier_data(rows: int, pixels: int = 784, width: int = 1024) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def weights(out: int, into: int) -> np.ndarray:
        return rng.normal(0, into**-0.5, (out, into)).astype(np.float32)

    data = {"x": rng.uniform(0, 1, (rows, pixels)).astype(np.float32)}
    data["y"] = np.eye(10, dtype=np.float32)[rng.integers(0, 10, rows)]
    data |= {"W1": weights(width, pixels), "W2": weights(width, width), "W3": weights(10, width)}
    return data | {name: np.zeros(size, np.float32) for name, size in (("b1", width), ("b2", width), ("b3", 10))}


def energy_data(rows: int, size: int = 1024) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(size=(rows, size)), "b": np.zeros(size), "c": np.zeros(size)}
    data |= {name: rng.normal(0, size**-0.5, (size, size)) for name in ("W", "V")}
    return {name: value.astype(np.float32) for name, value in data.items()}


@dataclass(frozen=True)
class Prepared:
    """A call with everything on the device, and the facts that a table wants."""

    call: Timed
    plan: Plan
    rows: int
    columns: int


class Own:
    """cpgen's programs of one model with everything on the device; a context manager, which holds the memory."""

    def __init__(self, model: cp.Model, wrt: list[str], data: dict[str, np.ndarray], programs: tuple[str, ...]) -> None:
        self.est = cp.compile(model, wrt=wrt, real="float32", target="cuda", programs=programs)
        self.data, self.rows, self.programs = data, len(data["x"]), programs
        self._held = ExitStack()

    def __enter__(self) -> Own:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def timed(self, key: str, columns: int, design: int) -> Prepared:
        """One program with ``columns`` of a design, ready to be called."""
        program = self.est.loaded(key).backend.program  # type: ignore[attr-defined]
        launch = self._held.enter_context(self._launch(program, key, columns, design))

        def call() -> None:
            launch()
            program.device.wait()

        return Prepared(call, program.plan, self.rows, columns)

    @cached_property
    def _timing(self) -> cuda.CudaModule:
        """The programs once more, with events around every launch."""
        nvcc = cuda.find_nvcc()
        timing = replace(nvcc, flags=(*nvcc.flags, "-include", str(ROOT / "benchmarks" / "gpu_times.cuh")))
        programs = [self.est.derive(key).program for key in self.programs]
        return cuda.build_cuda(self.est.graph.name, programs, "float32", timing)

    @contextmanager
    def _launch(self, program: cuda.CudaProgram, key: str, columns: int, design: int) -> Iterator[Timed]:
        given, _ = self.est.core.arrays(self.est.loaded(key), self.data)
        scales = {"row_scale": 1 / self.rows, "column_scale": 1.0 if design == IDENTITY else 1 / max(columns, 1)}
        scales["variance_scale"] = 0.0 if columns < 2 or design == IDENTITY else 1 / (columns * (columns - 1))
        spread = scales["variance_scale"] > 0  # as the estimator's methods do, leave out variances that nobody asks for
        call = Call(self.rows, columns, design=design, **scales)
        outputs = {n: a for n, a in program.outputs(call).items() if spread or not n.startswith("var_")}
        with program.prepared(given, outputs, call) as (launch, _):
            yield launch

    def kernels(self, key: str, columns: int, design: int) -> list[tuple[str, float, tuple[Stage, ...], Plan]]:
        """Kernels of one call in their order: name, seconds of all its launches, the stages it computes, the plan."""
        module = self._timing
        program = module[self.est.derive(key).program.name]
        text, times = ctypes.create_string_buffer(1 << 20), ctypes.CDLL(str(module.path)).cpgen_times
        times.argtypes = [ctypes.c_char_p, ctypes.c_int64]
        best: dict[str, float] = {}
        with self._launch(program, key, columns, design) as launch:
            for _ in range(3):
                launch()
                program.device.wait()
                if times(text, len(text)) != 0:
                    raise RuntimeError("more launches than the list of their times has room for")
                here: dict[str, float] = {}
                for line in text.value.decode().splitlines():
                    name, milliseconds = line.split()
                    here[name] = here.get(name, 0.0) + 1e-3 * float(milliseconds)
                best = {name: min(best.get(name, seconds), seconds) for name, seconds in here.items()}
        view = next(v for v in module.files.programs if v.plan is program.plan)
        stages, short = stages_of(view), {name: name.removeprefix(f"{view.name}_") for name in best}
        return [(short[name], s, stages.get(short[name], ()), program.plan) for name, s in best.items()]


def stages_of(view: Any) -> dict[str, tuple[Stage, ...]]:
    """The stages that each kernel of a program computes, by its name without the program's."""
    plan: Plan = view.plan
    found = {f"stage_{s.number}": (s,) for s in plan.stages}
    row = [s for segment in plan.segments for s in segment.stages]
    found["tiles"] = tuple(row)
    found["multiply"] = tuple(s for s in row if any(p.stage == s.number for p in view.products))
    for segment, steps in zip(plan.segments, view.spread, strict=False):
        left = list(segment.stages)
        for step in steps.steps:
            count = 1 if step.product else len(step.calls)
            found[f"tiles_{step.number}"], left = tuple(left[:count]), left[count:]
    return found


def work(plan: Plan, stages: tuple[Stage, ...], rows: int, columns: int) -> tuple[int, int]:
    """Operations of some stages, and the bytes that they must move: each array in global memory once."""
    part = replace(plan, setup=(), segments=(Segment(False, stages),), accumulate=(), finish=())
    sizes = {ROWS: rows, COLUMNS: columns}
    apart = bool(plan.schedule.products)  # the values of rows lie in global memory
    moved: dict[tuple[int, str], Node] = {}
    for stage in stages:
        for node in stage.nodes:
            if stage.kind in ("load", "keep", "store", "copy"):
                moved[id(node), stage.kind] = node
            value = plan.value(node)
            if apart or stage.phase != "row" or not node.has_rows:
                if value.work is not None or value.direct or value.tile is not None:
                    moved[id(node), "value"] = node
            for access in node.args if isinstance(node, Map) else ():
                if apart or stage.phase != "row" or not access.node.has_rows:
                    moved[id(access.node), "value"] = access.node
    count = 0
    for node in moved.values():
        size = 1
        for extent in node.shape:
            size *= extent if isinstance(extent, int) else sizes[extent]
        count += size
    return part.operations(rows, columns).total, 4 * count


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
            "sample: torch.compile, Hutchinson": done(_compiled(torch, sample)),
        }

    def one(x: Any) -> Any:
        z = torch.nn.functional.softplus(t["W"] @ x + t["b"])
        return torch.nn.functional.softplus(t["V"] @ z + t["c"]).sum() + (x * x).sum() / 2

    hvp = torch.func.vmap(lambda x, v: torch.func.jvp(torch.func.grad(one), (x,), (v,))[1])

    def probe() -> Any:
        v = torch.randint(0, 2, t["x"].shape, device="cuda") * 2.0 - 1
        return (v * hvp(t["x"], v)).sum(1)

    def by_hvp() -> Any:
        """Every unit direction, 8 at a time."""
        total = torch.zeros(len(t["x"]), device="cuda")
        for units in torch.eye(t["x"].shape[1], device="cuda").split(8):
            products = torch.func.vmap(lambda e: hvp(t["x"], e.expand_as(t["x"])) @ e)(units)
            total += products.sum(0)
        return total

    def forward() -> Any:
        """The forward Laplacian by hand, 64 points at a time: values, Jacobians and Laplacians of each layer."""
        found = []
        for x in t["x"].split(64):
            a = x @ t["W"].T + t["b"]
            first, second = torch.sigmoid(a), torch.sigmoid(a) * (1 - torch.sigmoid(a))
            s = torch.nn.functional.softplus(a) @ t["V"].T + t["c"]
            jacobian = t["V"] @ (first[:, :, None] * t["W"])
            laplacian = (second * (t["W"] ** 2).sum(1)) @ t["V"].T
            p = torch.sigmoid(s)
            found.append((p * (1 - p) * (jacobian**2).sum(2) + p * laplacian).sum(1) + x.shape[1])
        return torch.cat(found)

    return {
        "sample: torch, Hutchinson": done(probe),
        "sample: torch.compile, Hutchinson": done(_compiled(torch, probe)),
        "exact: torch, vmap of hvp": done(by_hvp),
        "exact: torch, forward Laplacian by hand": done(forward),
    }


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

    def by_hvp(x: Any) -> Any:
        """Every unit direction of a point at once, 8 points at a time."""
        units = jnp.eye(x.shape[1], dtype=x.dtype)

        def point(r: Any) -> Any:
            return jax.vmap(lambda e: e @ jax.jvp(jax.grad(one), (r,), (e,))[1])(units).sum()

        return jax.lax.map(point, x, batch_size=8)

    found = {"sample: jax, Hutchinson": done(probe, d["x"]), "exact: jax, vmap of hvp": done(by_hvp, d["x"])}
    try:
        import folx
    except ImportError:
        return found
    laplacian = folx.forward_laplacian(one)
    found["exact: jax, folx"] = done(lambda x: jax.lax.map(lambda r: laplacian(r).laplacian, x, batch_size=32), d["x"])
    return found


def measure(calls: dict[str, Timed]) -> dict[str, tuple[float, float, float]]:
    """Median and quartiles of the seconds of each call, interleaved."""
    for name in list(calls):
        try:
            calls[name]()
            calls[name]()
        except Exception as problem:  # a peer without memory for it, or that cannot compile it
            if "cpgen" in name:
                raise
            print(f"left out: {name}: {type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}")
            del calls[name]
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


def ceilings(about: cuda.About) -> tuple[float, float]:
    """Operations and bytes a second that the device has at most; 0 where the driver does not say."""
    lanes = LANES.get((about.major, about.minor), 128)
    return 1e3 * about.clock_khz * about.multiprocessors * lanes, 2e3 * about.memory_khz * about.bus_bits / 8


def versions() -> str:
    """The peers that are installed."""
    names = ("jax", "torch", "folx")
    found = [f"{n} {importlib.metadata.version(n)}" for n in names if importlib.util.find_spec(n)]
    return ", ".join(found) or "no peers installed"


def run(sizes: Sizes) -> list[list[str]]:
    """All sections of WORKLOADS as lines of the table.  Raises EnvironmentProblem without nvcc or GPU."""
    plan = (
        (
            "diagonal",
            classifier(sizes.pixels, sizes.width),
            ["W1", "b1", "W2", "b2", "W3", "b3"],
            classifier_data(sizes.rows, sizes.pixels, sizes.width),
        ),
        ("laplacian", energy(sizes.dimensions, sizes.dimensions), ["x"], energy_data(sizes.points, sizes.dimensions)),
    )
    lines: list[list[str]] = []

    def put(section: str, workload: str, what: str, *rest: object) -> None:
        lines.append([section, workload, what, *(str(r) for r in rest)])
        lines[-1] += [""] * (len(HEADER) - len(lines[-1]))
        print(*lines[-1], sep="\t", flush=True)

    for what, model, wrt, data in plan:
        if what not in WORKLOADS:
            continue
        key = {"diagonal": "diagonal:cp", "laplacian": "trace:cp"}[what]
        with Own(model, wrt, data, ("gradient", key)) as own:
            exact = own.est.columns(key)
            asked = {
                "gradient: cpgen": ("gradient", 0, HADAMARD),
                "sample: cpgen": (key, 1, HADAMARD),
                "16 samples: cpgen": (key, 16, HADAMARD),
            }
            if exact is not None:
                asked[f"exact: cpgen, {exact} columns"] = (key.replace(":cp", ":units"), exact, IDENTITY)
            made = {name: own.timed(*request) for name, request in asked.items()}
            if not lines:
                about = own.est.loaded("gradient").backend.program.device.about()  # type: ignore[attr-defined]
                arithmetic, bandwidth = ceilings(about)
                capability = f"compute capability {about.major}.{about.minor}"
                name = f"{about.name}, {about.multiprocessors} multiprocessors, {capability}"
                note = f"{arithmetic:.3e} operations/s, {bandwidth:.3e} bytes/s; {versions()}"
                put("hardware", "", name, "", "", "", "", "", "", note)
            calls = {name: p.call for name, p in made.items()} | peers(data, what)
            seconds = measure(calls)
            for name, (median, low, high) in seconds.items():
                count = made[name].plan.operations(own.rows, made[name].columns).total if name in made else 0
                share = f"{count / median / arithmetic:.3f}" if count and arithmetic else ""
                put("calls", what, name, f"{median:.3e}", f"{low:.3e}", f"{high:.3e}", count or "", share)
            for name in ("gradient: cpgen", "sample: cpgen", "16 samples: cpgen"):
                request = asked[name]
                for kernel, spent, stages, made_plan in own.kernels(*request):
                    count, moved = work(made_plan, stages, own.rows, request[1])
                    shares = [
                        f"{amount / spent / most:.3f}" if most and spent else ""
                        for amount, most in ((count, arithmetic), (moved, bandwidth))
                    ]
                    put("kernels", what, f"{name}: {kernel}", f"{spent:.3e}", "", "", count, *shares)
            best = time_to_one_percent(own, what, {n: s[0] for n, s in seconds.items()})
            for name, (spent, note) in best.items():
                put("error", what, name, f"{spent:.3e}", "", "", "", "", "", note)
            medians = {n: s[0] for n, s in seconds.items()}
            for target, wanted, found in targets(what, medians, {n: s for n, (s, _) in best.items()}):
                verdict = "not judged: no peer" if found is None else "met" if wanted(found) else "missed"
                put("targets", what, target, "" if found is None else f"{found:.3f}", "", "", "", "", "", verdict)
    return lines


def targets(
    what: str, seconds: Mapping[str, float], to_error: Mapping[str, float]
) -> list[tuple[str, Callable[[float], bool], float | None]]:
    """What was wanted of a workload: text, test, and the ratio found (None without a peer)."""
    if what == "diagonal":
        samples = [s for n, s in seconds.items() if n.startswith("sample") and "cpgen" not in n]
        own = seconds["sample: cpgen"]
        return [
            ("one sample / own gradient, at most 1.0", lambda r: r <= 1.0, own / seconds["gradient: cpgen"]),
            ("one sample / best peer's sample, at most 0.5", lambda r: r <= 0.5, own / min(samples) if samples else None),
        ]
    theirs = [s for n, s in to_error.items() if "cpgen" not in n]
    mine = min(s for n, s in to_error.items() if "cpgen" in n)
    ratio = min(theirs) / mine if theirs else None
    return [("best peer / own time to 1 percent, at least 5", lambda r: r >= 5, ratio)]


def time_to_one_percent(own: Own, what: str, seconds: Mapping[str, float]) -> dict[str, tuple[float, str]]:
    """Seconds to a relative error of 1 percent and how, for each sampler and each exact call."""
    needed = {method: samples_for_one_percent(own, what, method) for method in ("cp", "hutchinson_plain")}
    found = {}
    for name, spent in seconds.items():
        if name.startswith("sample"):
            count = needed["cp" if "cpgen" in name else "hutchinson_plain"]
            found[name] = (spent * count, f"{count:.0f} samples")
        elif name.startswith("exact"):
            found[name] = (spent, "exact")
    return found


def samples_for_one_percent(own: Own, what: str, method: str) -> float:
    """Samples for a relative error of 1 percent, by the spread of 16 independent ones."""
    numbers = {"samples": 16, "seed": 2, "method": method, "design": "independent", "exact": False}
    if what == "diagonal":
        estimates = list(own.est.diagonal(**numbers, **own.data).values())  # type: ignore[arg-type]
    else:
        estimates = [own.est.trace(**numbers, **own.data)]  # type: ignore[arg-type]
    spread = sum(float(np.sum(np.square(e.stderr, dtype=np.float64))) for e in estimates) * 16
    size = sum(float(np.sum(np.square(e.value, dtype=np.float64))) for e in estimates)
    return max(spread / size / 0.01**2, 1.0)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(ROOT / "benchmarks/results/gpu.csv"))
    parser.add_argument("--quick", action="store_true", help="small extents, to see that everything runs")
    options = parser.parse_args(arguments)
    try:
        lines = run(QUICK if options.quick else Sizes())
    except EnvironmentProblem as problem:
        print(f"NOT RUN, nothing was measured: {problem}")
        return 0
    with Path(options.out).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *lines])
    print(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
