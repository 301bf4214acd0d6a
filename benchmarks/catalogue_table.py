"""Every model of tests/catalogue.py: how far the sum over unit noise columns is from an independent Hessian.

    python benchmarks/catalogue_table.py [model ...]

Prints a markdown table and writes benchmarks/results/catalogue.csv (all models only).  The reference is SymPy's Hessian
of the NumPy objective, evaluated with 30 digits, where that takes seconds; otherwise JAX's in float64 if JAX is
installed, else differences in extended precision.  Errors are Frobenius norms relative to the reference, whole matrix
with cross blocks, the worst row.  Needs a checkout: the catalogue and its references are part of the tests.
"""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import reference  # noqa: E402
from tests.catalogue import CATALOGUE, Arrays, Entry  # noqa: E402

# what each model is there for
CONSTRUCTS = {
    "rosenbrock": "plain expression, powers",
    "reaction_rate": "plain expression, exp, log, quotients, some symbols fixed",
    "chained_rosenbrock": "no rows, neighbours x[k+1]",
    "lattice": "no rows, neighbours in two directions, scalar parameters",
    "logistic_regression": "vector and scalar parameters, log(1+exp)",
    "softmax_regression": "logsumexp, dense layer",
    "poisson_and_gamma": "loggamma, exp, log",
    "gaussian_mixture": "softmax of parameters, logsumexp, definitions without rows",
    "mlp_tanh": "two hidden layers, tanh, logsumexp",
    "mlp_relu": "relu, max",
    "softplus_energy": "softplus, derivatives by inputs",
    "smooth_activations": "gelu, silu, sigmoid, log cosh",
    "residual_tied": "residual blocks, tied and transposed weights",
    "recurrent": "recurrent weights used at each step, constant subscripts",
    "attention": "attention with a skip, inputs and weights together",
    "layer_normalised": "layer norm",
    "convolution_1d": "1-D convolution, stride and padding, inputs and filters together",
    "convolution_2d": "2-D convolution, padding, average pooling, contraction over three axes",
    "mixture_of_experts": "softmax gates, sin",
    "products": "products over an axis, zeros among the factors",
    "robust_norm": "norm over two axes, three-axis weights, sqrt",
    "bilinear": "contraction of four operands over two axes",
    "repeated_index": "A[i, i], quadratic form, trace of a cube",
    "factorisation": "low rank, masks, broadcasting, mean over rows",
    "means": "means over axes, variance",
    "unlike_terms": "sums of terms that broadcast",
    "smoother": "first and second differences, slices",
    "robot_arm": "sin, cos, tan, atan2",
    "huber": "Piecewise, abs",
    "largest_and_smallest": "min, max",
    "absolute_values": "abs",
    "user_function": "the user's own function with derivatives and C body",
    "inverse_functions": "asin, acos, atan, asinh, acosh, atanh, erf",
    "special_functions": "gamma, digamma, erfc, normal cdf, hypot",
    "power_laws": "x**p with parameters as exponents, negative and fractional ones",
    "positive_weights": "parameters transformed before use, sinh, cosh",
    "shared_scalar": "one scalar in every definition",
    "several_inputs": "several inputs with and without rows, scalars, mixed wrt",
    "linear": "only a cross block; leaves that nothing reads",
    "regrouped": "subscripts with // and %: flattened, repeated, in groups, round a ring",
    "extrema": "max and min over axes, max pooling with padding",
    "several_axes": "logsumexp, softmax and layer norm over two axes, RMS norm",
    "grouped_convolution": "convolution in groups, dilated, padded",
    "rounded": "floor, ceiling, rint, frac, Mod, sign",
    "constants": "constant arrays, an axis as a number",
}
COLUMNS = ("model", "constructs", "parameters", "inputs", "reference", "interpreter", "C", "columns")


def measure(entry: Entry) -> dict[str, object]:
    """One line of the table."""
    arrays = entry.arrays()
    source, expected = hessian_of(entry, arrays)
    errors = {}
    columns: int | None = None
    for backend in ("interpreter", "native"):
        est = entry.compile(programs=(), backend=backend)
        found = reference.matrix(entry, arrays, est.hessian(method="cp", **arrays).blocks)
        errors[backend] = reference.frobenius(found, expected)
        columns = est.columns("hessian:cp")
    sizes = {True: 0, False: 0}
    for leaf in entry.wrt:
        rows = reference.has_rows(entry, leaf)
        sizes[rows] += arrays[leaf].size // (entry.rows if rows else 1)
    return {
        "model": entry.name,
        "constructs": CONSTRUCTS[entry.name],
        "parameters": sizes[False],
        "inputs": sizes[True],
        "reference": source,
        "interpreter": f"{errors['interpreter']:.1e}",
        "C": f"{errors['native']:.1e}",
        "columns": columns,
    }


def hessian_of(entry: Entry, arrays: Arrays) -> tuple[str, reference.Array]:
    """Which reference, and its Hessian ``[row, i, j]``."""
    if entry.symbolic:
        return "SymPy, 30 digits", reference.sympy_derivatives(entry, arrays)[1]
    if importlib.util.find_spec("jax"):
        return "JAX, float64", reference.jax_derivatives(entry, arrays)[1]
    return "differences, extended precision", reference.derivatives(entry, arrays)[1]


def main(names: list[str]) -> int:
    unknown = [n for n in names if n not in CATALOGUE]
    if unknown:
        print(f"no model {', '.join(unknown)}; there are: {', '.join(CATALOGUE)}", file=sys.stderr)
        return 2
    lines = []
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    for name in names or CATALOGUE:
        lines.append(measure(CATALOGUE[name]))
        print("| " + " | ".join(str(lines[-1][c]) for c in COLUMNS) + " |", flush=True)
    worst = max(float(str(line[b])) for line in lines for b in ("interpreter", "C"))
    print(f"\n{len(lines)} models, worst relative error {worst:.1e}")
    if not names:
        target = ROOT / "benchmarks" / "results" / "catalogue.csv"
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
    return 0 if worst < 1e-10 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
