"""The front end: declare axes, inputs, parameters, definitions and an objective in index notation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import sympy
from sympy.core.function import AppliedUndef

from cpgen.errors import ModelError, RequestError, ShapeError
from cpgen.ir.build import make_map, new_input, read
from cpgen.ir.nodes import ROWS, Dim, Graph, Input, Node, Origin, topological
from cpgen.ir.recur import components
from cpgen.model.constants import constant_values, position_name
from cpgen.model.expressions import Axis, Read, Reduction, free_axes
from cpgen.model.lower import Lowering
from cpgen.model.names import check_name
from cpgen.model.place import caller
from cpgen.model.split import canonical_in, is_beyond, measures, split, symbols_in
from cpgen.model.states import State, opened, previous_name
from cpgen.model.subscripts import NO_SUBSCRIPT, NoSubscript, parsed, reach
from cpgen.scalar import operations, placeholder, renamed

# operations up to which a plain expression stays one map, whose curvature is then exact
ONE_MAP = 2000
# and operations of it written out as a tree: SymPy's methods, and its derivatives' text, visit what is shared every time
ONE_TREE = 4000


class Variable:
    """A declared variable or definition; subscript it to read it: ``W[h, i]``, ``x[n, i + 1]``.

    ``x.padded[n, 2*p + k - 1]`` reads zero outside the extents; without ``padded`` such a subscript is refused.
    """

    def __init__(self, model: Model, name: str, axes: tuple[Axis, ...], padded: bool = False) -> None:
        self._model, self.name, self.axes, self._padded = model, name, axes, padded

    @property
    def padded(self) -> Variable:
        return Variable(self._model, self.name, self.axes, padded=True)

    def __getitem__(self, subscripts: Any) -> Read:
        given = subscripts if isinstance(subscripts, tuple) else (subscripts,)
        self._model._check_subscripts(self.name, self.axes, given, self._padded)
        return Read(self.name, given, self._padded)

    def __repr__(self) -> str:
        return f"{self.name}[{', '.join(a.name for a in self.axes)}]"

    def _sympy_(self) -> sympy.Expr:
        raise ModelError(
            f"{self.name} is used without subscripts; write {self!r}", self._model._here(self.name)
        )

    def _bare(self, *_: object) -> Any:
        """Arithmetic on the variable itself: forgotten subscripts."""
        return self._sympy_()

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = _bare
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _bare
    __abs__ = __lt__ = __le__ = __gt__ = __ge__ = __float__ = __iter__ = _bare

    def __array_ufunc__(self, ufunc: Any, *_: object, **__: object) -> Any:
        raise ModelError(
            f"np.{ufunc.__name__} computes with numbers and {self.name} is symbolic: write sympy's function of {self!r}",
            self._model._here(self.name),
        )


class StateVariable(Variable):
    """A state: subscript it like a definition once it is defined; ``h.previous[n, t, j]`` may be read before."""

    @property
    def previous(self) -> Variable:
        """The state one step back along its sequential axis, and its start value before the first step."""
        return Variable(self._model, previous_name(self.name), self.axes)


class Model:
    """A scalar objective as a graph of indexed definitions.

    Every node is a definition ``name[axes] = expression``; whatever the primitive table differentiates may stand in it.
    See the README for an example.  Declaration errors are raised at the declaration, as ModelError or ShapeError with
    the user's file and line.
    """

    def __init__(self, name: str) -> None:
        self._origin = caller()
        self.name = check_name(name, "the model", self._origin)
        self._axes: dict[str, Axis] = {}
        self._variables: dict[str, Input] = {}
        self._definitions: dict[str, Node] = {}
        self._shapes: dict[str, tuple[Axis, ...]] = {}
        self._states: dict[str, State] = {}
        self._lowering = Lowering(self._node_of)
        self._objective: Node | None = None
        self._reduction = "sum"
        self._loss_argument: Node | None = None
        self._scale: Input | None = None

    def __repr__(self) -> str:
        def listed(names: Sequence[str]) -> str:
            return ", ".join(str(Read(name, self._shapes[name])) for name in names) or "none"

        kinds = {"inputs": "data", "parameters": "param"}
        if any(v.kind == "constant" for v in self._variables.values()):
            kinds["constants"] = "constant"
        lines = [f"model {self.name}: axes {', '.join(f'{a} of {a.size_text}' for a in self._axes.values()) or 'none'}"]
        for what, kind in kinds.items():
            lines.append(f"  {what} {listed([name for name, v in self._variables.items() if v.kind == kind])}")
        lines.append(f"  definitions {listed(list(self._definitions))}")
        objective = "none yet" if self._objective is None else self._objective.origin.equation or "declared"
        lines.append(f"  objective ({self._reduction} over rows): {objective[:200]}")
        return "\n".join(lines)

    # Declarations

    def axes(self, letters: str, **extents: Any) -> tuple[Axis, ...] | Axis:
        """Index letters with their extents: ``n, i = m.axes("n i", n=cp.ROWS, i=64)``.  One letter gives one axis."""
        origin = self._here("axes")
        names = letters.replace(",", " ").split()
        for name in names:
            if name not in extents:
                raise ModelError(
                    f"the axis {name} has no extent: pass {name}=... (a number, or cp.ROWS)", origin
                )
        for name in extents:
            if name not in names:
                raise ModelError(f"the extent {name}= belongs to no letter in {letters!r}", origin)
        made = tuple(self.axis(name, extents[name]) for name in names)
        return made if len(made) != 1 else made[0]

    def axis(self, name: str, extent: Any) -> Axis:
        """One index letter with its extent (a positive integer or ``cp.ROWS``)."""
        origin = self._here(f"axis {name}")
        check_name(name, "the axis", origin)
        if extent is not ROWS and (isinstance(extent, bool) or not hasattr(extent, "__index__")):
            raise ModelError(
                f"the extent of axis {name} is {extent!r}; it must be an integer or cp.ROWS", origin
            )
        size: int | Dim = ROWS if isinstance(extent, Dim) else int(extent)
        if isinstance(size, int) and size < 1:
            raise ShapeError(f"the extent of axis {name} is {extent}; it must be at least 1", origin)
        if name in self._axes:
            raise ModelError(
                f"the axis {name} is declared already (extent {self._axes[name].size_text})", origin
            )
        if f"position_of_{name}" in self._shapes:
            raise ModelError(
                f"the axis {name}: cp.position would read it as position_of_{name}, and a variable has that name", origin
            )
        if extent is ROWS and any(a.is_rows for a in self._axes.values()):
            first = next(a.name for a in self._axes.values() if a.is_rows)
            raise ModelError(
                f"the axis {name} is a second axis of rows beside {first}; a model has one", origin
            )
        self._axes[name] = Axis(name, size)
        return self._axes[name]

    def input(
        self, name: str, *axes: Axis, low: float | None = None, high: float | None = None, unit: str = ""
    ) -> Any:
        """Data: usually with the rows axis first.

        ``low`` and ``high``: between what the values lie (either may be left out), ``unit``: in what they are measured.
        Test data (the check after loading, ``verify``, a bundle's vectors) keep to the range and what is printed says
        it; calls do not test it.  Raises ModelError unless low < high, both finite.
        """
        return self._declare(name, axes, "data", low, high, unit)

    def param(
        self, name: str, *axes: Axis, low: float | None = None, high: float | None = None, unit: str = ""
    ) -> Any:
        """A parameter: shared by all rows.  ``low``, ``high`` and ``unit`` as for :meth:`input`."""
        variable = self._declare(name, axes, "param", low, high, unit)
        if any(a.is_rows for a in axes):
            del self._variables[name], self._shapes[name]
            raise ModelError(
                f"the parameter {name} has the axis of rows; declare it with input(...)", self._here(name)
            )
        return variable

    def constant(self, name: str, axes: Sequence[Axis] | Axis, array: Any) -> Any:
        """An array that belongs to the model: a table of positions, a mask, weights of a quadrature, a running mean.

        ``array`` is shaped like ``axes``, none of them the rows.  Calls are given no array for it, nothing is
        differentiated by it, and a bundle has it as ``const`` data.  Raises ModelError for what is not an array of finite
        real numbers, ShapeError for another shape.
        """
        axes = (axes,) if isinstance(axes, Axis) else tuple(axes)
        origin = self._new_name(name, "the constant")
        self._check_axes(name, axes, origin)
        if any(a.is_rows for a in axes):
            raise ModelError(f"the constant {name} has the axis of rows; declare it with input(...)", origin)
        values = constant_values(name, array, tuple(a.size for a in axes), origin)
        origin = Origin(name, origin.file, origin.line, "", tuple(a.name for a in axes))
        self._variables[name] = Input(name, values.shape, "constant", origin, values=values)
        self._shapes[name] = axes
        return Variable(self, name, axes) if axes else Read(name)

    def _declare(
        self, name: str, axes: tuple[Axis, ...], kind: str, low: float | None, high: float | None, unit: str
    ) -> Any:
        what = "the input" if kind == "data" else "the parameter"
        origin = self._new_name(name, what)
        self._check_axes(name, axes, origin)
        origin = Origin(name, origin.file, origin.line, "", tuple(a.name for a in axes))
        low, high = _end(name, "low", low, origin), _end(name, "high", high, origin)
        if low is not None and high is not None and not low < high:
            raise ModelError(f"{name}: low={low} is not below high={high}", origin)
        if not isinstance(unit, str) or not unit.isprintable() or "*/" in unit or len(unit) > 40:
            raise ModelError(f"{name}: unit={unit!r} is not a short text such as 'V' or 'm/s'", origin)
        shape = tuple(a.extent for a in axes)
        self._variables[name] = Input(name, shape, kind, origin, 0, low, high, unit)
        self._shapes[name] = axes
        return Variable(self, name, axes) if axes else Read(name)

    def state(
        self, name: str, axes: Sequence[Axis] | Axis, along: Axis, start: Any = 0, reverse: bool = False
    ) -> StateVariable:
        """A definition that is made step by step along one of its axes, and may read itself one step back.

        Declare it, then define it: ``h = m.state("h", (n, t, k), along=t, start=h0[n, k])`` and
        ``m.define(h, sp.tanh(cp.sum(W[k, j]*h.previous[n, t, j], j) + u[n, t, k]))``.  Several states may read each
        other's ``previous``, and at the same step what is defined already.  ``start``: an expression without the axis
        ``along``; what ``previous`` is at the first step.  ``reverse``: from the last step to the first.  The number of
        steps changes neither the derivation nor the text that is made.

        Raises ModelError for the axis of rows, for an axis that the state has not, or a start that varies along it.
        """
        axes = (axes,) if isinstance(axes, Axis) else tuple(axes)
        origin = self._new_name(name, "the state")
        self._check_axes(name, axes, origin)
        if along not in axes:
            raise ModelError(f"the state {name} has no axis {along}: along= names one of {axes}", origin)
        if along.is_rows:
            raise ModelError(
                f"the state {name} cannot go along {along}: the rows are independent of each other", origin
            )
        others = tuple(a for a in axes if a != along)
        expression = self._expression(name, start, origin)
        if along in free_axes(expression):
            raise ModelError(
                f"the start of {name} varies along {along}: it is what {name}.previous is at the first step",
                origin,
            )
        self._check_free(name, expression, others, origin)
        letters = tuple(a.name for a in axes)
        origin = Origin(
            name, origin.file, origin.line, f"{name}.previous at the start = {expression}", letters
        )
        begin = None
        if expression != 0:
            begin = self._lowering.definition(
                expression, others, replace(origin, axes=tuple(a.name for a in others))
            )
        self._states[name] = opened(name, axes, along, begin, bool(reverse), origin)
        self._shapes[name] = axes
        return StateVariable(self, name, axes)

    def define(self, name: str | StateVariable, axes: Any, expr: Any = None) -> Any:
        """``name[axes] = expr``.  Returns the variable (or, without axes, the expression that reads it).

        ``define(state, expr)`` says what a declared state is at each step, over the axes that it was declared with.
        """
        label = name.name if isinstance(name, Variable) else name
        try:
            if isinstance(name, StateVariable) and expr is None:
                return self._define_state(name, axes)
            if isinstance(label, str) and label in self._states:
                raise ModelError(
                    f"{label} is a state, whose axes are declared: write m.define({label}, expression) with what m.state "
                    "returned",
                    self._here(label),
                )
            return self._define(label, axes, expr)
        except RecursionError:
            raise _too_deep(label, axes if expr is None else expr, self._here(label)) from None

    def _define_state(self, variable: StateVariable, expr: Any) -> StateVariable:
        name = variable.name
        state = self._states.get(name) if variable._model is self else None
        origin = self._here(name)
        if state is None:
            raise ModelError(f"the state {name} belongs to another model", origin)
        if state.is_defined:
            raise ModelError(
                f"the state {name} is defined already ({self._definitions[name].origin.equation})", origin
            )
        node = self._lowered(name, expr, state.axes, origin)
        state.close(node)
        self._definitions[name] = node
        if all(s.is_defined for s in self._states.values()):
            components(topological([node]))
        return variable

    def _lowered(self, name: str, expr: Any, axes: tuple[Axis, ...], origin: Origin) -> Node:
        """The node of a definition."""
        expression = self._expression(name, expr, origin)
        self._check_free(name, expression, axes, origin)
        letters = tuple(a.name for a in axes)
        left = f"{name}[{', '.join(letters)}]" if letters else name
        origin = Origin(name, origin.file, origin.line, f"{left} = {expression}", letters)
        return self._lowering.definition(expression, axes, origin)

    def _define(self, name: str, axes: Sequence[Axis] | Axis, expr: Any) -> Any:
        axes = (axes,) if isinstance(axes, Axis) else tuple(axes)
        if any(r.variable == name for r in getattr(expr, "atoms", lambda kind: ())(Read)):
            raise ModelError(
                f"the definition {name} reads itself; definitions are made in order and have no cycles: for a recurrence "
                f"declare {name} = m.state(...) first, which may be read one step back ({name}.previous[...])",
                self._here(name),
            )
        origin = self._new_name(name, "the definition")
        self._check_axes(name, axes, origin)
        node = self._lowered(name, expr, axes, origin)
        self._definitions[name] = node
        self._shapes[name] = axes
        return Variable(self, name, axes) if axes else Read(name)

    def objective(self, expr: Any, reduction: str = "sum", convex_in: Any = None) -> None:
        """The objective of one row; rows are summed, or averaged with ``reduction="mean"``.

        ``convex_in``: the definition in which the loss is convex (for Gauss-Newton), by name or as a variable.
        """
        try:
            self._set_objective(expr, reduction, convex_in)
        except RecursionError:
            raise _too_deep("objective", expr, self._here("objective")) from None

    def _set_objective(self, expr: Any, reduction: str, convex_in: Any) -> None:
        origin = self._here("objective")
        if self._objective is not None:
            raise ModelError("the objective is declared already", origin)
        if reduction not in ("sum", "mean"):
            raise ModelError(f'reduction={reduction!r} is neither "sum" nor "mean"', origin)
        expression = self._expression("objective", expr, origin)
        rows = next((a for a in self._axes.values() if a.is_rows), None)
        free = free_axes(expression)
        extra = sorted(a.name for a in free if a is not rows and a != rows)
        if extra:
            raise ShapeError(
                f"the objective varies over {', '.join(extra)}; it must be one number per row: sum over "
                f"{', '.join(extra)} with cp.sum(..., {', '.join(extra)})",
                origin,
            )
        axes = (rows,) if rows is not None and rows in free else ()
        self._check_free("objective", expression, axes, origin)
        letters = tuple(a.name for a in axes)
        left = f"objective[{', '.join(letters)}]" if letters else "objective"
        origin = Origin("objective", origin.file, origin.line, f"{left} = {expression}", letters)
        node = self._lowering.definition(expression, axes, origin)
        if reduction == "mean" and axes:
            self._scale = new_input("row_scale", (), "scale", Origin("row_scale"))
            args = [read(node, 0), read(self._scale)]
            node = make_map(node.shape, 1, args, placeholder(0) * placeholder(1), origin=origin)
        self._objective, self._reduction = node, reduction if axes else "sum"
        if convex_in is not None:
            name = convex_in if isinstance(convex_in, str) else getattr(convex_in, "name", str(convex_in))
            if name not in self._definitions:
                raise ModelError(
                    f"convex_in={name!r} is no definition (there are: {', '.join(self._definitions) or 'none'})",
                    origin,
                )
            self._loss_argument = self._definitions[name]

    # Results

    def graph(self) -> Graph:
        """The lowered model.  Raises ModelError if there is no objective."""
        if self._objective is None:
            raise ModelError(f"the model {self.name!r} has no objective; call objective(...)", self._origin)
        open_states = [state for state in self._states.values() if not state.is_defined]
        if open_states:
            raise ModelError(
                f"the state {open_states[0].name} is never defined: write m.define({open_states[0].name}, ...)",
                open_states[0].origin,
            )
        components(topological([self._objective, *self._definitions.values()]))
        return Graph(
            self.name,
            self._objective,
            tuple(self._variables.values()),
            tuple(self._definitions.items()),
            tuple(self._lowering.regions),
            self._reduction,
            self._loss_argument,
            self._origin,
        )

    # Checks

    def _here(self, name: str) -> Origin:
        return caller(name)

    def _new_name(self, name: str, what: str) -> Origin:
        origin = self._here(str(name))
        check_name(name, what, origin)
        if any(position_name(a) == name for a in self._axes.values()):
            raise ModelError(f"{what} {name}: cp.position reads by this name; choose another", origin)
        if name in self._shapes:
            raise ModelError(
                f"{what} {name}: the name is taken already; every definition has its own", origin
            )
        return origin

    def _check_axes(self, name: str, axes: Sequence[Any], origin: Origin) -> None:
        for position, a in enumerate(axes):
            if not isinstance(a, Axis):
                raise ModelError(
                    f"{name}: {a!r} is not an axis of this model (declare it with axes(...))", origin
                )
            if self._axes.get(a.name) != a:
                raise ModelError(f"{name}: the axis {a.name} belongs to another model", origin)
            if a.is_rows and position > 0:
                raise ShapeError(f"{name}: the axis of rows, {a.name}, must come first", origin)
        letters = [a.name for a in axes]
        twice = sorted({x for x in letters if letters.count(x) > 1})
        if twice:
            raise ModelError(
                f"{name}: the axis {', '.join(twice)} stands twice on the left; declare a second axis of that extent",
                origin,
            )

    def _expression(self, name: str, expr: Any, origin: Origin) -> sympy.Expr:
        try:
            expression = sympy.sympify(expr)
        except sympy.SympifyError as error:
            raise ModelError(f"{name}: {expr!r} is not an expression", origin) from error
        if not isinstance(expression, sympy.Expr):
            raise ModelError(f"{name}: {expr!r} is not a scalar expression", origin)
        _check_scalars(name, expression, origin)
        return expression

    def _check_free(self, name: str, expr: sympy.Expr, axes: Sequence[Axis], origin: Origin) -> None:
        loose = sorted(a.name for a in free_axes(expr) if a not in axes)
        if loose:
            raise ModelError(
                f"{name}: the axis {', '.join(loose)} is neither on the left nor summed over in {expr}; "
                f"put it on the left or write cp.sum(..., {', '.join(loose)})",
                origin,
            )
        for r in _reductions(expr):
            if not r.keeps_axis and any(a in axes for a in r.axes):
                both = sorted(a.name for a in r.axes if a in axes)
                raise ModelError(
                    f"{name}: the axis {', '.join(both)} is summed over in {r} and stands on the left as well; "
                    "declare a second axis of that extent",
                    origin,
                )

    def _check_subscripts(
        self, name: str, axes: tuple[Axis, ...], given: tuple[Any, ...], padded: bool
    ) -> None:
        origin = self._here(name)
        if len(given) != len(axes):
            raise ShapeError(
                f"{name} has {len(axes)} axes ({', '.join(a.name for a in axes)}) but is read with "
                f"{len(given)} subscripts",
                origin,
            )
        for a, subscript in zip(axes, given, strict=True):
            self._check_subscript(name, a, sympy.sympify(subscript), padded, origin)

    def _check_subscript(
        self, name: str, own: Axis, subscript: sympy.Expr, padded: bool, origin: Origin
    ) -> None:
        letters = [s for s in subscript.free_symbols if not isinstance(s, Axis)]
        if letters:
            raise ModelError(
                f"{name}: the subscript {subscript} contains {letters[0]}, which is not an axis", origin
            )
        rows = [s for s in subscript.free_symbols if s.is_rows]
        if own.is_rows or rows:
            if not (own.is_rows and subscript == own):
                raise ShapeError(
                    f"{name}: the rows are read as [{own.name if own.is_rows else '...'}] only; rows are independent, so "
                    f"the subscript {subscript} is refused",
                    origin,
                )
            return
        try:
            form = parsed(subscript)
        except NoSubscript:
            raise ModelError(f"{name}: the subscript {subscript} is {NO_SUBSCRIPT}", origin) from None
        low, high = reach(form, own.size)
        size = own.size
        if padded or (low >= 0 and high < size):
            return
        if isinstance(subscript, Axis):
            raise ShapeError(
                f"{name}: the axis {own.name} has extent {size} but is read with {subscript.name}, which has extent "
                f"{subscript.extent}",
                origin,
            )
        raise ShapeError(
            f"{name}: the subscript {subscript} runs from {low} to {high} but the axis {own.name} has extent {size}; "
            f"shorten the axis, or write {name}.padded[...] to read zero outside",
            origin,
        )

    def _node_of(self, name: str, origin: Origin) -> Node:
        if name in self._variables:
            return self._variables[name]
        if name in self._definitions:
            return self._definitions[name]
        counted = next((a for a in self._axes.values() if position_name(a) == name), None)
        if counted is not None:
            values = np.arange(float(counted.size))
            about = Origin(name, origin.file, origin.line, "", (counted.name,))
            self._variables[name] = Input(name, values.shape, "constant", about, values=values)
            self._shapes[name] = (counted,)
            return self._variables[name]
        if name in self._states:
            raise ModelError(
                f"{origin.name}: the state {name} is read before it is defined; until then only "
                f"{previous_name(name)}[...] can be read, one step back",
                origin,
            )
        for state in self._states.values():
            if name == previous_name(state.name):
                return state.previous
        raise ModelError(f"{origin.name}: {name} is not declared in the model {self.name!r}", origin)


def _end(name: str, which: str, value: object, origin: Origin) -> float | None:
    """A declared end of a range as a number."""
    if value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if isinstance(value, (bool, str)) or not math.isfinite(number):
        raise ModelError(f"{name}: {which}={value!r} is not a finite number; leave it out if there is no limit", origin)
    return number


def _too_deep(name: str, expr: Any, origin: Origin) -> ModelError:
    return ModelError(
        f"{name}: the expression is nested {measures(sympy.sympify(expr))[0]} levels deep, more than one definition can "
        "be: define parts of it by names of their own",
        origin,
    )


def _reductions(expr: sympy.Expr) -> list[Reduction]:
    return sorted(expr.atoms(Reduction), key=str)


def _difference(one: sympy.Symbol, other: sympy.Symbol) -> str:
    """The assumptions of two symbols that are not the same."""
    known = [symbol.assumptions0 for symbol in (one, other)]
    return ", ".join(k for k in sorted({*known[0], *known[1]}) if known[0].get(k) != known[1].get(k)) or "their kinds"


def _check_scalars(name: str, expr: sympy.Expr, origin: Origin) -> None:
    """Refuse SymPy's own matrices, indexed arrays and functions of time, saying what stands for them here."""
    seen: set[sympy.Basic] = set()
    waiting: list[sympy.Basic] = [expr]
    while waiting:  # each part once, however often it is shared
        part = waiting.pop()
        if part in seen:
            continue
        seen.add(part)
        if not isinstance(part, Read):
            waiting.extend(part.args)
        if isinstance(part, (sympy.MatrixSymbol, sympy.MatrixExpr)) or part.is_Matrix:
            raise ModelError(
                f"{name}: {part} is a matrix of SymPy; declare W = m.param('W', h, i) and write cp.sum(W[h, i]*x[i], i); "
                "for a small one write out its elements: X.as_explicit() with a symbol for each",
                origin,
            )
        if isinstance(part, (sympy.Indexed, sympy.IndexedBase)):
            raise ModelError(
                f"{name}: {part} is an IndexedBase of SymPy, whose extent is not known; declare it by m.param or m.input "
                "over axes of a cp.Model and read that",
                origin,
            )
        of_time = isinstance(part, AppliedUndef) and all(isinstance(a, sympy.Symbol) for a in part.args)
        if of_time or isinstance(part, sympy.Derivative):
            raise ModelError(
                f"{name}: {part} is an unknown function (of time, from dynamicsymbols); put a symbol in its place, "
                "derivatives first: expr.subs({q.diff(t): sp.Symbol('qd')}).subs({q: sp.Symbol('q')})",
                origin,
            )


def is_expression(candidate: object) -> bool:
    """Whether something is a plain SymPy expression."""
    return isinstance(candidate, sympy.Expr)


def wrt_names(wrt: Any, model: Any) -> list[str] | None:
    """The names that ``wrt`` means, in order; None for the default.  Raises RequestError."""
    if wrt is None:
        return None
    if isinstance(wrt, str):
        return [wrt]
    if isinstance(wrt, Variable):
        if wrt._model is not model:
            raise RequestError(f"wrt names {wrt.name} of another model")
        return [wrt.name]
    if isinstance(wrt, Read):
        return [wrt.variable]
    if isinstance(wrt, sympy.MatrixBase):
        wrt = wrt.flat()
    if isinstance(wrt, (sympy.Symbol, AppliedUndef)) or not isinstance(wrt, Iterable):
        if not isinstance(wrt, sympy.Basic):
            raise RequestError(f"wrt={wrt!r} names no variable: give names, symbols or variables of the model")
        return [str(wrt)]
    found = [name for item in wrt for name in wrt_names(item, model) or ()]
    return sorted(found) if isinstance(wrt, (set, frozenset)) else found


def from_expression(expr: sympy.Expr, wrt: Sequence[str] | None, name: str = "expression") -> Model:
    """A plain SymPy expression as a model: every symbol is an input with one value a row.

    Up to a few thousand operations the expression stays one map, whose local Hessian is taken by SymPy and exact; a
    larger or very deep one is split into definitions.  Raises ModelError if ``wrt`` names something that is not in it.
    """
    _check_scalars(name, expr, caller())
    by_name: dict[str, sympy.Symbol] = {}
    free = symbols_in(expr)
    for symbol in sorted(free, key=sympy.default_sort_key):
        other = by_name.setdefault(str(symbol), symbol)
        if other != symbol:
            raise ModelError(
                f"the expression has two symbols {symbol} that SymPy tells apart (by {_difference(other, symbol)}): make "
                "each symbol once and use it everywhere",
                caller(),
            )
    letters = set(by_name)
    for letter in wrt or ():
        if letter not in letters:
            raise ModelError(
                f"wrt names {letter}, which is not in the expression (its symbols: {', '.join(sorted(letters))})",
                caller(),
            )
    model = Model(name)
    n = model.axis("n", ROWS)
    symbols = sorted(free, key=str)
    reads: dict[sympy.Basic, sympy.Expr] = {}
    for symbol in symbols:
        reads[symbol] = model.input(str(symbol), n)[n]
    if not is_beyond(expr) and measures(expr)[1] <= ONE_TREE and operations(expr) <= ONE_MAP:
        model.objective(expr.xreplace(reads))
        return model
    # real symbols, so that the canonical form is that of the definitions
    real = {s: sympy.Dummy(str(s), real=True) for s in symbols}
    parts, final = split(canonical_in(expr, real), _part_names(letters))
    reads = {real[s]: reads[s] for s in symbols}
    for symbol, part in parts:
        reads[symbol] = model.define(str(symbol), (n,), renamed(part, reads))[n]
    model.objective(renamed(final, reads))
    return model


def _part_names(taken: set[str]) -> Iterator[sympy.Symbol]:
    """Real symbols part0, part1, ... without those that the user took."""
    return (sympy.Symbol(f"part{k}", real=True) for k in count() if f"part{k}" not in taken)
