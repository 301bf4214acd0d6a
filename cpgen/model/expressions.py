"""What stands inside a definition: axes, reads of variables, reductions.  All are SymPy expressions.

They carry no values and are never differentiated by SymPy; lowering turns them into maps (:mod:`cpgen.model.lower`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray
from sympy.core.containers import Tuple

from cpgen.errors import ModelError
from cpgen.ir.nodes import Dim, Extent
from cpgen.model.place import caller


class NoIterable(ModelError, TypeError):
    """A loop over an expression; SymPy, which tries, knows it by being a TypeError."""


class Axis(sympy.Symbol):
    """An index letter with its extent: an integer, or ``ROWS`` (known at run time)."""

    __slots__ = ("extent",)
    extent: Extent

    def __new__(cls, name: str, extent: Extent) -> Axis:
        made = sympy.Symbol.__xnew__(cls, name, integer=True, nonnegative=True)
        made.extent = extent
        return made

    def __getnewargs_ex__(self) -> Any:
        return (self.name, self.extent), {}

    def _hashable_content(self) -> tuple[object, ...]:
        return (*super()._hashable_content(), str(self.extent))

    @property
    def size(self) -> int:
        """The extent of an axis that is not the rows."""
        assert isinstance(self.extent, int)
        return self.extent

    @property
    def size_text(self) -> str:
        """The extent for people: a number, or "rows"."""
        return "rows" if self.is_rows else str(self.extent)

    @property
    def is_rows(self) -> bool:
        return isinstance(self.extent, Dim)


OPERATORS = frozenset(
    "add subtract multiply divide true_divide power negative positive less less_equal greater greater_equal".split()
)


def by_numpy(expr: sympy.Expr, ufunc: Any, method: str, inputs: tuple[Any, ...]) -> Any:
    """What an operator of NumPy's numbers or arrays gives with ``expr``; its other functions are refused."""
    if ufunc.__name__ not in OPERATORS or method != "__call__":
        raise ModelError(
            f"np.{ufunc.__name__} computes with numbers and {expr} is symbolic: write SymPy's function instead", caller()
        )
    return ufunc(*(_cell(given) if isinstance(given, sympy.Basic) else given for given in inputs))


def _cell(expr: sympy.Basic) -> NDArray[np.object_]:
    """An array that holds one expression."""
    made = np.empty((), object)
    made[()] = expr
    return made


class Read(sympy.Expr):
    """A variable at subscripts, as in ``W[h, i]``; real.  ``padded``: subscripts outside the extents read zero."""

    is_commutative = True
    is_real = True
    is_extended_real = True

    def __new__(cls, variable: str, index: tuple[object, ...] = (), padded: bool = False) -> Read:
        args = (sympy.Symbol(variable), sympy.Integer(int(padded)), *(sympy.sympify(i) for i in index))
        return sympy.Expr.__new__(cls, *args)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        return by_numpy(self, ufunc, method, inputs)

    def __iter__(self) -> Any:
        raise NoIterable(f"{self} is one number: Python's sum adds up the items of a list; write cp.sum(...)", caller())

    def _eval_Mod(self, divisor: sympy.Expr) -> sympy.Expr:
        # SymPy takes what has __iter__ for a list of terms
        return sympy.Mod(self, divisor, evaluate=False)

    @property
    def variable(self) -> str:
        return str(self.args[0])

    @property
    def padded(self) -> bool:
        return bool(self.args[1])

    @property
    def index(self) -> tuple[sympy.Expr, ...]:
        return self.args[2:]

    @property
    def func(self) -> Any:
        return lambda *args: sympy.Expr.__new__(Read, *args)

    def _sympystr(self, printer: Any) -> str:
        if not self.index:
            return self.variable
        return f"{self.variable}[{', '.join(printer.doprint(i) for i in self.index)}]"

    def _latex(self, printer: Any) -> str:
        return self._sympystr(printer)


class Reduction(sympy.Expr):
    """``kind`` of ``body`` along ``axes``.

    "sum", "prod", "max", "min" and "logsumexp" bind their axes; "softmax", "layernorm" and "rmsnorm" normalise along them
    and keep them.
    """

    is_commutative = True
    is_real = True
    is_extended_real = True

    def __new__(cls, kind: str, body: sympy.Expr, axes: tuple[Axis, ...], option: object = 0) -> Reduction:
        args = (sympy.Symbol(kind), sympy.sympify(body), Tuple(*axes), sympy.sympify(option))
        return sympy.Expr.__new__(cls, *args)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        return by_numpy(self, ufunc, method, inputs)

    @property
    def kind(self) -> str:
        return str(self.args[0])

    @property
    def body(self) -> sympy.Expr:
        return self.args[1]

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(self.args[2])

    @property
    def option(self) -> sympy.Expr:
        return self.args[3]

    @property
    def keeps_axis(self) -> bool:
        return self.kind in ("softmax", "layernorm", "rmsnorm")

    @property
    def func(self) -> Any:
        return lambda *args: sympy.Expr.__new__(Reduction, *args)

    def _sympystr(self, printer: Any) -> str:
        letters = ",".join(a.name for a in self.axes)
        return f"{self.kind}_{letters}({printer.doprint(self.body)})"

    def _latex(self, printer: Any) -> str:
        return self._sympystr(printer)


def free_axes(expr: sympy.Expr) -> set[Axis]:
    """The axes that an expression varies over; each node of its graph is visited once."""
    found: set[Axis] = set()
    seen: set[sympy.Basic] = set()
    left: list[sympy.Basic] = [expr]
    while left:
        part = left.pop()
        if part in seen:
            continue
        seen.add(part)
        if isinstance(part, Axis):
            found.add(part)
        elif isinstance(part, Read):
            found |= {s for i in part.index for s in i.free_symbols if isinstance(s, Axis)}
        elif isinstance(part, Reduction):
            inner = free_axes(part.body)
            found |= inner if part.keeps_axis else inner - set(part.axes)
        else:
            left += part.args
    return found
