"""Digests of the C and CUDA texts of the catalogue, to compare two checkouts where no text may change.

    python -m benchmarks.same_texts --write before.json            # in the one
    python -m benchmarks.same_texts --compare before.json          # in the other: how many differ, and which
    python -m benchmarks.same_texts --models mlp_tanh attention    # some of the models
    python -m benchmarks.same_texts --layout                       # blanks and line ends count, too

Every program of every model, for float64 and float32: as it is compiled here, as a bundle with its own mathematics and
with libm, and for a GPU.  Without --layout a line broken elsewhere is the same text.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cpgen.emit import emit_c  # noqa: E402
from cpgen.emit.cuda import emit_cuda  # noqa: E402
from cpgen.errors import CpgenError  # noqa: E402
from cpgen.loops.device import device_plan  # noqa: E402
from cpgen.loops.lower import plan  # noqa: E402
from tests.catalogue import CATALOGUE, Entry  # noqa: E402

PROGRAMS = (
    *("value", "gradient", "hvp", "gauss_newton_product", "diagonal", "diagonal:cp", "diagonal:exact"),
    *("diagonal:hutchinson", "trace", "sketch", "hessian:directions", "hessian:units"),
)


def texts(entry: Entry, real: str) -> Iterator[tuple[str, str]]:
    """(label, text) of every program of a model."""
    est = entry.compile(programs=(), backend="interpreter", real=real)
    plans = []
    for key in PROGRAMS:
        try:
            program = est.derive(key).program
        except CpgenError:  # a model without that program
            continue
        plans.append(plan(program, real))
        single = [plan(program, real, 1, compact=True)]
        for label, made, libm in (("c", [plans[-1]], None), ("bundle", single, False), ("libm", single, True)):
            files = emit_c("model", made, real, private=libm is not None, libm=bool(libm))
            yield f"{key}/{label}", "".join(text for _, text in sorted(files.files().items()))
        files = emit_cuda("model", [device_plan(program, real)], real)
        yield f"{key}/cuda", "".join(text for _, text in sorted(files.files().items()))
    named = {p.name: p for p in plans}
    files = emit_c("model", list(named.values()), real)
    yield "all/c", "".join(text for _, text in sorted(files.files().items()))


def digests(models: list[str], layout: bool) -> dict[str, str]:
    found = {}
    for name in models or list(CATALOGUE):
        for real in ("float64", "float32"):
            for label, text in texts(CATALOGUE[name], real):
                same = text if layout else "".join(text.split())
                found[f"{name}/{real}/{label}"] = hashlib.sha256(same.encode()).hexdigest()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--models", nargs="+", default=[])
    parser.add_argument("--layout", action="store_true")
    options = parser.parse_args()
    found = digests(options.models, options.layout)
    if options.write:
        options.write.write_text(json.dumps(found, indent=0))
    print(f"{len(found)} texts")
    if options.compare:
        before = json.loads(options.compare.read_text())
        both = [label for label in found if label in before]
        differ = [label for label in both if found[label] != before[label]]
        print(f"{len(both)} compared, {len(differ)} differ")
        print("\n".join(differ[:50]))
        raise SystemExit(bool(differ))


if __name__ == "__main__":
    main()
