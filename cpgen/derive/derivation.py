"""From a request to the program that answers it."""

from __future__ import annotations

from collections.abc import Sequence

from cpgen.derive import groups, programs
from cpgen.derive.derived import Derived
from cpgen.derive.request import Request
from cpgen.derive.sources import Setting
from cpgen.errors import RequestError
from cpgen.ir.nodes import Graph, Input


def derivation(graph: Graph, wrt: Sequence[Input], request: Request, setting: Setting) -> Derived:
    """The derivation that a request names, as it stands: where the library would choose, by "cp".

    Raises RequestError for a method or a leaf that is not known.
    """
    leaves = {v.name: v for v in wrt}
    method = request.method or "cp"
    pairs = [(_leaf(leaves, a), _leaf(leaves, b)) for a, b in request.pairs]
    match request.what:
        case "value":
            return programs.value(graph)
        case "gradient":
            return programs.gradient(graph, wrt)
        case "jvp":
            return programs.jvp(graph, wrt)
        case "hvp":
            return programs.hvp(graph, wrt)
        case "hessian":
            return programs.hessian(graph, wrt, method, setting)
        case "diagonal":
            return programs.diagonal(graph, wrt, method, setting)
        case "trace":
            return programs.trace(graph, wrt, method, setting)
        case "sketch":
            return programs.sketch(graph, wrt, pairs or None, setting)
        case "block":
            return programs.blocks(graph, wrt, pairs, "cp", setting)
        case "entries":
            wanted = [((_leaf(leaves, a), i), (_leaf(leaves, b), j)) for (a, i), (b, j) in request.entries]
            return programs.entries(graph, wrt, wanted, setting)
        case "sums":
            assert request.sums is not None
            return groups.sums(graph, wrt, request.sums, method, setting)
    raise AssertionError(f"a request for {request.what}")


def _leaf(leaves: dict[str, Input], name: str) -> Input:
    if name not in leaves:
        raise RequestError(f"{name!r} is not among wrt ({', '.join(leaves)}): compile with wrt containing it")
    return leaves[name]
