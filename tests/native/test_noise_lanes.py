"""Signs drawn for rows side by side are those drawn one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cffi
import numpy as np
import pytest

from cpgen.emit.runtime import header
from cpgen.ir.build import elementwise, new_input
from cpgen.ir.nodes import COLUMNS, ROWS, Program
from cpgen.ir.noise import node_key, noise_array, noise_order
from cpgen.native import find_compiler
from cpgen.native.compiler import compile_library
from cpgen.scalar import placeholder

DECLARED = """void draw_{0}({1} *tile, ptrdiff_t pitch, ptrdiff_t stop, ptrdiff_t count, uint64_t seed, int32_t design,
    uint32_t order, uint32_t offset, uint32_t node, uint64_t column, uint32_t row, ptrdiff_t rows)"""
REALS = {"f64": "double", "f32": "float"}
PASSED = "tile, pitch, stop, count, seed, design, order, offset, node, column, row, rows"


@pytest.fixture(scope="module")
def library() -> Callable[..., Any]:
    heads = {suffix: DECLARED.format(suffix, real) for suffix, real in REALS.items()}
    body = "\n".join(f"{head}\n{{\n    cpgen_noise_tile_{suffix}({PASSED});\n}}" for suffix, head in heads.items())
    text = f'#include "cpgen_philox.h"\n{body}\n'
    ffi = cffi.FFI()
    ffi.cdef(";\n".join(heads.values()) + ";")
    path = compile_library("lanes", {"lanes.c": text, "cpgen_philox.h": header("cpgen_philox.h")}, find_compiler())
    opened = ffi.dlopen(str(path))

    def draw(real: str, pitch: int, stop: int, count: int, *rest: int) -> Any:
        tile = np.full((count, pitch), 7, np.float64 if real == "f64" else np.float32)
        getattr(opened, f"draw_{real}")(ffi.from_buffer(f"{REALS[real]}[]", tile), pitch, stop, count, *rest)
        return tile

    return draw


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("design", [0, 1, 2])
@pytest.mark.parametrize(
    ("pitch", "stop", "rows", "count"), [(64, 64, 64, 130), (8, 8, 8, 3), (40, 37, 5, 10), (33, 33, 1, 40)]
)
def test_lanes_in_step(
    library: Callable[..., Any], real: str, design: int, pitch: int, stop: int, rows: int, count: int
) -> None:
    offset, column, row, seed = 3, 2, 11, 0xDEADBEEF12345678
    node = new_input("v_a", (COLUMNS, ROWS, count), "noise", offset=offset)
    program = Program("t", (("v_a", elementwise(-placeholder(0), [node])),), (node,))
    columns = -(-stop // rows)
    wanted = noise_array(node, program, seed, rows, columns, design, first_row=row, first_column=column)
    flat = wanted.transpose(2, 0, 1).reshape(count, columns * rows)
    order = noise_order(program)
    tile = library(real, pitch, stop, count, seed, design, order, offset, node_key("v_a"), column, row, rows)
    assert np.array_equal(tile[:, :stop], flat[:, :stop])
    assert (tile[:, stop:] == 7).all()
