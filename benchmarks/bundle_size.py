"""Bundles beside generated C of CasADi: sizes, compile time, workspace, time: ``python -m benchmarks.bundle_size``.

The functions and their data are those of benchmarks/peers, float64, one thread, one compiler and one set of flags.  The
network's weights and the classifier's rows are given at the call.  Both answers are compared before anything is timed;
medians of interleaved calls through C function pointers.  CasADi uses scalar graphs (SX), for the classifier matrix
graphs (MX).  Sources are counted without self-tests and examples.
"""

from __future__ import annotations

import csv
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import casadi as ca
import cffi
import numpy as np

import cpgen as cp
from benchmarks.peers.peer_casadi import _generate
from benchmarks.peers.workloads import WORKLOADS, Workload, arm_cost, rosenbrock_cost
from cpgen.native.compiler import FLAGS

RESULTS = Path(__file__).resolve().parent / "results"
CASES = (
    ("W1/1", "6-joint arm"),
    ("W2/100", "Rosenbrock, n = 100"),
    ("W4", "784-100-10 classifier"),
    ("W3/in/1", "16-32-32-1 network"),
)
QUANTITIES = ("gradient", "diagonal")
COMPILE = tuple(f for f in FLAGS if f != "-shared")
COLUMNS = ("source bytes", "object bytes", "compile s", "workspace bytes", "us a call")
Sizes = tuple[int, int, float]
Call = tuple[Callable[[], object], Callable[[], Any], int]


def build(source: Path, folder: Path) -> tuple[Path, Sizes]:
    """A library of ``source``; bytes of the text, of code and data in the object, seconds of compiling.

    The seconds are the median of three if short."""
    target, library = source.with_suffix(".o"), source.with_suffix(".so")
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            ["gcc", *COMPILE, "-w", f"-I{folder}", "-c", str(source), "-o", str(target)], check=True
        )
        seconds.append(time.perf_counter() - start)
        if seconds[0] > 2.0:
            break
    subprocess.run(["gcc", "-shared", str(target), "-o", str(library), "-lm"], check=True)
    text, data, *_ = subprocess.check_output(["size", str(target)], text=True).splitlines()[1].split()
    return library, (source.stat().st_size, int(text) + int(data), float(np.median(seconds)))


def ours(workload: Workload, quantity: str, data: dict[str, Any], folder: Path) -> tuple[Sizes, Call]:
    """Our bundle of one program: sizes, a call, its answer and its workspace."""
    model, leaves = workload.build(), list(workload.leaves)
    estimator = cp.compile(model, wrt=leaves, programs=(), threads=1)
    key = "diagonal:exact" if quantity == "diagonal" else quantity
    columns, program = estimator.columns(key) or 0, key.replace(":", "_")
    cp.bundle(estimator, folder, (key,), prefix="own")
    library, (_, code, seconds) = build(folder / "own.c", folder)
    used = [folder / "own.c", folder / "own.h", *folder.glob("own_rt_*.h")]
    sizes = sum(file.stat().st_size for file in used), code, seconds
    text = re.sub(
        r"/\*.*?\*/|^#[^\n]*|extern \"C\" \{", "", (folder / "own.h").read_text(), flags=re.S | re.M
    )
    ffi = cffi.FFI()
    ffi.cdef(text[: text.rindex(";") + 1])
    lib = ffi.dlopen(str(library))
    args = ffi.new(f"own_{program}_args *")
    rows = len(data["x" if "x" in data else "q"])
    kept: dict[str, Any] = {}
    for name, _ in ffi.typeof(args).item.fields:
        if name in data:
            setattr(args, name, ffi.from_buffer("double[]", data[name]))
        elif name == "row_scale":
            args.row_scale = 1.0 / rows  # the mean
        elif name == "column_scale":
            args.column_scale = 1.0  # unit columns
        elif name.startswith("out_") and name != "out_value":
            leaf = next(v for v in leaves if name.endswith(f"_{v}"))
            kept[leaf] = np.zeros(data[leaf].shape)
            setattr(args, name, ffi.from_buffer("double[]", kept[leaf]))
    args.n_rows, args.columns, args.threads, args.design = rows, columns, 1, 2 if columns else 0
    size = getattr(lib, f"own_{program}_workspace_bytes")(rows, columns, 1)
    work = np.zeros(size + 64, np.uint8)
    start = -work.ctypes.data % 64
    pointer, run = ffi.from_buffer("char[]", work[start:]), getattr(lib, f"own_{program}_run")

    def call() -> None:
        status = run(args, pointer, size)
        if status:
            raise RuntimeError(f"status {status}")

    return sizes, (call, lambda: np.concatenate([kept[v].ravel() for v in leaves]), size)


def casadi(workload: Workload, quantity: str, data: dict[str, Any], folder: Path) -> tuple[Sizes, Call]:
    """CasADi's generated C of the same function, arguments in the same order of elements."""
    kind = ca.MX if workload.name == "W4" else ca.SX
    names = [*workload.leaves, *(n for n in data if n not in workload.leaves)]
    # arrays of rows are columns first in CasADi: symbols hold the transposed
    shapes = {n: data[n].shape[::-1] if data[n].ndim == 2 else (data[n].size, 1) for n in names}
    symbols = {n: kind.sym(n, *shapes[n]) for n in names}
    leaves = [symbols[n] for n in workload.leaves]
    if workload.name == "W1/1":
        cost = arm_cost([symbols["q"][k] for k in range(6)], ca.sin, ca.cos)
    elif workload.name == "W2/100":
        cost = rosenbrock_cost(symbols["x"], 100)
    else:
        z, layers = symbols["x"], sum(n.startswith("W") for n in names)
        for k in range(1, layers + 1):
            z = ca.mtimes(symbols[f"W{k}"].T, z) + ca.repmat(symbols[f"b{k}"], 1, z.shape[1])
            z = ca.tanh(z) if k < layers else z
        if workload.name == "W4":
            cost = (ca.sum2(ca.log(ca.sum1(ca.exp(z)))) - ca.sum2(ca.sum1(symbols["y"] * z))) / z.shape[1]
        else:
            cost = ca.sum2(z)
    if quantity == "gradient":
        results = [ca.densify(ca.gradient(cost, leaf)) for leaf in leaves]
    else:
        results = [ca.densify(ca.diag(ca.hessian(cost, leaves[0])[0]))]
    function = ca.Function("f", list(symbols.values()), results)
    (folder / "peer.c").write_text(_generate(function))
    library, sizes = build(folder / "peer.c", folder)
    ffi = cffi.FFI()
    ffi.cdef("int f(const double **, double **, long long *, double *, int);")
    lib = ffi.dlopen(str(library))
    outputs = [np.zeros(r.numel()) for r in results]
    owners = [ffi.from_buffer("double[]", a) for a in (*(data[n] for n in names), *outputs)]
    argument = ffi.new("double *[]", max(function.sz_arg(), len(names)))
    result = ffi.new("double *[]", max(function.sz_res(), len(outputs)))
    for k in range(len(names)):
        argument[k] = owners[k]
    for k in range(len(outputs)):
        result[k] = owners[len(names) + k]
    integers, work = ffi.new("long long[]", function.sz_iw() + 1), ffi.new("double[]", function.sz_w() + 1)
    size = 8 * (function.sz_w() + function.sz_iw() + function.sz_arg() + function.sz_res())
    constant = ffi.cast("const double **", argument)

    def call(owners: Any = (owners, argument)) -> None:
        lib.f(constant, result, integers, work, 0)

    return sizes, (call, lambda: np.concatenate(outputs), size)


def medians(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call of each, interleaved."""
    start = time.perf_counter()
    first(), second()
    repeat = max(1, int(0.004 / (time.perf_counter() - start)))
    found: tuple[list[float], list[float]] = [], []
    for _ in range(25):
        for call, seconds in zip((first, second), found, strict=True):
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            seconds.append((time.perf_counter() - start) / repeat)
    return float(np.median(found[0])), float(np.median(found[1]))


def write(rows: list[list[str]]) -> None:
    """The table of ratios and numbers so far."""
    head = ["function", "quantity", *(f"{c}, CasADi over ours" for c in COLUMNS)]
    head += [f"{c}, {who}" for who in ("ours", f"CasADi {ca.__version__}") for c in COLUMNS]
    with open(RESULTS / "bundle_size.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *rows])
    lines = ["| " + " | ".join(r[:7]) + " |" for r in (head, ["---"] * 7, *rows)]
    (RESULTS / "bundle_size.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Print the tables and write them to benchmarks/results."""
    rows: list[list[str]] = []
    for name, label in CASES:
        workload = WORKLOADS[name]
        data = workload.data("float64")
        for quantity in QUANTITIES:
            if name == "W4" and quantity == "diagonal":
                rows.append([label, quantity, *["not feasible with CasADi: 79,510 parameters"], *[""] * 14])
                continue
            with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
                own_sizes, (own, own_answer, own_work) = ours(workload, quantity, data, Path(one, "own"))
                peer_sizes, (peer, peer_answer, peer_work) = casadi(workload, quantity, data, Path(two))
                own(), peer()
                np.testing.assert_allclose(own_answer(), peer_answer(), rtol=1e-9, atol=1e-9)
                times = medians(own, peer)
            left, right = (*own_sizes, own_work, times[0] * 1e6), (*peer_sizes, peer_work, times[1] * 1e6)
            ratios = [f"{b / a:.2f}" if a else "-" for a, b in zip(left, right, strict=True)]
            numbers = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in (*left, *right)]
            rows.append([label, quantity, *ratios, *numbers])
            print(" | ".join(rows[-1]), flush=True)
            write(rows)
    print((RESULTS / "bundle_size.md").read_text(), end="")


if __name__ == "__main__":
    main()
