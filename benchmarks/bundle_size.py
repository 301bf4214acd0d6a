"""Bundles beside generated C of CasADi: sizes, compile time, workspace, time: ``python -m benchmarks.bundle_size``.

The functions and their data are those of benchmarks/peers, float64, one thread, one compiler and one set of flags.  The
network's weights and the classifier's rows are given at the call.  Both answers are compared before anything is timed;
medians of 15 interleaved loops in C.  CasADi uses scalar graphs (SX), for the classifier matrix graphs (MX).  Sources are
counted without self-tests and examples.  Objects hold our built-in mathematics, not the C library's that CasADi calls.
CasADi's SX code keeps values in local variables: the largest stack frame stands beside the workspace.
"""

from __future__ import annotations

import csv
import re
import shutil
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
SMALL = ("-std=c99", "-Os", "-w")
ARM = "arm-none-eabi-gcc"
CORTEX = (
    "-mcpu=cortex-m4",
    "-mthumb",
    "-mfpu=fpv4-sp-d16",
    "-mfloat-abi=hard",
    "-fsingle-precision-constant",
)
COLUMNS = (
    "source bytes", "object bytes -O3", "object bytes -Os", "Cortex-M4 float32 bytes -Os", "compile s -O3",
    "stack bytes", "workspace bytes", "us a call",
)  # fmt: skip
HARNESS = """
#define _POSIX_C_SOURCE 199309L
#include <stddef.h>
#include <time.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
double time_own(int (*f)(const void *, void *, size_t), void *a, void *work, size_t size, long times)
{ double start = now(); for (long k = 0; k < times; k++) f(a, work, size); return (now() - start) / times; }
double time_peer(int (*f)(void *, void *, void *, void *, int), void *a, void *r, void *i, void *w, long times)
{ double start = now(); for (long k = 0; k < times; k++) f(a, r, i, w, 0); return (now() - start) / times; }
"""
TIMERS = """
double time_own(void *, void *, void *, size_t, long);
double time_peer(void *, void *, void *, void *, void *, long);
"""
WIDE = 2 + len(COLUMNS)
Sizes = tuple[int, int, int, int, float, int]
Timed = Callable[[int], float]
Call = tuple[Timed, Callable[[], Any], int]


def timers() -> tuple[Any, Any]:
    """The C loops that time calls, and their cffi."""
    ffi = cffi.FFI()
    ffi.cdef(TIMERS)
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "time.c"), Path(folder, "time.so")
        source.write_text(HARNESS)
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        return ffi, ffi.dlopen(str(library))


TIME_FFI, TIME = timers()
WORKSPACE_SIZED = ("n_rows", "columns", "threads")  # what the size of a workspace depends on, columns if there are any


def pointer_to(ffi: Any, what: Any) -> Any:
    """``what``, of another cffi, as a pointer for the timers."""
    return TIME_FFI.cast("void *", int(ffi.cast("intptr_t", what)))


def object_size(source: Path, *command: str) -> int:
    """Bytes of code and data of ``source``, compiled to an object by ``command``."""
    target = source.with_suffix(".size.o")
    subprocess.run([*command, f"-I{source.parent}", "-c", str(source), "-o", str(target)], check=True)
    text, data, *_ = subprocess.check_output(["size", str(target)], text=True).splitlines()[1].split()
    return int(text) + int(data)


def cortex_size(source: Path) -> int:
    """The same on a Cortex-M4; 0 without its compiler."""
    return object_size(source, ARM, *CORTEX, *SMALL) if shutil.which(ARM) else 0


def build(source: Path, sources: list[Path], single: Path) -> tuple[Path, Sizes]:
    """A library of ``source``, and its sizes; ``sources`` are counted, ``single`` is the same in float32.

    The seconds of compiling are the median of three if short."""
    target, library = source.with_suffix(".o"), source.with_suffix(".so")
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            ["gcc", *COMPILE, "-w", f"-I{source.parent}", "-c", str(source), "-o", str(target)], check=True
        )
        seconds.append(time.perf_counter() - start)
        if seconds[0] > 2.0:
            break
    subprocess.run(["gcc", "-shared", str(target), "-o", str(library), "-lm"], check=True)
    fast = object_size(source, "gcc", *COMPILE, "-w", "-fstack-usage")
    frames = next(source.parent.glob("*.su")).read_text().splitlines()
    stack = max(int(line.split("\t")[1]) for line in frames)
    size = sum(file.stat().st_size for file in sources)
    small = object_size(source, "gcc", *SMALL)
    return library, (size, fast, small, cortex_size(single), float(np.median(seconds)), stack)


def ours(workload: Workload, quantity: str, data: dict[str, Any], folder: Path) -> tuple[Sizes, Call]:
    """Our bundle of one program: sizes, a call, its answer and its workspace."""
    model, leaves = workload.build(), list(workload.leaves)
    estimator = cp.compile(model, wrt=leaves, programs=(), threads=1)
    key = "diagonal:exact" if quantity == "diagonal" else quantity
    columns, program = estimator.columns(key) or 0, key.replace(":", "_")
    cp.bundle(estimator, folder, (key,), prefix="own")
    single = cp.compile(model, wrt=leaves, programs=(), real="float32", threads=1)
    cp.bundle(single, folder / "single", (key,), prefix="own")
    used = [folder / "own.c", folder / "own.h", *folder.glob("own_rt_*.h")]
    library, sizes = build(folder / "own.c", used, folder / "single" / "own.c")
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
    numbers = {"n_rows": rows, "columns": columns, "threads": 1, "design": 2 if columns else 0}
    for name in numbers.keys() & dict(ffi.typeof(args).item.fields):
        setattr(args, name, numbers[name])
    needed = getattr(lib, f"own_{program}_workspace_bytes")
    size = needed(*(numbers[name] for name in WORKSPACE_SIZED if len(ffi.typeof(needed).args) > 2 or name != "columns"))
    work = np.zeros(size + 64, np.uint8)
    start = -work.ctypes.data % 64
    pointer, run = ffi.from_buffer("char[]", work[start:]), getattr(lib, f"own_{program}_run")

    status = run(args, pointer, size)
    if status:
        raise RuntimeError(f"status {status}")
    addresses = [pointer_to(ffi, x) for x in (run, args, pointer)]

    def call(times: int, owners: Any = (args, pointer, kept, data, lib)) -> float:
        return float(TIME.time_own(*addresses, size, times))

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
    source, single = folder / "peer.c", folder / "single.c"
    source.write_text(_generate(function))
    # CasADi's own switches for its types; its C calls the functions of math.h by their names for double
    text = "#define casadi_real float\n#define casadi_int int\n" + source.read_text()
    single.write_text(re.sub(r"\b(sin|cos|exp|log|tanh|sqrt|pow|fabs)\(", r"\1f(", text))
    library, sizes = build(source, [source], single)
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

    lib.f(constant, result, integers, work, 0)
    addresses = [pointer_to(ffi, x) for x in (lib.f, argument, result, integers, work)]

    def call(times: int, owners: Any = (owners, argument, result, integers, work, lib)) -> float:
        return float(TIME.time_peer(*addresses, times))

    return sizes, (call, lambda: np.concatenate(outputs), size)


def medians(first: Timed, second: Timed) -> tuple[float, float]:
    """Seconds of one call of each, interleaved."""
    pairs = [(call, max(1, int(0.02 / call(3)))) for call in (first, second)]
    found = [[call(times) for call, times in pairs] for _ in range(15)]
    one, two = np.median(found, axis=0)
    return float(one), float(two)


def write(rows: list[list[str]]) -> None:
    """The table of ratios and numbers so far."""
    head = ["function", "quantity", *(f"{c}, CasADi over ours" for c in COLUMNS)]
    head += [f"{c}, {who}" for who in ("ours", f"CasADi {ca.__version__}") for c in COLUMNS]
    with open(RESULTS / "bundle_size.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *rows])
    lines = ["| " + " | ".join(r[:WIDE]) + " |" for r in (head, ["---"] * WIDE, *rows)]
    (RESULTS / "bundle_size.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Print the tables and write them to benchmarks/results."""
    rows: list[list[str]] = []
    for name, label in CASES:
        workload = WORKLOADS[name]
        data = workload.data("float64")
        for quantity in QUANTITIES:
            if name == "W4" and quantity == "diagonal":
                blank = [""] * (3 * len(COLUMNS) - 1)
                rows.append([label, quantity, "not feasible with CasADi: 79,510 parameters", *blank])
                continue
            with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
                own_sizes, (own, own_answer, own_work) = ours(workload, quantity, data, Path(one, "own"))
                peer_sizes, (peer, peer_answer, peer_work) = casadi(workload, quantity, data, Path(two))
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
