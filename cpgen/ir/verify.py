"""The checkers of the graph language: of programs between passes in the tests, of a model's constants always."""

from __future__ import annotations

import numpy as np

from cpgen.errors import UnsupportedError
from cpgen.ir.nodes import COLUMNS, ROWS, Carry, Dim, Graph, Input, Map, Program, topological
from cpgen.ir.recur import components
from cpgen.scalar import check_constants, placeholder


def verify(program: Program) -> None:
    """Raise AssertionError, naming the node, if ``program`` breaks a rule of :mod:`cpgen.ir.nodes`.

    Raises ModelError for a cycle that does not move along one axis.
    """
    listed = set(program.inputs)
    for node in program.nodes():
        if isinstance(node, Input):
            assert node in listed, f"input {node.name} is used but not listed"
            _check_lead(node.shape, node.name)
            continue
        if isinstance(node, Carry):
            _check_lead(node.shape, node.name)
            assert node.is_closed, f"{node.name}: carries nothing"
            assert node.step in (1, -1) and 0 <= node.along < len(node.element_shape), (
                f"{node.name}: no sequential axis"
            )
            continue
        assert isinstance(node, Map)
        _check_lead(node.shape, node.name)
        assert 0 <= node.rank <= len(node.extents), f"{node.name}: rank {node.rank}"
        assert node.reduce in ("sum", "max"), f"{node.name}: reduce {node.reduce}"
        allowed = {placeholder(k) for k in range(len(node.args))}
        assert node.expr.free_symbols <= allowed, f"{node.name}: {node.expr} reads more than its arguments"
        for access in node.args:
            assert len(access.index) == len(access.node.shape), f"{node.name}: wrong number of subscripts"
            for index, extent in zip(access.index, access.node.shape, strict=True):
                _check_index(node, index.axes, node.name)
                if isinstance(extent, Dim):
                    position = index.axis
                    assert position is not None and node.extents[position] == extent, (
                        f"{node.name}: {extent} index"
                    )
                else:
                    _check_no_rows(node, index.axes)
        for guard in node.guards:
            _check_index(node, guard.index.axes, node.name)
            _check_no_rows(node, guard.index.axes)
    components(program.nodes())


def verify_constants(graph: Graph, real: str) -> None:
    """Raise UnsupportedError, naming the definition, for a constant of the model that over- or underflows in ``real``."""
    for given in graph.variables:
        if given.values is not None and not np.isfinite(given.held(np.dtype(real))).all():
            raise UnsupportedError(f"the constant {given.name} has numbers beyond the range of {real}", given.origin)
    for node in topological([graph.objective, *(node for _, node in graph.definitions)]):
        if isinstance(node, Map):
            try:
                check_constants(node.expr, real)
            except UnsupportedError as error:
                raise UnsupportedError(f"{node.origin.name}: {error.message}", node.origin) from error


def _check_lead(shape: tuple[object, ...], name: str) -> None:
    lead = [e for e in shape if isinstance(e, Dim)]
    assert lead == [d for d in (COLUMNS, ROWS) if d in lead], f"{name}: run-time axes out of order in {shape}"
    assert list(shape[: len(lead)]) == lead, f"{name}: run-time axes are not first in {shape}"


def _check_index(node: Map, axes: tuple[int, ...], name: str) -> None:
    assert all(0 <= a < len(node.extents) for a in axes), f"{name}: index outside the loop space"


def _check_no_rows(node: Map, axes: tuple[int, ...]) -> None:
    assert all(node.extents[a] is not ROWS for a in axes), f"{node.name}: the number of a row in an index"
