"""Traces by groups of variables: of each leaf, or of any entries of the leaves, with what they share of the noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpgen.derive import groups as derivation
from cpgen.derive.outputs import name_of, variance_of
from cpgen.derive.request import Request, Sums
from cpgen.errors import BudgetError, RequestError
from cpgen.estimate import lowrank
from cpgen.estimate.core import Core
from cpgen.estimate.memory import human
from cpgen.estimate.results import Estimate, Traces
from cpgen.estimate.sampling import Sampling, widening

Array = NDArray[np.floating]
# name -> the leaves of a group, or which elements of each: True, a mask or an index
Groups = Mapping[str, "str | Sequence[str] | Mapping[str, Any]"]
SAMPLED = ("cp", "gauss_newton", "hutchinson", "hutchinson_plain")
TOTAL = "trace"


@dataclass(frozen=True)
class Grouped:
    """The groups' names, and by leaf the weights of its elements: ``[group]`` where groups have all of it or nothing,
    else ``[group, *element]``; and whether the covariance of their sums is wanted."""

    names: Sequence[str]
    members: Mapping[str, Array]
    covariance: bool

    def touched(self, group: int) -> list[str]:
        """The leaves that a group has a part in."""
        return [leaf for leaf, weights in self.members.items() if weights[group].any()]


def traces(
    core: Core,
    groups: object,
    per_leaf: bool,
    covariance: bool,
    method: str,
    sampling: Sampling,
    arrays: Mapping[str, object],
) -> Traces:
    """What :meth:`cpgen.Estimator.trace` returns for ``per_leaf`` or ``groups``.

    Raises RequestError, BudgetError and what the diagonal of the same method raises.
    """
    sampling.check()
    if core.options.target == "cuda":
        raise RequestError("traces by leaf or group are for target='cpu': on a GPU take the diagonal and add it up")
    if method in lowrank.OF_TRACE:
        raise RequestError(f"method={method!r} knows the whole trace alone: take method='auto' for its parts")
    if per_leaf and groups is not None:
        raise RequestError("give per_leaf=True or groups=..., not both: a group may be a whole leaf")
    wanted = {v.name: [v.name] for v in core.wrt} if per_leaf else groups
    names, members = _members(core, wanted)
    if per_leaf:  # the last group is all of them, so that its bar is that of their sum
        names, members = [*names, TOTAL], {leaf: np.append(m, 1.0) for leaf, m in members.items()}
    asked = Grouped(names, members, covariance)
    request, reason = core.diagonal_request(method, sampling)
    exact = sampling.decide(core.outline(request))[0] != "sample"
    found = (_added_up if exact else _sampled)(core, request, reason, asked, sampling, arrays)
    if not per_leaf:
        return found
    items = dict(found)
    total = items.pop(TOTAL)
    among = None if found.covariance is None else found.covariance[..., :-1, :-1]
    return Traces(items, among, total)


def _members(core: Core, groups: object) -> tuple[list[str], dict[str, Array]]:
    """The names and the members of :class:`Grouped`."""
    how = "groups is a mapping, name -> leaf names, or leaf -> True, a mask or an index of its elements"
    if not isinstance(groups, Mapping) or not groups or not all(isinstance(name, str) for name in groups):
        raise RequestError(f"{how}; for example groups={{'layer 1': ['W1', 'b1'], 'row 0': {{'W1': 0}}}}")
    leaves = {v.name: v for v in core.wrt}
    whole: dict[str, Array] = {}
    parts: dict[str, Array] = {}
    chosen: list[tuple[int, str, Any]] = []
    for g, (name, content) in enumerate(groups.items()):
        content = [content] if isinstance(content, str) else content
        if isinstance(content, Sequence) and all(isinstance(leaf, str) for leaf in content):
            content = dict.fromkeys(content, True)
        if not isinstance(content, Mapping) or not content:
            raise RequestError(f"group {name!r}: {how}")
        for leaf, index in content.items():
            if leaf not in leaves:
                raise RequestError(f"group {name!r}: {leaf!r} is not among wrt ({', '.join(leaves)})")
            chosen.append((g, leaf, index))
    divided = {leaf for _, leaf, index in chosen if index is not True}
    need = sum(8 * len(groups) * int(np.prod(leaves[leaf].element_shape, dtype=np.int64)) for leaf in divided)
    if (limit := core.exceeded(need)) is not None:
        raise BudgetError(
            f"the masks of {len(groups)} groups need {human(need)}, {human(limit)} are allowed; ask for fewer groups at "
            "a time (or raise memory_limit)"
        )
    for g, leaf, index in chosen:
        shape = leaves[leaf].element_shape
        if leaf not in divided:
            whole.setdefault(leaf, np.zeros(len(groups)))[g] = 1.0
            continue
        weights = parts.setdefault(leaf, np.zeros((len(groups), *shape)))
        mask = isinstance(index, np.ndarray) and index.dtype == bool
        try:
            if mask and index.shape != shape:
                raise IndexError(f"the mask has shape {index.shape}")
            weights[g][index] = 1.0
        except (IndexError, TypeError, ValueError) as error:
            at = list(groups)[g]
            raise RequestError(
                f"group {at!r}: {index!r} does not index {leaf}, whose elements have shape {shape}: {error}"
            ) from error
    return list(groups), whole | parts


def _added_up(
    core: Core,
    request: Request,
    reason: str,
    asked: Grouped,
    sampling: Sampling,
    arrays: Mapping[str, object],
) -> Traces:
    """Of a diagonal without sampling error."""
    diagonal, _ = core.estimated(request, core.diagonals, sampling, arrays, reason)
    first = next(iter(diagonal.values()))
    per_row = all(v.has_rows for v in core.wrt)
    sums: Any = 0.0
    count = len(asked.names)
    for leaf, weights in asked.members.items():
        value = diagonal[leaf].value
        shape = core.leaf(leaf).element_shape
        lead = value.shape[: value.ndim - len(shape)]
        flat = value.reshape(*lead, -1)
        own = flat.sum(-1)[..., None] * weights if weights.ndim == 1 else flat @ weights.reshape(count, -1).T
        sums = sums + (own if per_row or not lead else own.sum(axis=0))
    made = _estimates(asked.names, np.asarray(sums, core.real), np.zeros_like(sums, core.real), first)
    made = {name: replace(e, exact=not e.biased) for name, e in made.items()}
    return Traces(made, np.zeros((*np.shape(sums), count), core.real) if asked.covariance else None)


def _sampled(
    core: Core,
    request: Request,
    reason: str,
    asked: Grouped,
    sampling: Sampling,
    arrays: Mapping[str, object],
) -> Traces:
    method = core.outline(request).estimator
    if method not in SAMPLED:
        raise RequestError(f"method={method!r} samples single entries alone: take one of auto, {', '.join(SAMPLED)}")
    names, members, real = asked.names, asked.members, core.real
    divided = ((leaf, derivation.WHOLE if w.ndim == 1 else derivation.PARTS) for leaf, w in members.items())
    own = Request("sums", method, sums=Sums(len(names), tuple(divided), asked.covariance))
    inputs = derivation.member_names(core.graph, core.wrt)
    more = {inputs[leaf]: np.ascontiguousarray(w, real) for leaf, w in members.items()}
    found, outputs = core.estimated(own, {"sums": "trace"}, sampling, arrays, reason, more)
    estimate = found["trace"]
    made = _estimates(names, estimate.value, estimate.stderr, estimate)
    known = core.outline(own).exact
    for g, name in enumerate(names):
        if all(name_of("diagonal", leaf) in known for leaf in asked.touched(g)):
            zero = np.zeros_like(made[name].stderr)
            made[name] = replace(made[name], exact=not estimate.biased, stderr=zero)
    if not asked.covariance:
        return Traces(made, None)
    if estimate.exact:
        return Traces(made, np.zeros((*estimate.value.shape, len(names)), real))
    loaded, pairs = core.loaded(own), variance_of("pairs")
    if pairs not in loaded.outputs or estimate.samples == 1:
        unknown = np.nan if pairs in loaded.outputs else 0.0
        return Traces(made, np.full((*estimate.value.shape, len(names)), unknown, real))
    draws = core.draws_of_rows(loaded, "sums", core.arrays(loaded, arrays).rows)
    wider = widening(estimate.samples, draws, one=True)
    return Traces(made, outputs[pairs] * real.type(wider**2))


def _estimates(names: Sequence[str], value: Array, stderr: Array, like: Estimate) -> dict[str, Estimate]:
    return {
        name: replace(like, name=name, value=value[..., g], stderr=stderr[..., g]) for g, name in enumerate(names)
    }
