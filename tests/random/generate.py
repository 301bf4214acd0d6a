"""Random models from the whole language, each with a tree of its own that :mod:`tests.random.evaluate` evaluates."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from hypothesis import strategies as st

import cpgen as cp
from cpgen.model.expressions import free_axes
from tests.random.evaluate import Evaluator, Tree

USER = cp.function(
    "bump",
    [lambda x: (1 - x**2) / (1 + x**2) ** 2],
    c64="(({0}) / (1.0 + ({0}) * ({0})))",
    numpy=lambda x: x / (1 + x * x),
)
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "abs": sp.Abs, "relu": cp.relu, "user": USER, "trigamma": lambda x: sp.polygamma(1, x),
    "softplus": cp.softplus, "sigmoid": cp.sigmoid, "logcosh": cp.logcosh, "normcdf": cp.normcdf, "gelu": cp.gelu,
    "silu": cp.silu, "expm1": lambda x: sp.exp(x) - 1, "log1p": lambda x: sp.log(1 + x),
    "rint": cp.rint, "ceil": sp.ceiling,
    **{f: getattr(sp, f) for f in "exp sin cos tan tanh sinh cosh sech log sqrt asin acos atan asinh acosh atanh erf "
       "erfc gamma loggamma digamma floor frac sign".split()},
}  # fmt: skip
FREE = "sin cos tanh atan asinh sigmoid softplus silu logcosh sech user abs relu".split()
JUMPING = "floor ceil rint frac sign".split()
SMALL = "exp sinh cosh expm1 erf erfc normcdf gelu tan".split()  # of 1.2 tanh(argument)
POSITIVE = "log log1p sqrt gamma loggamma digamma trigamma".split()
INSIDE = "asin acos atanh".split()  # of 0.8 tanh(argument)
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "sub": lambda a, b: a - b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "max": sp.Max,
    "min": sp.Min,
    "hypot": cp.hypot,
    "atan2": sp.atan2,
    "mod": lambda a, b: a % b,
}


STEPS = [[("//", 2)], [("//", 3)], [("%", 2)], [("%", 3)], [("//", 2), ("%", 2)], [("%", 3), ("//", 2)]]
KEEPING = ("softmax", "layernorm", "rmsnorm")


def un(name: str, tree: Tree) -> Tree:
    return ("un", name, tree)


def num(top: int, bottom: int = 1) -> Tree:
    return ("num", (top, bottom))


def varies(tree: Tree) -> set[str]:
    """The axes a tree varies over."""
    kind = tree[0]
    if kind == "num":
        return set()
    if kind == "read":
        return {letter for coefficients, *_ in tree[2] for letter, _ in coefficients}
    if kind == "position":
        return {tree[1]}
    if kind == "reduce":
        inner = varies(tree[3])
        return inner if tree[1] in KEEPING else inner - set(tree[2])
    parts = tree[1] if kind in ("add", "mul") else [t for t in tree[1:] if isinstance(t, tuple)]
    return set().union(*(varies(t) for t in parts))


@dataclass
class Case:
    """One model with its data, its leaves and its independent evaluator."""

    model: cp.Model
    arrays: dict[str, np.ndarray]
    wrt: list[str]
    rows: int | None
    with_rows: set[str]
    evaluator: Evaluator


class Unwritable(Exception):
    """SymPy itself cannot build the expression: no user could hand it to cpgen."""



class Builder:
    """Draws one model from ``rng``; building it may raise CpgenError."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.has_rows = rng.random() < 0.75
        self.rows = rng.choice([1, 2, 3])
        letters = ["i", "j", "k", "l"][: rng.randint(1, 4)]
        self.axes = {
            "n": self.rows if self.has_rows else 1,
            **{x: rng.choice([1, 2, 2, 3, 3, 4]) for x in letters},
        }
        self.letters = letters
        self.m = cp.Model("random")
        self.symbols = {x: self.m.axis(x, self.axes[x]) for x in letters}
        if self.has_rows:
            self.symbols["n"] = self.m.axis("n", cp.ROWS)
        self.shapes: dict[str, tuple[str, ...]] = {}
        self.handles: dict[str, Any] = {}
        self.recent: list[str] = []

    def build(self) -> Case:
        rng = self.rng
        names: list[tuple[str, str]] = [(f"x{k}", "data") for k in range(rng.randint(1, 2))]
        names += [(f"w{k}", "param") for k in range(rng.randint(1, 3))]
        with_rows = set()
        names += [(f"c{k}", "constant") for k in range(rng.choice([0, 0, 1]))]
        constants = {}
        data = np.random.default_rng(rng.randrange(2**32))
        for name, kind in names:
            axes = tuple(rng.sample(self.letters, min(len(self.letters), rng.choice([0, 1, 1, 2, 3]))))
            if kind == "data" and self.has_rows and rng.random() < 0.85:
                axes = ("n", *axes)
                with_rows.add(name)
            self.shapes[name] = axes
            own = tuple(self.symbols[a] for a in axes)
            if kind == "constant":
                constants[name] = data.uniform(-1.2, 1.2, [self.axes[a] for a in axes])
                self.handles[name] = self.m.constant(name, own, constants[name])
            else:
                self.handles[name] = (self.m.input if kind == "data" else self.m.param)(name, *own)
        if not with_rows:
            self.rows = 1  # nothing says how many rows there are
            self.axes["n"] = 1
        variables = {name: axes for name, axes in self.shapes.items() if name not in constants}
        arrays = {v: data.uniform(-1.2, 1.2, [self.axes[a] for a in axes]) for v, axes in variables.items()}
        self.definitions: list[tuple[str, tuple[str, ...], Tree]] = []
        for _ in range(rng.randint(1, 5)):
            self.definition()
        free = ["n"] if self.has_rows else []
        parts = [self.total(self.definitions[-1][0])]
        parts += [self.tree(free, rng.randint(1, 3)) for _ in range(rng.randint(0, 2))]
        objective = parts[0] if len(parts) == 1 else ("add", parts)
        if rng.random() < 0.3:
            objective = self.function(objective)
        expr = sp.sympify(self.expression(objective))
        reduction = rng.choice(["sum", "mean"])
        self.m.objective(expr, reduction=reduction)
        # the language counts a row only where the objective varies over rows once SymPy has cancelled what cancels
        counted = self.has_rows and any(a.name == "n" for a in free_axes(expr))
        wrt = [v for v in variables if rng.random() < 0.6] or [rng.choice(list(variables))]
        divide = self.rows if counted and reduction == "mean" else 1
        evaluator = Evaluator(self.axes, variables, self.definitions, objective, divide, counted, constants)
        return Case(self.m, arrays, wrt, self.rows if self.has_rows else None, with_rows, evaluator)

    def define(self, axes: tuple[str, ...], tree: Tree) -> str:
        name = f"z{len(self.definitions)}"
        left = tuple(self.symbols[a] for a in axes)
        self.handles[name] = self.m.define(name, left, self.expression(tree))
        self.definitions.append((name, axes, tree))
        self.shapes[name] = axes
        self.recent.append(name)
        return name

    def definition(self) -> None:
        rng = self.rng
        lead = ("n",) if self.has_rows and rng.random() < 0.8 else ()
        axes = (*lead, *rng.sample(self.letters, min(len(self.letters), rng.choice([0, 1, 1, 1, 2]))))
        name = self.define(axes, self.tree(list(axes), rng.randint(1, 4)))
        plain: Tree = ("read", name, tuple((((a, 1),), 0) for a in axes), False)
        pick = rng.random()
        if pick < 0.12:  # residual
            self.define(axes, ("add", [plain, self.function(plain)]))
        elif pick < 0.24:  # recurrence
            weight = self.read(list(axes))
            for _ in range(rng.randint(2, 3)):
                name = self.define(
                    axes, un("tanh", ("add", [("mul", [weight, plain]), self.read(list(axes))]))
                )
                plain = ("read", name, plain[2], False)

    def total(self, name: str) -> Tree:
        axes = self.shapes[name]
        tree: Tree = ("read", name, tuple((((a, 1),), 0) for a in axes), False)
        if self.rng.random() < 0.7:
            tree = self.function(tree)
        bound = tuple(a for a in axes if a != "n")
        return ("reduce", self.rng.choice(["sum", "sum", "mean"]), bound, tree) if bound else tree

    def read(self, free: list[str]) -> Tree:
        rng = self.rng
        pool = [v for v, axes in self.shapes.items() if "n" in free or "n" not in axes]
        recent = [v for v in self.recent[-2:] if v in pool]
        if not pool:
            return num(rng.randint(1, 5), 2)
        name = rng.choice(recent) if recent and rng.random() < 0.5 else rng.choice(pool)
        padded = rng.random() < 0.12 and bool(self.shapes[name])
        subscripts = []
        for own in self.shapes[name]:
            if own == "n":
                subscripts.append(((("n", 1),), 0))
                continue
            size = self.axes[own]
            choices: list[Any] = [((), rng.randrange(size))]
            for a in free:
                if a == "n":
                    continue
                e = self.axes[a]
                for factor in (1, 2, -1):
                    low, high = min(0, factor * (e - 1)), max(0, factor * (e - 1))
                    offsets = list(range(-low, size - high))
                    if padded:
                        offsets = list(range(-2, 3))
                    choices += [(((a, factor),), o) for o in offsets] * (4 if factor == 1 else 1)
                for b in free:
                    if b > a and b != "n" and e + self.axes[b] - 2 < size:
                        choices.append((((a, 1), (b, 1)), 0))
            quotients = self.quotients([a for a in free if a != "n"], size)
            subscripts.append(rng.choice(quotients if quotients and rng.random() < 0.2 else choices))
        return ("read", name, tuple(subscripts), padded)

    def quotients(self, free: list[str], size: int) -> list[Any]:
        """Subscripts with // and % that stay within ``size``."""
        found: list[Any] = []
        for a in free:
            for steps in STEPS:
                for factor, offset in ((1, 0), (1, 1), (-1, 3), (-1, -1)):
                    values = [factor * p + offset for p in range(self.axes[a])]
                    for sign, by in steps:
                        values = [v // by if sign == "//" else v % by for v in values]
                    if min(values) >= 0 and max(values) < size:
                        found.append((((a, factor),), offset, *steps))
        return found

    def positive(self, tree: Tree) -> Tree:
        pick = self.rng.randrange(3)
        if pick == 0:
            return ("add", [num(1, 2), un("softplus", un("tanh", tree))])
        if pick == 1:
            return un("exp", un("tanh", tree))
        return ("add", [("ipow", un("sin", tree), 2), num(3, 5)])

    def function(self, tree: Tree) -> Tree:
        pick = self.rng.random()
        bounded = un("tanh", tree)
        if pick < 0.46:
            return un(self.rng.choice(FREE), tree)
        if pick < 0.5:
            return un(self.rng.choice(JUMPING), tree)
        if pick < 0.65:
            return un(self.rng.choice(SMALL), ("mul", [num(6, 5), bounded]))
        if pick < 0.8:
            return un(self.rng.choice(POSITIVE), self.positive(tree))
        if pick < 0.85:
            return un("acosh", ("add", [num(1), self.positive(tree)]))
        if pick < 0.92:
            return un(self.rng.choice(INSIDE), ("mul", [num(4, 5), bounded]))
        return ("ipow", tree, self.rng.choice([2, 3]))

    def tree(self, free: list[str], depth: int) -> Tree:
        rng = self.rng
        if depth == 0:
            kept = [a for a in free if a != "n"]
            if kept and rng.random() < 0.05:
                return ("position", rng.choice(kept))
            return self.read(free) if rng.random() < 0.9 else num(rng.randint(1, 7), rng.choice([1, 2, 3]))
        pick = rng.random()
        if pick < 0.15:
            return ("add", [self.tree(free, depth - 1) for _ in range(rng.randint(2, 3))])
        if pick < 0.35:
            return ("mul", [self.tree(free, depth - 1) for _ in range(2)])
        if pick < 0.55:
            return self.function(self.tree(free, depth - 1))
        if pick < 0.7:
            a, b = self.tree(free, depth - 1), self.tree(free, depth - 1)
            name = rng.choice(list(BINARY))
            if name in ("div", "hypot", "atan2", "mod"):
                b = self.positive(b)
            if name == "pow":
                a, b = self.positive(a), rng.choice([un("tanh", b), num(3, 2), num(-1, 2), num(-2)])
            return ("bin", name, a, b)
        if pick < 0.74:
            return ("select", *(self.tree(free, depth - 1) for _ in range(3)))
        return self.reduction(free, depth)

    def reduction(self, free: list[str], depth: int) -> Tree:
        rng = self.rng
        kept = [a for a in free if a != "n"]
        if kept and rng.random() < 0.3:
            along = rng.sample(kept, min(len(kept), rng.choice([1, 1, 2])))
            body = self.tree(free, depth - 1)
            used = tuple(a for a in along if a in varies(body))
            return ("reduce", rng.choice(KEEPING), used, body) if used else body
        unused = [a for a in self.letters if a not in free]
        if not unused:
            return self.tree(free, depth - 1)
        bound = rng.sample(unused, min(len(unused), rng.choice([1, 1, 2])))
        body = self.tree([*free, *bound], depth - 1)
        if rng.random() < 0.6:
            body = ("mul", [body, self.read([*free, *bound])])
        used = tuple(a for a in bound if a in varies(body))
        if not used:
            return body
        kind = rng.choice(["sum", "sum", "sum", "mean", "prod", "norm", "logsumexp", "max", "min"])
        if kind == "norm":
            body = self.positive(body)
        return ("reduce", kind, used, body)

    def subscript(self, coefficients: Any, offset: int, *steps: tuple[str, int]) -> Any:
        place = sum((f * self.symbols[a] for a, f in coefficients), offset)
        for sign, by in steps:
            place = place // by if sign == "//" else place % by
        return place

    def expression(self, tree: Tree) -> Any:
        """The tree as the user would write it."""
        kind, write = tree[0], self.expression
        if kind == "num":
            return sp.Rational(*tree[1])
        if kind == "read":
            _, name, subscripts, padded = tree
            if not subscripts:
                return self.handles[name]
            places = [self.subscript(*subscript) for subscript in subscripts]
            return (self.handles[name].padded if padded else self.handles[name])[tuple(places)]
        if kind == "position":
            return cp.position(self.symbols[tree[1]])
        if kind == "un":
            return FUNCTIONS[tree[1]](write(tree[2]))
        if kind == "bin":
            return BINARY[tree[1]](write(tree[2]), write(tree[3]))
        if kind in ("add", "mul"):
            return (sp.Add if kind == "add" else sp.Mul)(*(write(t) for t in tree[1]))
        if kind == "ipow":
            return write(tree[1]) ** tree[2]
        if kind == "select":
            test, yes, no = (write(t) for t in tree[1:])
            try:
                return sp.Piecewise((yes, sp.sympify(test) > 0), (no, True))
            except RecursionError as error:
                raise Unwritable("SymPy recurses for ever over a condition on a Piecewise") from error
        _, kind, letters, body = tree
        name = {"layernorm": "layer_norm", "rmsnorm": "rms_norm"}.get(kind, kind)
        return getattr(cp, name)(write(body), *(self.symbols[a] for a in letters))


def model_number(number: int, seed: int = 0) -> Case:
    """Model ``number`` of the stream ``seed``; the same wherever it is built.  May raise CpgenError."""
    return Builder(random.Random(f"{seed}:{number}")).build()


def randoms() -> st.SearchStrategy[random.Random]:
    """Sources of choices for :class:`Builder` that hypothesis draws, replays and shrinks."""
    return st.randoms(use_true_random=False)
