"""From timings to one table, as text, data and a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.methods import SAMPLES

Errors = Mapping[tuple[str, str, str], float]
OWN = "cpgen"
ASIDE = ("floor", "fused")  # neither cpgen as it comes nor a peer
ERROR_SAMPLES = 64  # with which the errors were measured
TARGET = 0.01


@dataclass(frozen=True)
class Row:
    """Times in seconds; ``distance``: relative L2 distance of the answer from the reference, if comparable."""

    workload: str
    real: str
    threads: int
    quantity: str
    peer: str
    method: str
    median: float
    lower: float
    upper: float
    batches: int
    scale: float
    distance: float | None


def read(folder: Path) -> tuple[list[Row], dict[tuple[str, str, str], float]]:
    """What :func:`write` left: the rows and the errors of 64 samples."""
    rows = []
    with (folder / "peers.csv").open() as file:
        for line in csv.DictReader(file):
            numbers = {k: float(line[k]) for k in ("median", "lower", "upper", "scale")}
            counts = {k: int(line[k]) for k in ("threads", "batches")}
            distance = float(line["distance"]) if line["distance"] else None
            rows.append(Row(**{**line, **numbers, **counts, "distance": distance}))  # type: ignore[arg-type]
    with (folder / "peers-errors.csv").open() as file:
        errors = {
            (line["workload"], line["real"], line["estimator"]): float(line["relative_error"])
            for line in csv.DictReader(file)
        }
    return rows, errors


def spread(times: Sequence[float]) -> tuple[float, float, float]:
    """Median and quartiles."""
    if not times:
        return 0.0, 0.0, 0.0
    lower, median, upper = np.quantile(times, [0.25, 0.5, 0.75])
    return float(median), float(lower), float(upper)


def text(rows: Sequence[Row], errors: Errors, trouble: Sequence[str]) -> str:
    """The whole table in Markdown."""
    lines = [
        "| workload | real | quantity | threads | cpgen | quartiles | fused | best peer | time | peer / cpgen "
        "| / own gradient | floor / cpgen |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((r.workload, r.real, r.quantity, r.threads) for r in rows):
        line = _line(key, rows)
        if line:
            lines.append(line)
    lines += ["", *_price(rows, errors)]
    if trouble:
        lines += ["", "Not run, or left out because answers differ:", "", *(f"- {line}" for line in trouble)]
    return "\n".join(lines)


def brief(rows: Sequence[Row]) -> list[str]:
    """One line a quantity: two threads, and one in brackets; the peer is the fastest on that many threads."""
    lines = ["| workload | quantity | cpgen | best peer | peer / cpgen |", "|---|---|---|---|---|"]
    for workload, real, quantity in dict.fromkeys((r.workload, r.real, r.quantity) for r in rows):
        cells: list[tuple[str, str, str]] = []
        for threads in (2, 1):
            here = same(rows, workload, real, quantity, threads)
            own, peer = best(here, True), best(here, False)
            if own and peer and quantity not in ("floor", "xdiag"):
                cells.append(
                    (
                        duration(own.median),
                        f"{peer.peer} {duration(peer.median)}",
                        f"{peer.median / own.median:.2g}",
                    )
                )
        if cells:
            both = [first if len(cells) == 1 else f"{first} ({second})"
                    for first, second in zip(cells[0], cells[-1], strict=True)]  # fmt: skip
            name = workload + (" float32" if real == "float32" else "")
            lines.append("| " + " | ".join([name, quantity, *both]) + " |")
    return lines


def best(rows: Sequence[Row], own: bool) -> Row | None:
    """The fastest of cpgen's own rows, or of the peers'."""
    found = [r for r in rows if (r.peer == OWN) == own and r.peer not in ASIDE]
    return min(found, key=lambda r: r.median) if found else None


def as_fused(rows: Sequence[Row]) -> list[Row]:
    """The rows as if the fused build were cpgen itself."""
    kept = [r for r in rows if r.peer != OWN]
    return [replace(r, peer=OWN) if r.peer == "fused" else r for r in kept]


def same(rows: Sequence[Row], workload: str, real: str, quantity: str, threads: int) -> list[Row]:
    """The rows of one quantity."""
    return [
        r for r in rows if (r.workload, r.real, r.quantity, r.threads) == (workload, real, quantity, threads)
    ]


def _line(key: tuple[str, str, str, int], rows: Sequence[Row]) -> str | None:
    workload, real, quantity, threads = key
    here = same(rows, *key)
    own, peer = best(here, True), best(here, False)
    if quantity in ("floor", "xdiag") or own is None:
        return None
    gradient = best(same(rows, workload, real, "gradient", threads), True)
    fused = best(as_fused(here), True)
    floor = same(rows, workload, real, "floor", threads)
    cells = [
        workload,
        real,
        quantity,
        str(threads),
        duration(own.median) + (" (bound)" if own.method == "bound" else ""),
        f"{duration(own.lower)} - {duration(own.upper)}",
        duration(fused.median) if fused else "",
        f"{peer.peer}: {peer.method}" + (f" (scaled x{peer.scale:.0f})" if peer.scale > 1 else "")
        if peer
        else "",
        duration(peer.median) if peer else "",
        f"{peer.median / own.median:.3g}" if peer else "",
        f"{own.median / gradient.median:.2f}" if gradient and quantity not in ("gradient", "value") else "",
        f"{floor[0].median / own.median:.2f}" if floor and quantity == "gradient" else "",
    ]
    return "| " + " | ".join(cells) + " |"


def price(rows: Sequence[Row], errors: Errors) -> list[tuple[str, str, int, float, str, float, str]]:
    """Time to a relative error of 1 percent of the diagonal: (workload, real, threads, own, how, peer's, how).

    Sampling needs K samples with error e to be repeated (e / 0.01)^2 / K times; each further sample costs what the
    difference between 16 samples and one says.  The shortest of all methods, exact ones included, counts.
    """
    result = []
    for workload, real, threads in dict.fromkeys((r.workload, r.real, r.threads) for r in rows):
        own: list[tuple[float, str]] = []
        others: list[tuple[float, str]] = []
        for kind, target in ((OWN, own), ("peer", others)):
            mine = kind == OWN
            exact = best(same(rows, workload, real, "diagonal", threads), mine)
            if exact:
                target.append((exact.median, exact.method))
            first = best(same(rows, workload, real, "sample", threads), mine)
            more = best(same(rows, workload, real, f"{SAMPLES} samples", threads), mine)
            error = errors.get((workload, real, "curvature propagation" if mine else "hutchinson"))
            if first and error is not None:
                further = max((more.median - first.median) / (SAMPLES - 1), 0.0) if more else first.median
                further = min(further, first.median)
                needed = max(1.0, ERROR_SAMPLES * (error / TARGET) ** 2)
                name = f"{needed:,.0f} samples"
                target.append((first.median + (needed - 1) * further, name))
            if not mine:
                for r in same(rows, workload, real, "xdiag", threads):
                    if r.distance is not None:
                        target.append(
                            (r.median * max(1.0, (r.distance / TARGET) ** 2), f"{r.method}, repeated")
                        )
        if own and others and any(r.quantity == "sample" for r in rows if r.workload == workload):
            result.append((workload, real, threads, *min(own), *min(others)))
    return result


def _price(rows: Sequence[Row], errors: Errors) -> list[str]:
    found = price(rows, errors)
    if not found:
        return []
    lines = [
        "Time to a relative L2 error of 1 percent of the diagonal: the shortest of all methods, exact ones included; "
        "the number of samples is extrapolated from the error of 64.",
        "",
        "| workload | real | threads | cpgen | how | best peer | how | peer / cpgen |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for workload, real, threads, own, how, peer, peers_way in found:
        cells = (workload, real, threads, duration(own), how, duration(peer), peers_way, f"{peer / own:.3g}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def write(folder: Path, rows: Sequence[Row], errors: Errors, trouble: Sequence[str]) -> None:
    """peers.csv, peers-errors.csv, peers.md and peers.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "peers.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(f.name for f in fields(Row))
        for row in rows:
            out.writerow(_cell(value) for value in astuple(row))
    with (folder / "peers-errors.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["workload", "real", "estimator", "samples", "relative_error"])
        for (workload, real, method), error in errors.items():
            out.writerow([workload, real, method, ERROR_SAMPLES, f"{error:.4g}"])
    (folder / "peers.md").write_text(text(rows, errors, trouble) + "\n")
    picture(folder / "peers.svg", rows)


def _cell(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else "" if value is None else value


def picture(path: Path, rows: Sequence[Row]) -> None:
    """How many times longer the best peer takes, on two threads."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    bars = []
    for key in dict.fromkeys((r.workload, r.real, r.quantity, r.threads) for r in rows if r.threads == 2):
        own, peer = best(same(rows, *key), True), best(same(rows, *key), False)
        if own and peer and key[2] not in ("floor", "xdiag"):
            real = " float32" if key[1] == "float32" else ""
            bars.append((f"{key[0]}{real} {key[2]}", peer.median / own.median, peer.peer))
    if not bars:
        return
    matplotlib.rcParams["svg.hashsalt"] = "cpgen"
    figure, axes = plt.subplots(figsize=(8, 0.22 * len(bars) + 1))
    places = np.arange(len(bars))[::-1]
    axes.barh(places, [b[1] for b in bars], color=["#2a6f97" if b[1] >= 1 else "#c1666b" for b in bars])
    axes.set_yticks(places, [f"{b[0]} ({b[2]})" for b in bars], fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("time of the best peer / time of cpgen, two threads")
    axes.margins(y=0.01)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
