"""Telling people what will run: noise analysis, graph, stages, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cpgen.derive.derived import Derived
from cpgen.emit import emit_c, stage_text
from cpgen.estimate.arrays import expected_shape
from cpgen.estimate.memory import human
from cpgen.estimate.options import Options
from cpgen.ir.nodes import Graph, Input
from cpgen.ir.text import text
from cpgen.loops import Plan
from cpgen.loops.kernels import Kernel, Loops, Multiply, Panels, Terms
from cpgen.loops.plan import ROW
from cpgen.loops.products import LEAST_BLAS, by_blas

LARGE = 256 * 256  # multiplications a row of a product that is worth a line


def described(graph: Graph, wrt: Sequence[Input], options: Options, labels: Mapping[str, str]) -> str:
    """A model's estimator in a few lines; ``labels``: the backend of each program that is loaded."""

    def listed(nodes: Sequence[Input]) -> str:
        return ", ".join(v.name + (f" {expected_shape(v)}" if v.shape else "") for v in nodes) or "none"

    fixed = [v for v in graph.variables if v not in wrt and v.kind != "constant"]
    how = sorted(set(labels.values())) or [f"target {options.target}, backend {options.backend}, nothing compiled yet"]
    return (
        f"estimator of {graph.name} ({graph.reduction} over rows, {options.real})\n"
        f"  by {listed(wrt)}\n  given {listed(fixed)}\n  {'; '.join(how)}"
        + (f": {', '.join(labels)}" if labels else "")
    )


def analysis(derived: Derived) -> list[str]:
    """The noise analysis in lines."""
    lines = [f"program {derived.program.name}"]
    if derived.estimator:
        lines.append(
            f"  method: {derived.estimator}" + (f" (BIASED: {derived.biased})" if derived.biased else "")
        )
        if derived.choice:
            lines.append(f"  chosen: {derived.choice}")
        if derived.columns == 0:
            lines.append("  exact as it stands: no noise is needed")
        elif derived.unit:
            what = "directions" if derived.estimator == "directions" else "vectors in place of noise"
            lines.append(f"  exact by {derived.columns} unit {what}, one column each")
        elif derived.columns is None:
            lines.append("  no number of columns makes this exact")
        else:
            lines.append(f"  noise columns for the exact answer: {derived.columns}")
    for leaf, variable in derived.readouts:
        lines.append(f"  {leaf} is read out at {variable}")
    for name in sorted(derived.exact):
        lines.append(f"  {name}: exact whatever the number of samples")
    for d in derived.drawn:
        lines.append(f"  {'unit vectors' if derived.unit else 'noise'} {d.name}: {d.size} a row, {d.what}")
    for d in derived.dropped:
        lines.append(f"  no noise for {d.what} ({d.size} a row saved): exact, or seen by nothing requested")
    return lines


def stages(p: Plan) -> list[str]:
    """The stages of a plan in lines: the comments of the C text."""
    return ["  " + line for stage in p.stages for line in stage_text(p, stage)]


def strategy(p: Plan) -> list[str]:
    """How a plan computes its program, and what computes the stages that are not loops like the others, in lines."""
    lines = list(p.reasons) if p.segments else ["no values of rows"]
    lines += [f"stage {stage.number}: {how}" for stage in p.stages if (how := _kernel(stage.kernel))]
    return [f"  {line}" for line in lines]


def _kernel(kernel: Kernel) -> str:
    """A kind of kernel in words; "" for loops and for threads with an element each."""
    if isinstance(kernel, Loops) and kernel.pieces:
        return f"{kernel.pieces.terms} terms of all sums at a time, their weights copied side by side"
    if isinstance(kernel, Terms):
        return f"a block adds up {kernel.width} sums over rows, whose terms its threads compute together"
    if isinstance(kernel, Panels):
        down, across = kernel.tiles
        return f"{down} x {across} panels, one for a block" + (", or the caller's library" if kernel.gemm else "")
    if isinstance(kernel, Multiply):
        found = kernel.product
        where = f"a launch of its own, {found.outs} x {found.depth}"
        return where + (", or the caller's library" if kernel.gemm else "")
    return ""


def products(p: Plan, blas: str) -> list[str]:
    """Who computes each large product of weights and values of rows on a processor, and why, in lines; ``blas``: who was
    asked for."""
    lines = []
    kernels = {n: s.kernel for s in p.stages for n in s.nodes if s.phase == ROW and s.kind == "map"}
    for node, kernel in kernels.items():
        found = by_blas(node, LARGE)
        if found is None or not isinstance(kernel, Loops):
            continue
        times = f"{found.outs} x {found.depth} multiplications a row"
        enough = LEAST_BLAS[p.real]
        if kernel.blas:
            who = f"by {blas}: {times}, at least the {enough} below which its own loops are measured to win"
        elif found.size < enough:
            who = f"by loops of its own: {times}, and below {enough} these are measured to be faster than a BLAS"
        elif blas:
            who = f"by loops of its own: {times}, but a tile of this program is one row"
        else:
            who = f"by loops of its own: {times}; blas='openblas' would take it, from {enough} on"
        lines.append(f"  {p.value(node).name} {who}")
    return lines


def show(derived: Derived, planned: Plan | None, blas: str = "") -> str:
    """Noise analysis, graph in index notation, and where there is a plan, strategy, large products and stages."""
    graph = ["  " + line for line in text(derived.program).splitlines()[1:]]
    lines = [*analysis(derived), "graph", *graph]
    if planned is not None:
        large = products(planned, blas)
        lines += ["strategy", *strategy(planned), *(["large products", *large] if large else [])]
        lines += ["stages", *stages(planned)]
    return "\n".join(lines) + "\n"


def size(
    name: str, plans: list[Plan], real: str, rows: int, columns: int, threads: int
) -> dict[str, Any]:
    """Sizes before anything is compiled: text, operations, workspace, for each program and together."""
    files = emit_c(name, plans, real)
    programs = {}
    for p in plans:
        operations = p.operations(rows, columns)
        programs[p.name] = {
            "stages": len(p.stages),
            "tile_rows": p.tile,
            "workspace_bytes": p.workspace_bytes(rows, columns, threads),
            "adds": operations.adds,
            "muls": operations.muls,
            "divs": operations.divs,
            "calls": dict(operations.calls),
            "operations": operations.total,
        }
    return {
        "model": name,
        "real": real,
        "rows": rows,
        "columns": columns,
        "threads": threads,
        "text_bytes": {file: len(content.encode()) for file, content in files.files().items()},
        "programs": programs,
    }


def size_text(sizes: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"{sizes['model']} ({sizes['real']}), {sizes['rows']} rows, {sizes['columns']} columns, "
        f"{sizes['threads']} threads"
    ]
    lines += [f"  {file}: {human(count)}" for file, count in sizes["text_bytes"].items()]
    for name, p in sizes["programs"].items():
        calls = ", ".join(f"{count} {call}" for call, count in p["calls"].items())
        lines.append(
            f"  {name}: {p['stages']} stages, workspace {human(p['workspace_bytes'])}, {p['operations']} operations"
        )
        lines.append(
            f"    {p['adds']} adds, {p['muls']} muls, {p['divs']} divs" + (f", {calls}" if calls else "")
        )
    return "\n".join(lines)
