"""CasADi: scalar graphs as generated C, called with pointers bound once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import casadi as ca
import cffi
import numpy as np

from benchmarks.peers import native
from benchmarks.peers.methods import Answer, Method, Methods, one
from benchmarks.peers.workloads import Workload, arm_cost, rosenbrock_cost

BATCH = """
#include <omp.h>
void batch(const double *x, double *y, long rows, int threads) {
#pragma omp parallel num_threads(threads)
  { long long iw[SZ_IW + 1]; double w[SZ_W + 1]; const double *arg[SZ_ARG + 1]; double *res[SZ_RES + 1];
#pragma omp for schedule(static)
    for (long n = 0; n < rows; n++) { arg[0] = x + n * IN; res[0] = y + n * OUT; NAME(arg, res, iw, w, 0); } }
}
"""


def methods(workload: Workload, real: str, threads: int) -> Methods:
    if not workload.name.startswith(("W1", "W2", "W3/in/1", "W3/par/1")) or workload.name.endswith("1024"):
        return
    data = workload.data("float64")
    x = ca.SX.sym("x", sum(data[v][0].size if workload.by_row else data[v].size for v in workload.leaves))
    cost = _cost(workload, data, x)
    gradient = ca.gradient(cost, x)
    hessian = ca.hessian(cost, x)[0] if "sample" not in workload.quantities else None
    wanted = {"value": cost, "gradient": gradient}
    if hessian is not None:
        diagonal = ca.diag(hessian)
        wanted |= {"hessian": ca.densify(hessian), "diagonal": diagonal, "trace": ca.sum1(diagonal)}
    else:
        probe = np.concatenate([workload.probe(data)[v].ravel() for v in workload.leaves])
        wanted["sample"] = probe * ca.jtimes(gradient, x, ca.DM(probe))
    point = np.concatenate([data[v].ravel() for v in workload.leaves])
    for quantity, expression in wanted.items():
        if quantity not in (*workload.quantities, "gradient"):
            continue
        if workload.name.startswith("W2") and quantity == "hessian":
            continue
        function = ca.Function("f", [x], [ca.densify(expression)])
        if len(data[workload.leaves[0]]) > 1 and workload.by_row:
            yield _batched(quantity, function, data[workload.leaves[0]], threads)
        else:
            yield _single(quantity, function, point)


def _cost(workload: Workload, data: dict[str, Any], x: Any) -> Any:
    if workload.name.startswith("W1"):
        return arm_cost([x[k] for k in range(6)], ca.sin, ca.cos)
    if workload.name.startswith("W2"):
        return rosenbrock_cost(x, x.shape[0])
    arrays: dict[str, Any] = {name: ca.DM(np.atleast_2d(a)) for name, a in data.items()}
    start = 0
    for name in workload.leaves:
        size, shape = data[name].size, data[name].shape
        part = x[start : start + size]
        # CasADi fills columns first
        arrays[name] = ca.reshape(part, shape[1], shape[0]).T if len(shape) == 2 else part.T
        start += size
    z = arrays["x"]
    for k in range(1, 4):
        z = ca.mtimes(z, arrays[f"W{k}"].T) + arrays[f"b{k}"]
        z = ca.tanh(z) if k < 3 else z
    return ca.sum2(z) if workload.by_row else 0.5 * ca.sumsqr(z - arrays["y"])


def _generate(function: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        here = os.getcwd()
        os.chdir(folder)  # CasADi writes generated C into the working folder only
        try:
            function.generate("peer.c", {"with_header": False})
        finally:
            os.chdir(here)
        return Path(folder, "peer.c").read_text()


def _single(quantity: str, function: Any, point: Any) -> Method:
    compiled = ca.external("f", str(native.build(_generate(function))))
    buffer, call = compiled.buffer()
    result = np.zeros(compiled.numel_out(0))
    buffer.set_arg(0, memoryview(point))
    buffer.set_res(0, memoryview(result))
    owner = (point, buffer, compiled)  # the buffer keeps addresses only

    def answer(_: Any, owner: Any = owner) -> Answer:
        return one(result)

    return Method(quantity, "CasADi SX C, buffer", call, answer)


def _batched(quantity: str, function: Any, rows: Any, threads: int) -> Method:
    numbers = {
        "SZ_ARG": function.sz_arg(), "SZ_RES": function.sz_res(), "SZ_IW": function.sz_iw(),
        "SZ_W": function.sz_w(), "IN": rows.shape[1], "OUT": function.numel_out(0), "NAME": "f",
    }  # fmt: skip
    defines = "".join(f"#define {name} {value}\n" for name, value in numbers.items())
    ffi = cffi.FFI()
    ffi.cdef("void batch(const double *, double *, long, int);")
    library = ffi.dlopen(str(native.build(_generate(function) + defines + BATCH)))
    result = np.zeros((len(rows), function.numel_out(0)))
    pointers = ffi.from_buffer("double[]", rows), ffi.from_buffer("double[]", result)

    def call() -> Answer:
        library.batch(*pointers, len(rows), threads)
        return result

    return Method(quantity, "CasADi SX C, own OpenMP loop", call, one)
