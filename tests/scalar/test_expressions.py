"""Canonical form, derivatives, signs, cost and printing of whole expressions."""

from __future__ import annotations

import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Abs, Heaviside, Max, Min, Piecewise, S, Symbol, exp, log, sin, sqrt, tanh

from cpgen.code.printer import expression
from cpgen.code.rewrite import calls
from cpgen.code.tree import Element, Name
from cpgen.errors import CpgenError, ModelError, RequestError, UnsupportedError
from cpgen.scalar import (
    PRIMITIVES,
    canonical,
    cost,
    diff,
    function,
    kinks,
    operations,
    placeholder,
    renamed,
    second_order_zero,
    sign_of,
    to_c,
    to_numpy,
)
from cpgen.scalar import functions as fn

X, Y, Z = (placeholder(k) for k in range(3))
A, B = sympy.symbols("a b")  # a user's symbols need not be declared real

RECOGNISED = [
    (log(1 + exp(X)), fn.softplus(X)),
    (log(1 + exp(-2 * X + Y)), fn.softplus(-2 * X + Y)),
    (log(exp(X) + exp(Y)), X + fn.softplus(Y - X)),
    (log(3 + 3 * exp(X)), log(3) + fn.softplus(X)),
    (1 / (1 + exp(-X)), fn.sigmoid(X)),
    (exp(X) / (1 + exp(X)), fn.sigmoid(X)),
    (exp(X) / (exp(X) + 1) ** 2, fn.sigmoid(X) * fn.sigmoid(-X)),
    (exp(-X) / (1 + exp(-X)), fn.sigmoid(-X)),
    (exp(X) / (exp(X) + exp(Y)), fn.sigmoid(X - Y)),
    (1 - 1 / (1 + exp(-X)), fn.sigmoid(-X)),
    (log(1 / (1 + exp(-X))), -fn.softplus(-X)),
    (log(sympy.cosh(X)), fn.logcosh(X)),
    (log(exp(X) + exp(-X)), log(2) + fn.logcosh(X)),
    ((exp(X) - exp(-X)) / (exp(X) + exp(-X)), tanh(X)),
    ((exp(2 * X) - 1) / (exp(2 * X) + 1), tanh(X)),
    (sympy.sinh(X) / sympy.cosh(X), tanh(X)),
    (1 / sympy.cosh(X) ** 2, sympy.sech(X) ** 2),
    (log(1 + X), fn.log1p(X)),
    (log(1 + X**2 + Y), fn.log1p(X**2 + Y)),
    (exp(X) - 1, fn.expm1(X)),
    (2 - 2 * exp(X), -2 * fn.expm1(X)),
    (Max(X, 0), fn.relu(X)),
    (Min(X, 0), -fn.relu(-X)),
    (Max(X, Y), fn.maximum(X, Y)),
    (Max(X, Y, Z), fn.maximum(fn.maximum(X, Y), Z)),
    (Max(X, Y, 0), fn.relu(fn.maximum(X, Y))),
    (Min(X, Y), fn.minimum(X, Y)),
    (Abs(X), fn.absval(X)),
    (Abs(A), fn.absval(A)),
    (sqrt(X**2), fn.absval(X)),
    (sqrt(A**2), fn.absval(A)),
    (fn.absval(X) ** 2, X**2),
    (sympy.sign(X), fn.sign0(X)),
    (sympy.floor(X), fn.floor(X)),
    (sympy.ceiling(X), -fn.floor(-X)),
    (sympy.frac(X), X - fn.floor(X)),
    (sympy.Mod(X, Y), X - Y * fn.floor(X / Y)),
    (Heaviside(X, 0), fn.step(X)),
    (Heaviside(X, 1), 1 - fn.step(-X)),
    (Heaviside(X), S.Half + fn.sign0(X) / 2),
    (X * (1 + sympy.erf(X / sqrt(2))) / 2, X * fn.normcdf(X)),
    (log(sympy.gamma(X)), sympy.loggamma(X)),
    (sympy.digamma(X), sympy.polygamma(0, X)),
    (sympy.codegen.cfunctions.log1p(exp(X)), fn.softplus(X)),
    (sympy.sec(X), 1 / sympy.cos(X)),
    (Piecewise((X, True)), X),
    (Piecewise((X, X > 0)), Piecewise((X, X > 0), (fn.undefined(X), True))),
    (Piecewise((S.NaN, X > Y), (X, True)), Piecewise((fn.undefined(X), X > Y), (X, True))),
    (Piecewise((Y, X < 0), (X, X >= 0)), Piecewise((Y, X < 0), (X, True))),
    (Piecewise((Abs(X), X > Y), (exp(X) - 1, True)), Piecewise((fn.absval(X), X > Y), (fn.expm1(X), True))),
    (sympy.pi * X + sympy.Rational(1, 3), sympy.pi * X + sympy.Rational(1, 3)),
]


@pytest.mark.parametrize("case", RECOGNISED, ids=lambda case: str(case[0]))
def test_recognised(case):
    written, wanted = case
    assert canonical(written) == wanted
    assert canonical(wanted) == wanted


@pytest.mark.parametrize("case", RECOGNISED, ids=lambda case: str(case[0]))
def test_recognition_keeps_the_value(case):
    written, _ = case
    symbols = sorted(written.free_symbols, key=str)
    evaluate = to_numpy([written], symbols)
    for values in ([0.75, 1.5, 0.25], [0.3, -0.5, 0.125], [1.25, 1.0, 3.0]):
        values = values[: len(symbols)]
        direct = written.subs({s: sympy.Rational(v) for s, v in zip(symbols, values, strict=True)}).evalf(30)
        np.testing.assert_allclose(evaluate(*values)[0], float(direct), rtol=1e-13)


f, k = sympy.Function("f"), Symbol("k", integer=True)
REFUSED = [
    (f(X), "f(_0)"),
    (sympy.LambertW(X, -1), "principal branch"),
    (sympy.jn(9, X), "jn"),
    (sympy.I * X, "not a finite real"),
    (X + sympy.oo, "not a finite real"),
    (sympy.Derivative(f(X), X), "Derivative"),
    (sympy.Integral(exp(-(X**2)), (X, 0, Y)), "Integral"),
    (sympy.Sum(X**k, (k, 0, Y)), "Sum"),
    (sympy.besselj(7, X), "whole orders 0 to 4"),
    (sympy.besselk(sympy.Rational(1, 2), X), "expand_func"),
    (sympy.polygamma(9, X), "order 9"),
    (Piecewise((S.NaN, X > 0)), "ever holds, so it has no value"),
    (Symbol("w", imaginary=True), "not real"),
    (X + sqrt(S(-2)), "not a finite real"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: str(case[0]))
def test_refused(case):
    with pytest.raises(UnsupportedError) as caught:
        canonical(case[0])
    assert case[1] in str(caught.value)


def test_refuses_what_is_not_a_scalar():
    with pytest.raises(UnsupportedError, match="scalar"):
        canonical(sympy.Matrix([1, 2]))
    with pytest.raises(UnsupportedError, match="scalar"):
        canonical(X > 0)


def test_bessel_functions_of_a_difference():
    """SymPy takes the sign out of ``y - x`` as a quotient that is 0/0 where they are equal."""
    for kind, mirrored in ((sympy.besselj, fn.besselj), (sympy.besseli, fn.besseli)):
        for order in range(4):
            at_equal = [canonical(3 * kind(order, d)).subs({X: 2, Y: 2}) for d in (X - Y, Y - X)]
            assert {value**2 for value in at_equal} == {9 * mirrored(order, 0) ** 2}
            value = canonical(X * kind(order, Y - X)).subs({X: 2, Y: S(7) / 2}).evalf(20)
            assert abs(value - 2 * kind(order, S(3) / 2).evalf(20)) < 1e-18


def test_expected_derivatives():
    assert diff(tanh(X), X) == sympy.sech(X) ** 2
    assert diff(fn.sigmoid(X), X).definition() == fn.sigmoid(X) * fn.sigmoid(-X)
    assert diff(log(1 + exp(X)), X) == fn.sigmoid(X)
    assert diff(log(sympy.cosh(X)), X) == tanh(X)
    assert diff(Abs(X), X) == fn.sign0(X) and diff(sympy.sign(X), X) == 0
    assert diff(diff(Max(X, 0), X), X) == 0
    # no 0/0 at 0
    assert to_numpy([diff(X**Y, X)], [X, Y])(0.0, 2.0)[0] == 0.0


leaves = st.sampled_from([X, Y, S(2), S(-1), sympy.Rational(1, 3), sympy.pi])
unary = st.sampled_from(
    [
        exp,
        tanh,
        sin,
        sympy.atan,
        fn.softplus,
        fn.sigmoid,
        lambda u: log(1 + exp(u)),
        lambda u: 1 / (1 + exp(-u)),
        lambda u: exp(u) - 1,
        lambda u: log(1 + u**2),
        lambda u: log(sympy.cosh(u)),
        lambda u: sqrt(1 + u**2),
        lambda u: u**3,
        lambda u: 1 / (2 + u**2),
        Abs,
        lambda u: Max(u, 0),
    ]
)
binary = st.sampled_from(
    [
        lambda u, v: u + v,
        lambda u, v: u * v,
        lambda u, v: u - v,
        lambda u, v: Max(u, v),
        lambda u, v: Min(u, v),
    ]
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda g, u: g(u), unary, inner), st.builds(lambda g, u, v: g(u, v), binary, inner, inner)
    ),
    max_leaves=5,
)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(expressions, st.permutations(range(3)))
def test_renaming_is_replacing(expr, order):
    """Without evaluating again: also where the order of the new names turns terms and signs around."""
    expr = canonical(expr)
    for names in ({X: placeholder(order[0]), Y: placeholder(order[1])}, {X: placeholder(5)}, {X: Y}):
        assert renamed(expr, names) == expr.xreplace(names)


def _plain(expr):
    """Back to functions that mpmath knows, through the textbook definitions."""
    return expr.replace(lambda e: isinstance(e, fn.Primitive), lambda e: e.definition())


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(expressions)
def test_random_expressions(expr):
    point = {X: 0.61, Y: -0.87}
    value = sympy.lambdify([X, Y], _plain(expr), "mpmath")
    with mpmath.workdps(40):
        want = value(mpmath.mpf(0.61), mpmath.mpf(-0.87))
        slope = mpmath.diff(lambda u: value(u, mpmath.mpf(-0.87)), mpmath.mpf(0.61))
        if not (abs(want) < 1e6 and abs(slope) < 1e6):
            return
        near_kink = any(abs(float(place.subs(point))) < 1e-9 for place in kinks(expr))
    form = canonical(expr)
    assert canonical(form) == form
    got = to_numpy([form, diff(expr, X)], [X, Y])(0.61, -0.87)
    assert abs(float(got[0]) - float(want)) <= 1e-11 * (1 + abs(float(want)))
    if not near_kink:
        assert abs(float(got[1]) - float(slope)) <= 1e-9 * (1 + abs(float(slope)))
    # a claimed sign must hold
    for signs in ({}, {X: 1, Y: -1}):
        sign = sign_of(expr, signs)
        if sign is not None:
            assert {1: want >= -1e-30, -1: want <= 1e-30, 0: abs(want) <= 1e-30}[sign]


def test_kinks():
    assert kinks(Max(X, 0) + fn.relu(X)) == (X,)
    assert kinks(Max(X, Y)) == (X - Y,)
    assert kinks(Abs(X - Y) * Max(X, Y)) in ((X - Y,), (Y - X,))
    assert kinks(Piecewise((X, X > 1), (Y, Y < 2), (0, True))) == (X - 1, Y - 2)
    assert kinks(diff(fn.relu(X * Y), X)) == (X * Y,)
    assert kinks(tanh(X) * fn.softplus(Y)) == ()
    assert kinks(fn.hypot(X, Y)) == (fn.hypot(X, Y),)


def test_second_order_zero():
    assert second_order_zero(X * Z + sin(Y), X, Y)
    assert second_order_zero((X + Y) ** 2 - 2 * X * Y, X, Y)
    assert second_order_zero(fn.relu(X), X, X)
    assert not second_order_zero(X * Y, X, Y)
    assert not second_order_zero(exp(X), X, X)


SIGNS = [
    (1 - tanh(X) ** 2, 1),
    (-(X**2), -1),
    (fn.sigmoid(X) * fn.sigmoid(-X), 1),
    (X * Y, None),
    (X - X, 0),
    (exp(X) + X**4, 1),
    (1 - sympy.sin(X), 1),
    (log(1 + X**2), 1),
    (-fn.softplus(X) / (1 + Y**2), -1),
    (1 / X**3, None),
    (sqrt(2) - sympy.Rational(7, 5), 1),
    (Piecewise((X**2, X > 0), (exp(Y), True)), 1),
    (sympy.polygamma(1, X), 1),
    (sympy.polygamma(2, X), -1),
    (Max(X, -1), None),
    (sqrt(1 + X**2) - 1, None),
    (X**4 - 2 * X**2 + 1, None),
]


@pytest.mark.parametrize("case", SIGNS, ids=lambda case: str(case[0]))
def test_sign_of(case):
    assert sign_of(case[0], {}) == case[1]


def test_sign_of_uses_the_signs_of_symbols():
    assert sign_of(X * Y, {X: 1, Y: -1}) == -1
    assert sign_of(X * Y, {X: 0, Y: None}) == 0
    assert sign_of(X**3 - Y, {X: 1, Y: -1}) == 1
    assert sign_of(tanh(X) * Y, {X: -1, Y: -1}) == 1
    assert sign_of(1 / X, {X: 1}) == 1


def test_cost():
    assert cost(X**2 + X * Y) == type(cost(X))(adds=1, muls=2, divs=0, calls=())
    assert cost(exp(X) / (1 + exp(X) ** 2)).calls == (("exp", 1), ("sigmoid", 1))
    assert operations(X + Y) == 1 and operations(tanh(X)) > operations(X * Y + X)


def _c(expr, real="float64"):
    code = to_c([expr], {X: Name("x"), Y: Name("y"), Z: Element(Name("z"), Name("i"))}, real)
    return [(name, expression(tree)) for name, tree in code.lets], expression(code.results[0])


def test_c_text():
    assert _c(X**2) == ([], "x * x")
    assert _c(X * Y - 2 * Z) == ([], "(x * y) - (2.0 * z[i])")
    assert _c(-X / 3, "float32") == ([], "-(0.33333334f * x)")
    assert _c(X / sqrt(Y)) == ([], "x / sqrt(y)")
    assert _c(1 / sqrt(Y), "float32") == ([], "1.0f / sqrtf(y)")
    assert _c(X**7) == ([("t0", "x * x * x")], "t0 * t0 * x")
    assert _c(X ** sympy.Rational(1, 3)) == ([], "pow(x, 0.3333333333333333)")
    assert _c(sympy.pi * X) == ([], "3.141592653589793 * x")
    assert _c(S(3)) == ([], "3.0") and _c(S(-1) / 3, "float32") == ([], "-0.33333334f")
    assert _c(S(10) ** -7) == ([], "1.0e-07") and _c(sympy.Float("1e20"), "float32") == ([], "1.0e+20f")
    assert _c(Piecewise((X, (X > 0) & (Y < 1)), (Y, True)))[1] == "(((x > 0.0) && (y < 1.0)) ? x : y)"
    assert _c(sin(X * Y) + X * Y) == ([("t0", "x * y")], "t0 + sin(t0)")
    code = to_c([fn.softplus(X), sympy.polygamma(2, X)], {X: Name("x")}, "float32")
    assert [expression(tree) for tree in code.results] == ["cpgen_softplus_f32(x)", "cpgen_polygamma_f32(2, x)"]
    assert list(calls(code.results)) == ["cpgen_softplus_f32", "cpgen_polygamma_f32"]


def test_c_refusals():
    with pytest.raises(UnsupportedError, match="1.00000E\\+60 overflows in float32"):
        to_c([X + sympy.Float("1e60")], {X: Name("x")}, "float32")
    with pytest.raises(UnsupportedError, match="1.00000E-60 underflows in float32"):
        to_c([X + sympy.Float("1e-60")], {X: Name("x")}, "float32")
    with pytest.raises(UnsupportedError, match="beyond the range of float32"):
        to_c([X * sympy.Float("1e-90")], {X: Name("x")}, "float32")
    with pytest.raises(UnsupportedError, match="no C name"):
        to_c([X + Y], {X: Name("x")})
    with pytest.raises(RequestError, match="float16"):
        to_c([X], {X: Name("x")}, "float16")


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_c_agrees_with_numpy(real, native):
    exprs = [
        X**5 * Y - X / (3 * Y),
        (X + Y) ** -3 + X ** sympy.Rational(5, 2) / Y ** sympy.Rational(3, 2),
        Piecewise((X**2, X > 1), (-Y, (Y > 2) | (X < 0.5)), (sympy.pi, True)),
        exp(-((X - Y) ** 2) / 2) / sqrt(2 * sympy.pi),
        -X - Y - 1,
        S(7) / 3,
        Y,
        X**Y - 2**X,
        Piecewise((1, ~((X > 1) & (Y > 1))), (2, True)) + Piecewise((3, sympy.Eq(X, Y)), (4, True)),
    ]
    rng = np.random.default_rng(3)
    x, y = (rng.uniform(0.1, 3, 64).astype(real) for _ in range(2))
    y[:5] = x[:5]
    compiled, vectorised = native(exprs, [X, Y], real)(x, y), to_numpy(exprs, [X, Y])(x, y)
    for expr, ours, theirs in zip(exprs, compiled, vectorised, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13 if real == "float64" else 2e-5, err_msg=str(expr))


def test_numpy_types_and_shapes():
    evaluate = to_numpy([X + sympy.Rational(1, 3), S(2), Y, Piecewise((1, X > 0), (0, True))], [X, Y])
    x, y = np.ones((3, 1), np.float32), np.ones((1, 4), np.float32)
    assert all(v.shape == (3, 4) and v.dtype == np.float32 for v in evaluate(x, y))
    assert all(v.dtype == np.float64 for v in evaluate(x, y.astype(float)))
    assert all(v.dtype == np.float64 for v in evaluate(1, 2))
    assert to_numpy([X], [X]) is to_numpy([X], [X])


def test_order_does_not_depend_on_hashing():
    program = (
        "from cpgen.scalar import *; from cpgen.code.tree import Name; import sympy as s;"
        "x=[s.Symbol(f'v{i}', real=True) for i in range(6)];"
        "e=sum(s.tanh(a*b)+s.Max(a,b)+s.exp(a-b) for a in x for b in x if a!=b);"
        "c=to_c([e, diff(e,x[2])],{a:Name(a.name) for a in x},'float64');print(c.lets,c.results,kinks(e),cost(e))"
    )
    texts = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        texts.add(done.stdout)
    assert len(texts) == 1


huber = function(
    "huber",
    fdiff=(
        lambda x, d: fn.maximum(-d, fn.minimum(x, d)),
        lambda x, d: fn.absval(x) - fn.minimum(fn.absval(x), d),
    ),
    c64="(fabs({0}) < {1}) ? (0.5 * {0} * {0}) : ({1} * (fabs({0}) - (0.5 * {1})))",
    c32="(fabsf({0}) < {1}) ? (0.5f * {0} * {0}) : ({1} * (fabsf({0}) - (0.5f * {1})))",
    numpy=lambda x, d: np.where(np.abs(x) < d, 0.5 * x * x, d * (np.abs(x) - 0.5 * d)),
    kink=lambda x, d: fn.absval(x) - d,
)


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_user_function(real, native):
    expr = huber(X, 1) * Y
    assert canonical(expr) == expr
    exprs = [expr, diff(expr, X), diff(expr, Y)]
    x, y = np.array([-3.0, -0.5, 0.25, 2.0], real), np.array([1.0, 2.0, 3.0, 4.0], real)
    want = [
        np.where(abs(x) < 1, x * x / 2, abs(x) - 0.5) * y,
        np.clip(x, -1, 1) * y,
        np.where(abs(x) < 1, x * x / 2, abs(x) - 0.5),
    ]
    for values in (native(exprs, [X, Y], real)(x, y), to_numpy(exprs, [X, Y])(x, y)):
        for got, expected in zip(values, want, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert kinks(expr) == (fn.absval(X) - 1,)
    assert float(huber(2, 1).evalf()) == 1.5
    code = to_c([expr], {X: Name("x"), Y: Name("y")}, real, prefix="mine_")
    assert list(calls(code.results)) == ["mine_huber_f64" if real == "float64" else "mine_huber_f32"]


def test_user_function_refusals():
    with pytest.raises(ModelError, match="letters"):
        function("a b", (lambda x: x,), "{0}", np.abs)
    with pytest.raises(ModelError, match="fdiff"):
        function("g", (), "{0}", np.abs)
    with pytest.raises(ModelError, match="c64"):
        function("g", (lambda x: x,), "{1}", np.abs)
    g = function("g", (lambda x: x,), "{0} * {0}", np.square)
    with pytest.raises(UnsupportedError, match="float32"):
        to_c([g(X)], {X: Name("x")}, "float32")
    other = function("g", (lambda x: x,), "{0} + {0}", np.square)
    with pytest.raises(UnsupportedError, match="two user functions"):
        to_c([g(X) + other(X)], {X: Name("x")})


def test_errors_say_where():
    class Place:
        file, line = "model.py", 12

    assert str(CpgenError("bad", Place())) == "bad (model.py:12)"
    assert str(CpgenError("bad")) == "bad"


def test_table_is_complete():
    for entry in PRIMITIVES:
        assert entry.domain and callable(entry.numpy)
        assert entry.c and entry.arity > 0
        assert (entry.kink == "") == (entry.kink_at is None)
