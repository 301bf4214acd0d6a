"""The figures that the project wants of itself, each with what was measured: met or missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.peers.methods import BOTH, SAMPLES
from benchmarks.peers.table import Errors, Row, as_fused, best, price, same

GRADIENT_ONE, GRADIENT_MORE, W4_EXACT, FLOOR, HUTCHINSON = 2.0, 0.7, 1.3, 1.4, 0.7  # at most
ARM_ROWS, PAR_EXACT, W4_PEER, TRACE, THREADS = 4.0, 25.0, 10.0, 2.0, 1.7  # at least
TO_ONE_PERCENT = {"W4": 10.0, "W8": 10.0, "W6": 3.0, "W7": 3.0}  # at least


def text(rows: Sequence[Row], errors: Errors) -> list[str]:
    """A table of all claims that the rows allow to judge; "fused" is the figure of the fused build."""
    fused = {(what, where): figure for what, where, figure, _, _ in _claims(as_fused(rows), errors)}
    found = [
        f"| {what} | {where} | {figure:.3g} | {'at most' if most else 'at least'} {wanted:g} "
        f"| {'met' if (figure <= wanted if most else figure >= wanted) else 'MISSED'} "
        f"| {f'{fused[what, where]:.3g}' if (what, where) in fused else ''} |"
        for what, where, figure, wanted, most in _claims(rows, errors)
    ]
    return ["| claim | where | measured | wanted | | fused |", "|---|---|---|---|---|---|", *found] if found else []


def _claims(rows: Sequence[Row], errors: Errors) -> Iterator[tuple[str, str, float, float, bool]]:
    """What, where, figure, wanted, and whether that is a largest value."""
    for workload, real, threads in dict.fromkeys((r.workload, r.real, r.threads) for r in rows):
        where = f"{workload} {real}, {threads} thread{'s' if threads > 1 else ''}"

        def time(
            quantity: str, own: bool, at: tuple[str, str, int] = (workload, real, threads)
        ) -> float | None:
            found = best(same(rows, at[0], at[1], quantity, at[2]), own)
            return found.median if found else None

        gradient = time("gradient", True)
        if gradient is None:
            continue
        for quantity in ("value", "gradient"):
            own, peer = time(quantity, True), time(quantity, False)
            if workload.startswith(("W1", "W2", "W3")) and workload != "W1/10000" and own and peer:
                yield f"{quantity}: best peer / cpgen", where, peer / own, 1.0, False
        sample, more = time("sample", True), time(f"{SAMPLES} samples", True)
        if sample and more:
            yield "one sample / own gradient", where, sample / gradient, GRADIENT_ONE, True
            further = (more - sample) / (SAMPLES - 1) / gradient
            yield "a further sample / own gradient", where, further, GRADIENT_MORE, True
        hutchinson = time("sample", False)
        if sample and hutchinson:
            yield "one sample / best Hutchinson sample", where, sample / hutchinson, HUTCHINSON, True
        both, peers_both = time(BOTH, True), time(BOTH, False)
        if both:
            yield "gradient and sample / own gradient", where, both / gradient, GRADIENT_ONE, True
        if both and peers_both:
            yield "gradient and sample / best peer's", where, both / peers_both, HUTCHINSON, True
        exact, exact_peer = time("diagonal", True), time("diagonal", False)
        if exact and exact_peer:
            if workload == "W4":
                yield "exact diagonal / own gradient", where, exact / gradient, W4_EXACT, True
            least = {"W4": W4_PEER, "W3/par/1024": PAR_EXACT, "W1/10000": ARM_ROWS}.get(workload, 1.0)
            yield "exact diagonal: best peer / cpgen", where, exact_peer / exact, least, False
        if workload == "W1/10000" and (peer := time("gradient", False)):
            yield "gradient: best peer / cpgen", where, peer / gradient, ARM_ROWS, False
        floor = same(rows, workload, real, "floor", threads)
        # nothing runs below its floor: a smaller ratio says that the floor itself was disturbed, and judges nothing
        if floor and workload.startswith(("W4", "W5")) and gradient >= floor[0].median:
            yield "gradient / floor", where, gradient / floor[0].median, FLOOR, True
        for quantity in ("trace sample", "trace"):
            own, peer = time(quantity, True), time(quantity, False)
            if own and peer and workload.startswith("W5"):
                yield f"{quantity}: best peer / cpgen", where, peer / own, TRACE, False
        alone = time("gradient", True, (workload, real, 1))
        if threads == 2 and alone and workload.startswith(("W4", "W5")):
            yield "gradient: two threads against one", where, alone / gradient, THREADS, False
    for workload, real, threads, own, _, peer, _ in price(rows, errors):
        if workload in TO_ONE_PERCENT:
            where = f"{workload} {real}, {threads} thread{'s' if threads > 1 else ''}"
            yield "time to 1 percent: best peer / cpgen", where, peer / own, TO_ONE_PERCENT[workload], False
