"""The check after loading: right models pass, planted faults do not, and the error bound holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import sympy

import cpgen as cp
from cpgen.emit import CFiles, emit_c
from cpgen.errors import CheckError
from cpgen.estimate.estimator import Estimator
from cpgen.ir.draws import draws
from cpgen.ir.interpret import run
from cpgen.ir.nodes import Program
from cpgen.ir.rounding import arithmetic, run_bounded
from cpgen.loops import Plan, plan
from cpgen.native import check_program, load
from cpgen.scalar.rounding import with_rounding

A, T, X, Y = sympy.symbols("a T x y", real=True)
DELICATE = {
    "fast sine": sympy.sin(2 * sympy.pi * 5e6 * A),
    "cosine": sympy.cos(2 * sympy.pi * 1e4 * A),
    "temperature": sympy.exp(60 / T),
    "cancelling square": (X + 1e5) ** 2 - 1e10,
    "domains": sympy.exp(60 / T) * (X + 3) ** 2 + sympy.sqrt(T - 100) * X + sympy.acos(Y) * sympy.log(X),
}


def network(widths: list[int], last: object = None) -> cp.Model:
    """Layers of tanh; ``last`` of each element of the last layer (linear), or its square, is summed."""
    m = cp.Model("net")
    n = m.axis("n", cp.ROWS)
    axes = [m.axis(f"k{k}", width) for k, width in enumerate(widths)]
    h = m.input("x", n, axes[0])
    for k in range(1, len(widths)):
        to, given = axes[k], axes[k - 1]
        weight, bias = m.param(f"W{k}", to, given), m.param(f"b{k}", to)
        into = cp.sum(weight[to, given] * h[n, given], given) + bias[to]
        h = m.define(f"h{k}", (n, to), sympy.tanh(into) if k < len(widths) - 1 else into)
    out = h[n, axes[-1]]
    m.objective(cp.sum(last(out) if callable(last) else out**2, axes[-1]))
    return m


def interpreted(model: object, real: str = "float64", **more: object) -> Estimator:
    return cp.compile(model, real=real, backend="interpreter", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", list(DELICATE))
def test_delicate_formulas_load(name: str, real: str) -> None:
    est = cp.compile(DELICATE[name], real=real, programs=("value", "gradient", "diagonal"), backend="native")
    assert "native" in est.loaded("value").backend.label


@pytest.mark.parametrize(
    "widths, last, key",
    [([64, 32, 1], sympy.exp, "diagonal"), ([64, 32, 32, 10], None, "sketch"), ([784, 100, 10], None, "gradient")],
)
def test_networks_load_and_every_weight_is_exercised(widths: list[int], last: object, key: str) -> None:
    est = cp.compile(network(widths, last), wrt=[f"W{k}" for k in range(1, len(widths))], backend="native", programs=())
    est.load(key)
    program = est.derive("gradient").program
    given = [node for node in program.inputs if node.kind != "scale"]
    values, bounds = run_bounded(program, next(draws(program.nodes(), given, 2)), 2)
    for name, value in values.items():
        assert np.mean(np.abs(value) > bounds[name]) > 0.9, name


def test_a_variational_autoencoder_loads() -> None:
    m = cp.Model("vae")
    n, i, h, z = m.axes("n i h z", n=cp.ROWS, i=40, h=24, z=6)
    x, e = m.input("x", n, i), m.input("e", n, z)
    w, mean, spread, back, out = (
        m.param("W", h, i), m.param("M", z, h), m.param("S", z, h), m.param("B", h, z), m.param("O", i, h)
    )  # fmt: skip
    hidden = m.define("hidden", (n, h), sympy.tanh(cp.sum(w[h, i] * x[n, i], i)))
    mu = m.define("mu", (n, z), cp.sum(mean[z, h] * hidden[n, h], h))
    s = m.define("s", (n, z), cp.sum(spread[z, h] * hidden[n, h], h))
    code = m.define("code", (n, z), mu[n, z] + sympy.exp(s[n, z] / 2) * e[n, z])
    again = m.define("again", (n, h), sympy.tanh(cp.sum(back[h, z] * code[n, z], z)))
    logit = m.define("logit", (n, i), cp.sum(out[i, h] * again[n, h], h))
    fit = cp.sum(sympy.log(1 + sympy.exp(logit[n, i])) - x[n, i] * logit[n, i], i)
    m.objective(fit + cp.sum(mu[n, z] ** 2 + sympy.exp(s[n, z]) - s[n, z] - 1, z) / 2)
    for real in ("float64", "float32"):
        cp.compile(m, real=real, backend="native", programs=("gradient", "diagonal"))


# Planted faults

# of the model; chunks and waits only choose how many threads share a call
STATEMENT = re.compile(r"^ +const (?:double|float) (?!chunks |waits )\w+ = [^;]*;$", re.M)
CONSTANT = re.compile(r"(?<![\w.\[])(\d+\.\d*)(f?)(?![\w\]])")
LOOP = re.compile(r"(?<= )(a\d+) < (\d+)(?=; \+\+)")
INDEX = re.compile(r"(?<=_tile\[)lane(?=\])")


def faults(text: str, real: str) -> Iterator[tuple[str, str]]:
    """C texts with one fault each: a sign, a constant, the end of a sum, a neighbour's element."""
    for statement in STATEMENT.finditer(text):
        start, body = statement.start(), statement.group()
        for sign in re.finditer(r" [+-] (?=[a-z_(0-9])", body):
            if body[: sign.start()].count("[") == body[: sign.start()].count("]"):
                at = start + sign.start() + 1
                yield "sign", text[:at] + ("-" if text[at] == "+" else "+") + text[at + 1 :]
        for number in CONSTANT.finditer(body):
            value = repr(float(number.group(1)) * (1 + (1e-6 if real == "float64" else 1e-2)))
            yield "constant", text[: start + number.start()] + value + number.group(2) + text[start + number.end() :]
        for index in INDEX.finditer(body):
            yield "index", text[: start + index.start()] + "(lane ^ 1)" + text[start + index.end() :]
    for loop in LOOP.finditer(text):
        if int(loop.group(2)) > 1:
            end = f"{loop.group(1)} < {int(loop.group(2)) - 1}"
            yield "end", text[: loop.start()] + end + text[loop.end() :]


def emitted(est: Estimator, key: str) -> tuple[CFiles, Plan]:
    made = plan(est.derive(key).program, est.options.real, 8)
    return emit_c("m", [made], est.options.real), made


def is_caught(files: CFiles, made: Plan, text: str) -> bool:
    try:
        check_program(load(replace(files, source=text), [made])[made.name])
    except CheckError:
        return True
    return False


MODELS = {
    "network": lambda: network([6, 5, 3], sympy.exp),
    "expression": lambda: (X - 0.7) ** 3 * sympy.exp(0.3 * Y) + sympy.sin(3 * X * Y) * sympy.log(1 + Y**2),
    "domains": lambda: DELICATE["domains"],
}


@pytest.mark.slow
@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", list(MODELS))
def test_planted_faults_are_found(name: str, real: str) -> None:
    """One fault of each kind and program; in float32 some constants are lost in the sum that they stand in."""
    est = interpreted(MODELS[name](), real, programs=())
    missed = []
    found: set[str] = set()
    for key in ("gradient", "diagonal"):
        files, made = emitted(est, key)
        assert not is_caught(files, made, files.source)
        kinds: dict[str, list[str]] = {}
        for kind, text in faults(files.source, real):
            kinds.setdefault(kind, []).append(text)
        found |= kinds.keys()
        for kind, texts in kinds.items():
            some = texts[:: max(len(texts) // 2, 1)][:2]
            missed += [(key, kind) for text in some if not is_caught(files, made, text)]
    assert {"sign", "constant"} <= found
    assert [m for m in missed if real == "float64" or m[1] != "constant"] == []
    assert len(missed) <= 1


def test_a_wrong_slope_of_a_saturating_network_is_found() -> None:
    """tanh' is exactly 0 in float32 for inputs like (0.2, 0.8) and wide layers: nothing was compared there."""
    files, made = emitted(interpreted(network([300, 4, 1]), "float32", programs=(), wrt=["W1"]), "gradient")
    wrong = files.source.replace("cpgen_sech2_f32(", "1.1f * cpgen_sech2_f32(", 1)
    assert wrong != files.source
    assert not is_caught(files, made, files.source)
    assert is_caught(files, made, wrong)


def test_the_message_says_what_was_seen() -> None:
    files, made = emitted(interpreted(X**2 * Y + 0.5 * X, programs=()), "gradient")
    wrong = files.source.replace("0.5", "0.51")
    with pytest.raises(CheckError, match=r"value is .*, expected .* within .*bound of rounding .*entries"):
        check_program(load(replace(files, source=wrong), [made])[made.name])


# The bound

FORMULAS = [
    (X + 1e5) ** 2 - 1e10,
    sympy.sin(1e5 * X) * sympy.exp(3 * Y),
    (X - Y) / (X + Y + 3) - sympy.tanh(X * Y),
    sympy.sqrt(X**2 + Y**2 + 1) - 1,
    sympy.Piecewise((X**3, X > Y), (Y / 3, True)),
]


@pytest.mark.parametrize("expr", FORMULAS, ids=str)
def test_the_bound_holds_for_float32_and_is_not_void(expr: sympy.Expr) -> None:
    """The same operations in float32, rounded one by one by NumPy, against mpmath."""
    program = interpreted(expr, programs=()).derive("value").program
    rows = 200
    rng = np.random.default_rng(3)
    arrays = {v: rng.uniform(-1, 1, rows).astype(np.float32) for v in ("x", "y")}
    single = Program("rows", (("f", _per_row(program)),), program.inputs)
    names = [node.name for node in program.inputs]
    values, bounds = run_bounded(single, {k: arrays[k].astype(float) for k in names}, rows, real="float32")
    found = run(single, {k: arrays[k] for k in names}, rows)["f"]
    assert found.dtype == np.float32
    exact = [
        float(sympy.lambdify((X, Y), expr, "mpmath")(*(mpmath.mpf(float(arrays[k][r])) for k in ("x", "y"))))
        for r in range(rows)
    ]
    assert (np.abs(found - exact) <= bounds["f"]).all()
    assert (np.abs(values["f"] - exact) <= bounds["f"]).all()
    size = np.max(np.abs(exact))
    assert np.median(bounds["f"]) < 0.25 * size


def _per_row(program: Program):  # type: ignore[no-untyped-def]
    (node,) = (a.node for name, out in program.outputs if name == "value" for a in out.args)  # type: ignore[union-attr]
    return node


def test_the_bound_of_a_long_sum_and_of_a_deep_network() -> None:
    """float32 results lie within it, and it does not swamp them."""
    for model, key, rows in ((network([500, 300, 1]), "gradient", 4), (network([20] * 9), "gradient", 4)):
        est = interpreted(model, programs=())
        program = est.derive(key).program
        given = [node for node in program.inputs if node.kind != "scale"]
        arrays = {k: v.astype(np.float32) for k, v in next(draws(program.nodes(), given, rows)).items()}
        single = run(program, arrays, rows)
        values, bounds = run_bounded(program, {k: v.astype(float) for k, v in arrays.items()}, rows, real="float32")
        for name, value in values.items():
            assert (np.abs(single[name] - value) <= bounds[name]).all(), name
            assert np.median(bounds[name]) < 0.05 * np.max(np.abs(value)), name


# Draws


def test_draws_keep_to_declared_ranges_and_are_the_same_each_time() -> None:
    m = cp.Model("ranges")
    n, k = m.axes("n k", n=cp.ROWS, k=50)
    a, b, c = m.input("a", n, low=-3, high=-2), m.param("b", k, low=1e-9, high=1e-3), m.param("c", high=-7)
    m.objective(a[n] * c + cp.sum(b[k], k))
    graph = m.graph()
    every = list(draws((), graph.variables, 5))
    for one, again in zip(every, draws((), graph.variables, 5), strict=True):
        assert all(np.array_equal(one[v], again[v]) for v in one)
        assert (one["a"] >= -3).all() and (one["a"] <= -2).all() and one["a"].shape == (5,)
        assert (one["b"] >= 1e-9).all() and (one["b"] <= 1e-3).all() and one["c"] <= -7
    assert min(one["b"].min() for one in every) < 1e-8  # several decades are all reached


def test_the_root_of_a_sum_of_squares_exists_where_rounding_makes_it_zero() -> None:
    how, zero, off = arithmetic("float64"), np.array([0.0, 4.0]), np.array([1e-22, 1e-22])
    root = with_rounding(sympy.sqrt(X), [X], [zero], [off], how)
    squares = with_rounding(sympy.sqrt(X), [X], [zero], [off], how, [X])
    assert np.isinf(root[1][0]) and np.isfinite(root[1][1])
    np.testing.assert_allclose(squares[1], [1e-11, root[1][1]], rtol=1e-6)
