"""The front door: :func:`compile` and :func:`verify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpgen.bundle import BundleOptions, Report, size_in_bytes, write_bundle
from cpgen.errors import RequestError
from cpgen.estimate.estimator import DEFAULT_PROGRAMS, Estimator
from cpgen.estimate.options import Options
from cpgen.estimate.tuning import Tuning, load_tuning
from cpgen.estimate.verify import verify
from cpgen.ir.nodes import Graph, Input
from cpgen.model import Model, from_expression, is_expression, wrt_names
from cpgen.scalar import scoped


@scoped
def compile(
    model: Any,
    wrt: Any = None,
    programs: Sequence[str] = DEFAULT_PROGRAMS,
    real: str = "float64",
    backend: str = "auto",
    threads: int | None = None,
    memory_limit: int | None = None,
    factor: str = "signed",
    target: str = "cpu",
    tuning: Tuning | str | Path | None = None,
    fused: bool = False,
    blas: str = "",
    nonfinite: str = "error",
) -> Estimator:
    """Compile a model, or a plain SymPy expression, into native curvature estimators.

    ``wrt``: what to differentiate by, any mix of inputs and parameters, by name or as the variables themselves (default:
    all parameters; for an expression, its symbols); a matrix or an iterable of them too, a set in the order of names.
    ``programs``: compiled at once; others follow when first asked for.  ``real``: "float64" or "float32".
    ``backend``: "auto" falls back to the NumPy interpreter where there is no C compiler and says so in every result.
    ``factor``: "signed", or "mixed"/"smooth" when the estimate itself is to be differentiated.  ``target``:
    "cuda" computes on a GPU; arrays that lie there (CuPy, PyTorch, JAX) are read in place.  ``tuning``: what
    ``est.tune(...)`` measured, or the file it was saved to.  ``fused``: join multiplications and additions where the
    processor can, about a tenth faster; results then keep their bits for any threads and any split of the rows, but no
    longer from one processor or compiler to another.  ``blas``: a library that is handed large products: "openblas" (the
    one that NumPy brings, or the system's) or the path of one with cblas_dgemm, and with target="cuda" "cublas" or the
    path of one with its functions.  It adds up in an order of its own, so results have not the bits of other machines
    (nor, from a GPU, those of the CPU), and their ``backend`` says so.  On one machine they have the same bits for any
    threads, but not for any split of the rows over calls: how a row is rounded may depend on how many are multiplied at
    once.  A library on the CPU is used with its own threads off, for the whole process while a call lasts.
    ``nonfinite``: what every method does where a result is infinite or NaN: "error" raises CheckError with output, entry
    and row; "nan" gives NaN for such a row, the others being right, and where rows are added up NaN for the entries
    concerned, with a NonFiniteWarning that names the rows.

    Raises ModelError for a wrong declaration, RequestError for a wrong request, EnvironmentProblem with backend="native"
    and no compiler, target="cuda" and no nvcc or no GPU, or a ``blas`` that is not found.
    """
    names = wrt_names(wrt, model)
    if is_expression(model):
        model = from_expression(model, names)
    elif not isinstance(model, Model):
        raise RequestError(f"compile takes a cpgen.Model or a SymPy expression, not {type(model).__name__}")
    graph = model.graph()
    leaves = _leaves(graph, names)
    measured = load_tuning(tuning) if isinstance(tuning, (str, Path)) else tuning
    if measured is not None:
        _check_tuning(measured, graph, leaves, real)
    options = Options(
        real, backend, threads, memory_limit, factor, target=target, fused=fused, tuning=measured, blas=blas,
        nonfinite=nonfinite,
    )
    estimator = Estimator(graph, leaves, options)
    estimator.load(*programs)
    return estimator


def bundle(
    model: Any,
    directory: str | Path | None,
    programs: Sequence[str] = DEFAULT_PROGRAMS,
    real: str | None = None,
    prefix: str = "",
    wrt: Any = None,
    weights: Mapping[str, Any] | None = None,
    vectors: Mapping[str, Any] | None = None,
    amalgamate: bool = False,
    math: str = "builtin",
    tile: int | None = None,
    columns: int = 16,
    ram: int | str | None = None,
    flash: int | str | None = None,
    recompute: bool = False,
    command: str = "",
    instructions: Mapping[str, Mapping[str, int]] | None = None,
    target: str = "cpu",
) -> Report:
    """Write C99 sources, header, test vectors, self-test, example, build files and README of a model to ``directory``.

    ``model``: a model, an expression or an estimator.  ``weights``: parameters that become constant data.  ``vectors``:
    arrays for the self-test (default: random, inside declared ranges).  ``math``: "builtin" (same bits on every machine,
    no math.h) or "libm".  ``tile``: rows computed at once (default 1, the least memory).  ``ram``, ``flash``: budgets for
    one row and ``columns`` noise columns, in bytes or as "32k". ``recompute``: trade time for workspace.
    ``instructions``: measured instructions for one row, machine -> program -> count, for the README.
    ``target="cuda"`` adds the programs as CUDA text, under the prefix followed by ``_cuda``. ``directory=None``
    only makes the report.

    The folder is written whole or not at all.  Raises BudgetError with the numbers where a budget does not fit,
    RequestError, ShapeError or DataError for wrong arguments.
    """
    if isinstance(model, Estimator):
        if wrt is not None or real not in (None, model.options.real):
            raise RequestError("the estimator is compiled already; wrt and real apply to a model")
        if model.options.blas:
            raise RequestError(
                "a bundle computes all products by loops of its own: compile the estimator without "
                f"blas={model.options.blas!r}"
            )
        estimator = model
    else:
        estimator = compile(model, wrt=wrt, programs=(), real=real or "float64")
    names = (programs,) if isinstance(programs, str) else tuple(programs)
    limits = [None if size is None else size_in_bytes(size) for size in (ram, flash)]
    options = BundleOptions(
        names,
        prefix,
        weights,
        vectors,
        amalgamate,
        math,
        tile,
        columns,
        limits[0],
        limits[1],
        recompute,
        command,
        instructions,
        target,
    )
    return write_bundle(estimator, directory, options)


def _check_tuning(tuning: Tuning, graph: Graph, leaves: Sequence[Input], real: str) -> None:
    found, wanted = (tuning.model, tuning.wrt, tuning.real), (graph.name, tuple(v.name for v in leaves), real)
    if found != wanted:
        raise RequestError(
            f"the tuning was measured for the model {found[0]!r} by {', '.join(found[1])} in {found[2]}, and this is "
            f"{wanted[0]!r} by {', '.join(wanted[1])} in {wanted[2]}: tune again",
            graph.origin,
        )


def _leaves(graph: Graph, names: Sequence[str] | None) -> list[Input]:
    if names is None:
        leaves = [v for v in graph.variables if v.kind == "param"] or [
            v for v in graph.variables if v.kind == "data"
        ]
    else:
        known = {v.name: v for v in graph.variables if v.kind != "constant"}
        for name in names:
            if any(v.name == name for v in graph.variables) and name not in known:
                raise RequestError(f"wrt names {name!r}, which is a constant", graph.origin)
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


__all__ = ["bundle", "compile", "verify"]
