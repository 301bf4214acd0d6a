"""An estimator and options to a folder of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpgen.bundle.options import BundleOptions
from cpgen.bundle.report import Report, make_report
from cpgen.bundle.vectors import Vectors, make_vectors
from cpgen.bundle.write import write_files
from cpgen.code.identifiers import external_prefix
from cpgen.code.tokens import made_by
from cpgen.derive.derived import Derived
from cpgen.derive.programs import direction_names
from cpgen.derive.request import HESSIAN, read_request
from cpgen.emit import CFiles, emit_c, stage_text
from cpgen.emit.arguments import arrays, output_fields, scale_inputs
from cpgen.emit.cuda import emit_cuda
from cpgen.emit.render import render
from cpgen.emit.runtime import amalgamated
from cpgen.emit.views import CView
from cpgen.errors import DataError, RequestError, ShapeError
from cpgen.estimate.estimator import Estimator
from cpgen.ir.nodes import ROWS, Input, Program
from cpgen.loops import Plan, plan
from cpgen.loops.device import device_plan
from cpgen.simplify import recompute
from cpgen.version import __version__

Array = NDArray[np.floating]


def write_bundle(
    estimator: Estimator, directory: str | Path | None, options: BundleOptions
) -> Report:
    """Write the bundle of ``estimator`` to ``directory`` in one step; with None only make its report.

    Raises RequestError, ShapeError, DataError, BudgetError (with the numbers) or CheckError; nothing is written then.
    """
    options.check()
    name = external_prefix(options.prefix or estimator.graph.name)
    real = estimator.options.real
    derived = [_derivation(estimator, key) for key in options.programs]
    plans = [_planned(d.program, real, options) for d in derived]
    weights = _arrays(estimator, options.weights, "weights", real, ("param",))
    weights |= {v.name: v.held(estimator.real) for v in estimator.graph.variables if v.kind == "constant"}
    suffix = "f64" if real == "float64" else "f32"
    files = emit_c(
        estimator.graph.name,
        plans,
        real,
        name,
        private=True,
        libm=options.math == "libm",
        notes=made_by(options.command),
        helpers=(f"cpgen_sqrt_{suffix}",) if any(p.has_noise for p in plans) else (),
    )
    report = make_report(files, plans, weights, options.columns, options.math, real)
    report.check(options.ram, options.flash)
    if directory is None:
        return report
    vectors_given = _arrays(estimator, options.vectors, "vectors", real, ("data", "param", "tangent")) | weights
    exact = not files.library
    directions = [(d.columns or 0) if d.unit else 0 for d in derived]
    vectors = make_vectors(files, plans, directions, real, vectors_given, exact)
    texts = _texts(estimator, options, plans, files, weights, vectors, report)
    write_files(Path(directory), name, texts)
    return Report(**{**report.__dict__, "files": tuple(texts)})


def _derivation(estimator: Estimator, key: str) -> Derived:
    """What a program is made of.

    A Hessian in C is its blocks: what a caller writes must not turn on which method is cheaper.
    """
    request = read_request(key)
    derived = estimator.derive(HESSIAN.by("units") if request == HESSIAN else request)
    return replace(derived, program=replace(derived.program, name=request.program))


def _planned(program: Program, real: str, options: BundleOptions) -> Plan:
    def planned(candidate: Program) -> Plan:
        return plan(candidate, real, options.tile or 1, compact=True)

    def memory(candidate: Program) -> int:
        found = planned(candidate)
        return found.workspace_bytes(1, options.columns if found.has_columns else 0, 1)

    return planned(recompute(program, memory) if options.recompute else program)


def _arrays(
    estimator: Estimator, given: Mapping[str, object] | None, what: str, real: str, kinds: Sequence[str]
) -> dict[str, Array]:
    """Checked arrays by name."""
    known = {v.name: v for v in estimator.graph.variables}
    directions = direction_names(estimator.graph, estimator.wrt).values() if "tangent" in kinds else ()
    result: dict[str, Array] = {}
    for name, value in (given or {}).items():
        node = known.get(name)
        if name not in directions and (node is None or node.kind not in kinds):
            names = ", ".join([*(v.name for v in known.values() if v.kind in kinds), *directions]) or "none"
            raise RequestError(f"{what} names {name!r}; it can name: {names}", estimator.graph.origin)
        try:
            array = np.asarray(value, real)
        except (TypeError, ValueError) as error:
            raise DataError(f"{what}[{name!r}] is not an array of numbers: {error}") from error
        if not np.isfinite(array).all():
            raise DataError(f"{what}[{name!r}] has entries that are not finite in {real}")
        if node is not None and not node.has_rows and array.shape != node.shape:
            raise ShapeError(f"{what}[{name!r}] has shape {array.shape}, expected {node.shape}", node.origin)
        result[name] = array
    return result


def _texts(
    estimator: Estimator,
    options: BundleOptions,
    plans: Sequence[Plan],
    files: CFiles,
    weights: Mapping[str, Array],
    vectors: Vectors,
    report: Report,
) -> dict[str, str]:
    name, real = files.name, estimator.options.real
    short = "double" if real == "float64" else "float"
    c_names = {node.name: p.value(node).name for p in plans for node in arrays(p)}
    variables: dict[str, Input] = {node.name: node for p in plans for node in arrays(p)}
    constants = [_constant(f"{name}_{c_names[n]}", weights[n], real, variables[n]) for n in variables if n in weights]
    inputs = [
        _constant(f"{name}_test_{c_names[n]}", vectors.inputs[n], real, variables[n])
        for n in variables
        if n not in weights
    ]
    programs = [
        _program(p, view, name, vectors, weights, real)
        for p, view in zip(plans, files.programs, strict=True)
    ]
    stem = {"prefix": name, "upper": name.upper(), "real": short}
    sources = [f"{name}.c"]
    headers = [f"{name}.h"]
    units = [_derivation(estimator, key).unit for key in options.programs]
    noisy = any(p.has_noise and not unit for p, unit in zip(plans, units, strict=True))
    if not options.amalgamate:
        sources += [f"{name}_weights.c"] if constants else []
        sources += [f"{name}_stream.c"] if noisy else []
        sources += [f"{name}_vectors.c", f"{name}_selftest.c"]
    headers += [f"{name}_weights.h"] if constants else []
    headers += [f"{name}_stream.h"] if noisy else []
    headers += [f"{name}_vectors.h", f"{name}_selftest.h"]
    device = _device_text(estimator, options, name) if options.target == "cuda" else {}
    needs_libm = files.library
    context: dict[str, object] = {
        **stem,
        "name": name,
        "model": estimator.graph.name,
        "version": __version__,
        "real_name": real,
        "math": options.math,
        "libm": needs_libm,
        "notes": made_by(options.command),
        "command": options.command,
        "programs": programs,
        "weights": constants,
        "inputs": inputs,
        "rows": vectors.rows,
        "has_bits": vectors.bits is not None,
        "sources": sources,
        "headers": headers,
        "runtime": [] if options.amalgamate else sorted(files.runtime),
        "report": report,
        "amalgamate": options.amalgamate,
        "device": sorted(device),
        "stream": noisy,
        "rows_are_summed": any("accumulate" in view.numbers for view in files.programs),
        "exact_columns": any(view.whole is not None for view in files.programs),
        "threaded": any(not view.plain for view in files.programs),
        "variables": [_described(v, weights) for v in estimator.graph.variables],
        "objective": "summed" if estimator.graph.reduction == "sum" else "averaged",
        "instructions": _measured(options.instructions, plans),
        "mathematics": [_mathematics(estimator, key, p) for key, p in zip(options.programs, plans, strict=True)],
        "zero": _number(0.0, real),
        "one": _number(1.0, real),
        "most": _number(1e30, real),
        "runtime_scalar": f"{name}_rt_scalar.h",
        "root": f"{name}_rt_sqrt_{'f64' if real == 'float64' else 'f32'}",
    }
    made: dict[str, str] = {f"{name}.h": files.header, f"{name}.c": files.source, **files.runtime}
    if constants:
        made[f"{name}_weights.h"] = render("bundle/weights.h.j2", context)
        made[f"{name}_weights.c"] = render("bundle/weights.c.j2", context)
    if noisy:
        made[f"{name}_stream.h"] = render("bundle/stream.h.j2", context)
        made[f"{name}_stream.c"] = render("bundle/stream.c.j2", context)
    for file in ("vectors.h", "vectors.c", "selftest.h", "selftest.c"):
        made[f"{name}_{file}"] = render(f"bundle/{file}.j2", context)
    if options.amalgamate:
        order = [f"{name}.c", *(s for s in made if s.endswith(".c") and s != f"{name}.c")]
        made[f"{name}.c"] = amalgamated([made[s] for s in order], files.runtime)
        for file in [*order[1:], *files.runtime]:
            del made[file]
    made.update(device)
    for target, template in (
        ("main.c", "main.c.j2"),
        ("Makefile", "Makefile.j2"),
        ("CMakeLists.txt", "CMakeLists.txt.j2"),
        (f"{name}Config.cmake.in", "config.cmake.j2"),
        (f"{name}.pc.in", "package.pc.j2"),
        ("DEVIATIONS.md", "DEVIATIONS.md.j2"),
        ("README.md", "README.md.j2"),
        ("LICENSE", "LICENSE.j2"),
    ):
        made[target] = render(f"bundle/{template}", context)
    return made


def _device_text(estimator: Estimator, options: BundleOptions, name: str) -> dict[str, str]:
    """The programs as CUDA text, under names of their own."""
    real = estimator.options.real
    plans = [device_plan(_derivation(estimator, key).program, real) for key in options.programs]
    return emit_cuda(estimator.graph.name, plans, real, f"{name}_cuda").files()


def _measured(
    counts: Mapping[str, Mapping[str, int]] | None, plans: Sequence[Plan]
) -> list[tuple[str, list[str]]]:
    """(machine, counts in the order of the programs)."""
    return [
        (machine, [str(found.get(p.name, "-")) for p in plans]) for machine, found in sorted((counts or {}).items())
    ]


def _number(value: float, real: str) -> str:
    """A C literal that reads back as ``value`` rounded to ``real``."""
    text = repr(float(value)) if real == "float64" else str(np.float32(value))
    mantissa, mark, exponent = text.partition("e")
    mantissa = mantissa if "." in mantissa else mantissa + ".0"
    return f"{mantissa}{mark}{exponent}{'' if real == 'float64' else 'f'}"


def _constant(c_name: str, array: Array, real: str, node: Input | None = None) -> dict[str, object]:
    flat = [_number(float(x), real) for x in np.ravel(array)]
    return {
        "name": c_name,
        "count": len(flat),
        "lines": [", ".join(flat[k : k + 8]) for k in range(0, len(flat), 8)],
        "what": f"{f'{node.kind} {node.name}, ' if node else ''}shape ({', '.join(str(n) for n in array.shape)})",
    }


def _program(
    p: Plan, view: CView, prefix: str, vectors: Vectors, weights: Mapping[str, Array], real: str
) -> dict[str, object]:
    given = []
    for node in arrays(p):
        field = p.value(node).name
        source = f"{prefix}_{field}" if node.name in weights else f"{prefix}_test_{field}"
        given.append({"field": field, "source": source})
    outputs = []
    for output, field, _ in output_fields(p):
        values = vectors.expected[p.name][output]
        bits = None if vectors.bits is None else vectors.bits[p.name][output]
        outputs.append(
            {
                "name": output,
                "field": field,
                "expected": _constant(f"{prefix}_expect_{view.title_id}_{field[4:]}", values, real),
                "bits": None
                if bits is None
                else _constant(f"{prefix}_bits_{view.title_id}_{field[4:]}", bits, real),
                "bound": _constant(
                    f"{prefix}_bound_{view.title_id}_{field[4:]}", vectors.bounds[p.name][output], real
                ),
                "count": int(np.size(values)),
                "shape": "(" + ", ".join(str(n) for n in np.shape(values)) + ")",
            }
        )
    call, scales = vectors.calls[p.name], vectors.calls[p.name].scales()
    rows = call.rows
    numbers = {
        "n_rows": rows,
        "columns": call.columns,
        "first_row": 0,
        "first_column": 0,
        "seed": f"{call.seed}U",
        "design": call.design,
        "accumulate": 0,
        "threads": 1,
    }
    return {
        "title": p.name,
        "name": view.name,
        "upper": view.upper,
        "id": view.title_id,
        "inputs": given,
        "outputs": outputs,
        "columns": call.columns,
        "rows": rows,
        "numbers": [{"field": name, "value": numbers[name]} for name in view.numbers],
        "workspace": view.workspace_of(rows, call.columns),
        "needs_work": view.workspace,
        "scales": [
            {"field": p.value(s).name, "value": _number(scales[s.name], real), "name": s.name}
            for s in scale_inputs(p)
        ],
        "total": sum(int(np.size(values)) for values in vectors.expected[p.name].values()),
    }


def _described(v: Input, weights: Mapping[str, Array]) -> dict[str, str]:
    shape = ", ".join("n_rows" if e is ROWS else str(e) for e in v.shape)
    where = "constant" if v.name in weights else "argument"
    return {"name": v.name, "kind": v.kind, "shape": f"({shape})", "where": where, "about": v.range_text}


def _mathematics(estimator: Estimator, key: str, p: Plan) -> dict[str, object]:
    derived = _derivation(estimator, key)
    notes = []
    if derived.estimator:
        notes.append(f"method: {derived.estimator}" + (f" (biased: {derived.biased})" if derived.biased else ""))
        if derived.columns == 0:
            notes.append("exact as it stands; no noise is drawn")
        elif derived.unit:
            notes.append(
                f"exact by {derived.columns} unit vectors, no noise drawn: always call it with {derived.columns} columns"
            )
        elif derived.columns is not None:
            notes.append(
                f"exact with design 2, {derived.columns} columns, column_scale 1 and variance_scale 0; an estimate with "
                "design 0 or 1, fewer columns, and the scales as under Use"
            )
    return {
        "title": p.name,
        "notes": notes,
        "stages": [line for stage in p.stages for line in stage_text(p, stage)],
    }
