"""SymPy: symbolic derivatives, ``cse``, and C printed from them."""

from __future__ import annotations

from typing import Any

import cffi
import numpy as np
import sympy as sp
from sympy.printing.c import C99CodePrinter

from benchmarks.peers import native
from benchmarks.peers.methods import Answer, Method, Methods, one
from benchmarks.peers.workloads import Workload, arm_cost, rosenbrock_cost

BLOCK = 64  # rows that share one pass over the vector lanes


def methods(workload: Workload, real: str, threads: int) -> Methods:
    if workload.name not in ("W1/1", "W1/10000", "W2/10", "W2/100", "W2/1000"):
        return
    data = workload.data("float64")
    rows = data[workload.leaves[0]]
    size = rows.shape[1]
    x = sp.symbols(f"x:{size}")
    for quantity, outputs, tables in _derivatives(workload, x):
        if quantity in workload.quantities:
            yield _method(quantity, outputs, tables, x, rows, threads)


def _derivatives(workload: Workload, x: Any) -> Any:
    """Quantity, its expressions, and which symbols stand for sine and cosine."""
    if workload.name.startswith("W2"):
        cost, size = rosenbrock_cost(x, len(x)), len(x)
        terms = [100 * (x[k + 1] - x[k] ** 2) ** 2 + (1 - x[k]) ** 2 for k in range(size - 1)]
        near = [sp.Add(*terms[max(k - 1, 0) : k + 1]) for k in range(size)]  # all that x[k] enters
        yield "value", [cost], ()
        yield "gradient", [sp.diff(near[k], x[k]) for k in range(size)], ()
        yield "diagonal", [sp.diff(near[k], x[k], 2) for k in range(size)], ()
        return
    s, c = sp.symbols("s:6"), sp.symbols("c:6")
    sine, cosine = dict(zip(x, s, strict=True)), dict(zip(x, c, strict=True))
    cost = arm_cost(x, lambda q: sine[q], lambda q: cosine[q])

    def along(expression: Any, k: int) -> Any:
        """The derivative by joint k, with d sin = cos and d cos = -sin."""
        through = sp.diff(expression, s[k]) * c[k] - sp.diff(expression, c[k]) * s[k]
        return through + sp.diff(expression, x[k])

    gradient = [along(cost, k) for k in range(6)]
    tables = (s, c)
    yield "value", [cost], tables
    yield "gradient", gradient, tables
    upper = {(i, j): along(gradient[i], j) for i in range(6) for j in range(i, 6)}
    yield "hessian", [upper[min(i, j), max(i, j)] for i in range(6) for j in range(6)], tables
    yield "diagonal", [upper[i, i] for i in range(6)], tables


def _method(quantity: str, outputs: Any, tables: Any, x: Any, rows: Any, threads: int) -> Method:
    replaced, reduced = sp.cse(outputs, sp.numbered_symbols("t"), order="none")
    many = len(rows) > 1
    out = len(reduced)
    x_at, y_at, s_at, c_at = (
        ("x[{k} * N + n]", "y[{k} * N + n]", "s[{k}][b]", "c[{k}][b]")
        if many
        else ("x[{k}]", "y[{k}]", "s{k}", "c{k}")
    )
    names = {symbol: x_at.format(k=k) for k, symbol in enumerate(x)}
    for table, form in zip(tables, (s_at, c_at), strict=False):
        names |= {symbol: form.format(k=k) for k, symbol in enumerate(table)}

    class Printer(C99CodePrinter):  # type: ignore[misc]
        def _print_Symbol(self, expr: Any) -> str:  # noqa: N802 - the printer's name for it
            return names.get(expr, str(expr))

    printer = Printer()
    body = [f"const double {n} = {printer.doprint(e)};" for n, e in replaced]
    body += [f"{y_at.format(k=k)} = {printer.doprint(e)};" for k, e in enumerate(reduced)]
    inner = "\n".join(body)
    if not many:
        trig = "".join(
            f"const double s{k} = sin(x[{k}]), c{k} = cos(x[{k}]);\n" for k in range(len(x) if tables else 0)
        )
        text = f"#include <math.h>\nvoid f(const double *x, double *y) {{\n{trig}{inner}\n}}\n"
        label = "SymPy cse C, cffi"
    else:
        text = f"""#include <math.h>
void f(const double *restrict x, double *restrict y, long N, int threads) {{
#pragma omp parallel for schedule(static) num_threads(threads)
for (long from = 0; from < N; from += {BLOCK}) {{
const long rows = N - from < {BLOCK} ? N - from : {BLOCK};
double s[6][{BLOCK}], c[6][{BLOCK}];
for (int k = 0; k < 6; k++) {{
#pragma omp simd
for (long b = 0; b < rows; b++) s[k][b] = sin(x[k * N + from + b]);
#pragma omp simd
for (long b = 0; b < rows; b++) c[k][b] = cos(x[k * N + from + b]); }}
#pragma omp simd
for (long b = 0; b < rows; b++) {{ const long n = from + b;
{inner}
}} }} }}
"""
        label = "SymPy cse C, vector lanes of rows, fast-math"
    ffi = cffi.FFI()
    ffi.cdef("void f(const double *, double *, long, int);" if many else "void f(const double *, double *);")
    library = ffi.dlopen(str(native.build(text, fast=many)))
    points = np.ascontiguousarray(rows.T)
    result = np.zeros((out, len(rows)))
    f, source, target = library.f, ffi.from_buffer("double[]", points), ffi.from_buffer("double[]", result)
    count = len(rows)

    def batch(owner: Any = library) -> Answer:
        f(source, target, count, threads)
        return result

    def single(owner: Any = library) -> Answer:  # which unloads its code when it is collected
        f(source, target)
        return result

    return Method(quantity, label, batch if many else single, lambda a: one(a.T))
