"""The front door: :func:`compile` and :func:`verify`."""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from cpgen.errors import RequestError
from cpgen.estimate.estimator import DEFAULT_PROGRAMS, Estimator, Options
from cpgen.estimate.verify import verify
from cpgen.ir.nodes import Graph, Input
from cpgen.model import Model, from_expression


def compile(
    model: Model | sympy.Expr,
    wrt: Sequence[str | sympy.Symbol] | str | sympy.Symbol | None = None,
    programs: Sequence[str] = DEFAULT_PROGRAMS,
    real: str = "float64",
    backend: str = "auto",
    threads: int | None = None,
    memory_limit: int | None = None,
    factor: str = "signed",
) -> Estimator:
    """Compile a model, or a plain SymPy expression, into native curvature estimators.

    ``wrt``: what to differentiate by, any mix of inputs and parameters by name (default: all parameters; for
    an expression,
    its symbols).  ``programs``: compiled at once; others follow when first asked for.  ``real``: "float64" or "float32".
    ``backend``: "auto" falls back to the NumPy interpreter where there is no C compiler and says so in every result.
    ``factor``: "signed", or "mixed"/"smooth" when the estimate itself is to be differentiated.

    Raises ModelError for a wrong declaration, RequestError for a wrong request, EnvironmentProblem with backend="native"
    and no compiler.
    """
    if isinstance(model, sympy.Basic):
        model = from_expression(model, _symbols(model, wrt))
    elif not isinstance(model, Model):
        raise RequestError(f"compile takes a cpgen.Model or a SymPy expression, not {type(model).__name__}")
    graph = model.graph()
    options = Options(real, backend, threads, memory_limit, factor)
    estimator = Estimator(graph, _leaves(graph, wrt), options)
    estimator.load(*programs)
    return estimator


def _symbols(expr: sympy.Basic, wrt: object) -> list[sympy.Symbol]:
    if wrt is None:
        return sorted(expr.free_symbols, key=lambda s: str(s))  # type: ignore[return-value]
    given = list(wrt) if isinstance(wrt, (list, tuple)) else [wrt]
    by_name = {str(s): s for s in expr.free_symbols}
    for item in given:
        if str(item) not in by_name:
            raise RequestError(
                f"wrt names {item}, which does not occur in the expression (symbols: {', '.join(sorted(by_name))})"
            )
    return [by_name[str(item)] for item in given]  # type: ignore[misc]


def _leaves(graph: Graph, wrt: object) -> list[Input]:
    if wrt is None:
        leaves = [v for v in graph.variables if v.kind == "param"] or list(graph.variables)
    else:
        names = [str(item) for item in (wrt if isinstance(wrt, (list, tuple)) else [wrt])]
        known = {v.name: v for v in graph.variables}
        for name in names:
            if name not in known:
                raise RequestError(
                    f"wrt names {name!r}, which is not declared (declared: {', '.join(known)})", graph.origin
                )
        if len(set(names)) != len(names):
            raise RequestError(f"wrt names something twice: {', '.join(names)}")
        leaves = [known[name] for name in names]
    if not leaves:
        raise RequestError("wrt is empty: name at least one input or parameter")
    return leaves


__all__ = ["compile", "verify"]
