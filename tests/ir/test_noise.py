"""Philox against its published answers; the designs against what they promise."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest

from cpgen.ir.build import elementwise, new_input
from cpgen.ir.nodes import COLUMNS, ROWS, Input, Program
from cpgen.ir.noise import (
    HADAMARD,
    IDENTITY,
    INDEPENDENT,
    elements,
    node_key,
    noise_array,
    noise_count,
    noise_order,
    philox,
    shuffled,
)
from cpgen.scalar import placeholder as p

ONES = 0xFFFFFFFF


def program(*inputs: Input) -> Program:
    return Program("t", tuple((i.name, elementwise(-p(0), [i])) for i in inputs), inputs)


def noise(name: str, *shape: int, offset: int = 0, rows: bool = True) -> Input:
    return new_input(name, (COLUMNS, *((ROWS,) if rows else ()), *shape), "noise", offset=offset)


@pytest.mark.parametrize(
    ("counter", "seed", "words"),
    [
        ((0, 0, 0, 0), 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((1, 0, 0, 0), 0, "f8e4cca4 5cb200db b1a574eb 097eff67"),
        ((ONES,) * 4, (1 << 64) - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        # the third of the known answers shipped with Random123: digits of pi
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers(counter: tuple[int, ...], seed: int, words: str) -> None:
    assert " ".join(f"{int(w):08x}" for w in philox(counter, seed)) == words


def scalar_philox(counter: tuple[int, ...], seed: int) -> list[int]:
    """Philox4x32-10 from the paper's description, one Python integer at a time."""
    c, k = list(counter), [seed & ONES, seed >> 32]
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 1 << 32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) & ONES, (k[1] + 0xBB67AE85) & ONES]
    return c


def test_broadcast_counters_give_the_scalar_answers() -> None:
    a, b = np.arange(5, dtype=np.uint64)[:, None], np.array([0, 7, ONES], dtype=np.uint64)[None, :]
    words = philox((a, b, 123, 9), 0xDEADBEEF12345678)
    for i in range(5):
        for j in range(3):
            expected = scalar_philox((i, int(b[0, j]), 123, 9), 0xDEADBEEF12345678)
            assert [int(np.broadcast_to(w, (5, 3))[i, j]) for w in words] == expected


def scalar_sign(node: Input, seed: int, sample: int, row: int, element: int) -> float:
    words = scalar_philox((sample, row, crc32(node.name.encode()) & 0x7FFFFFFF, element // 128), seed)
    return -1.0 if words[(element % 128) // 32] >> (element % 32) & 1 else 1.0


def test_independent_signs_are_the_bits_of_the_words() -> None:
    node = noise("v_a", 3, 60)
    seed = (5 << 32) + 17
    array = noise_array(node, program(node), seed, 2, 3, INDEPENDENT, first_row=11, first_column=4)
    assert array.shape == (3, 2, 3, 60)
    for k, n, e in np.ndindex(3, 2, 180):
        assert array.reshape(3, 2, 180)[k, n, e] == scalar_sign(node, seed, 4 + k, 11 + n, e)


def scalar_shuffled(x: int, order: int, words: list[int]) -> int:
    """The bijection from its description, one Python integer at a time."""
    bits = order.bit_length() - 1
    later = [(words[i] * 0x9E3779B1 & ONES) ^ (words[(i + 1) % 4] >> 7) for i in range(4)]
    for key in words + later:
        turned = (key >> 16 | key << 16) & ONES
        x = (x * (key | 1) + turned) % order
        x ^= x >> max((bits + 1) // 2, 1)
        partner = x ^ ((key >> 9) % order)
        if turned >> (max(x, partner) % 32) & 1:
            x = partner
    return x


@pytest.mark.parametrize("order", [1, 2, 4, 8, 64, 2048])
def test_the_shuffle_is_a_bijection(order: int) -> None:
    words = [np.asarray(w) for w in philox((3, 5, ONES, 0), 17)]
    numbers = np.arange(order, dtype=np.uint64)
    found = shuffled(numbers, order, words)
    assert sorted(found.tolist()) == list(range(order))
    assert found.tolist() == [scalar_shuffled(k, order, [int(w) for w in words]) for k in range(order)]


@pytest.mark.parametrize("order", [4, 8, 16, 64])
def test_two_columns_differ_by_any_number_with_the_same_probability(order: int) -> None:
    """An arithmetic progression would favour some: elements that differ in a high bit would keep their relative sign."""
    rows = 20_000
    words = philox((0, np.arange(rows, dtype=np.uint64)[:, None], ONES, 0), 2)
    first = shuffled(np.arange(4, dtype=np.uint64)[None, :], order, words)
    for a, b in ((0, 1), (1, 2), (0, 3)):
        counts = np.bincount((first[:, a] ^ first[:, b]).astype(int), minlength=order)
        assert counts[0] == 0
        expected = rows / (order - 1)
        freedom = order - 2
        statistic = float(((counts[1:] - expected) ** 2 / expected).sum())
        assert statistic < freedom + 5 * (2 * freedom) ** 0.5 + 8


def test_few_columns_are_a_random_sample_without_replacement() -> None:
    """The mean sign of two elements over K columns of N varies by (1 - K/N) / K, whichever bits they differ in."""
    node = noise("v_a", 64)
    v = noise_array(node, program(node), 4, 4000, 16, HADAMARD)
    for other in (1, 2, 32, 63):
        for k in (4, 16):
            means = (v[:k, :, 0] * v[:k, :, other]).mean(axis=0)
            assert abs(float((means**2).mean()) / ((1 - k / 64) / k * 64 / 63) - 1) < 0.15


def test_hadamard_signs_follow_their_definition() -> None:
    a, b = noise("v_a", 3), noise("v_b", 2, 2, offset=3)
    whole = program(a, b)
    order = noise_order(whole)
    assert (noise_count(whole), order) == (7, 8)
    seed = 99
    array = noise_array(b, whole, seed, 2, 20, HADAMARD, first_row=6).reshape(20, 2, 4)
    for k, n, e in np.ndindex(20, 2, 4):
        block, column = divmod(k, order)
        moved = scalar_shuffled(column, order, scalar_philox((block, 6 + n, ONES, 0), seed))
        sign = scalar_sign(b, seed, block, 6 + n, e)
        assert array[k, n, e] == sign * (-1) ** bin((3 + e) & moved).count("1")


@pytest.mark.parametrize("design", [INDEPENDENT, HADAMARD, IDENTITY])
@pytest.mark.parametrize("rows", [True, False])
def test_rows_and_columns_may_be_split_anywhere(design: int, rows: bool) -> None:
    node, other = noise("v_a", 5, rows=rows, offset=2), noise("v_b", 130, offset=7)
    whole = program(node, other)
    for each in (node, other):
        full = noise_array(each, whole, 3, 7, 300, design)
        for split in (1, 4):
            if rows:
                parts = [
                    noise_array(each, whole, 3, split, 300, design),
                    noise_array(each, whole, 3, 7 - split, 300, design, first_row=split),
                ]
                assert np.array_equal(np.concatenate(parts, axis=1), full)
        for split in (1, 129, 256):
            parts = [
                noise_array(each, whole, 3, 7, split, design),
                noise_array(each, whole, 3, 7, 300 - split, design, first_column=split),
            ]
            assert np.array_equal(np.concatenate(parts, axis=0), full)


def test_noise_without_rows_is_the_same_for_every_row() -> None:
    node = noise("v_a", 6, rows=False)
    first = noise_array(node, program(node), 3, 1, 4, INDEPENDENT)
    assert np.array_equal(first, noise_array(node, program(node), 3, 9, 4, INDEPENDENT, first_row=5))


@pytest.mark.parametrize("sizes", [(1,), (3, 4), (5, 2, 9), (16,), (100, 33)])
def test_hadamard_columns_are_exactly_orthogonal(sizes: tuple[int, ...]) -> None:
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    inputs = [noise(f"v_{i}", size, offset=int(offsets[i])) for i, size in enumerate(sizes)]
    whole = program(*inputs)
    p_count, order = noise_count(whole), noise_order(whole)
    assert p_count == sum(sizes) and order >= p_count and order & (order - 1) == 0
    assert order == 1 or order // 2 < p_count
    arrays = [noise_array(i, whole, 12345, 3, 2 * order, HADAMARD) for i in inputs]
    v = np.concatenate(arrays, axis=2)
    assert set(np.unique(v)) <= {-1.0, 1.0}
    for row in range(3):
        for block in (v[:order, row], v[order:, row]):  # each whole block of columns is a design of its own
            assert np.array_equal(block.T @ block, order * np.eye(p_count))
    if order >= 8:
        assert not np.array_equal(v[:order, 0], v[:order, 1])  # rows are randomised independently,
        assert not np.array_equal(v[:order, 0], v[order:, 0])  # and so are blocks


def test_the_identity_design_is_the_identity() -> None:
    inputs = [noise("v_a", 2, 2), noise("v_b", 3, offset=4)]
    whole = program(*inputs)
    v = np.concatenate([noise_array(i, whole, 1, 2, 7, IDENTITY).reshape(7, 2, -1) for i in inputs], axis=2)
    for row in range(2):
        assert np.array_equal(v[:, row], np.eye(7))


def test_names_seeds_rows_and_columns_all_change_the_noise() -> None:
    a, b = noise("v_a", 128), noise("v_b", 128)
    whole = program(a, b)
    assert node_key("v_a") == crc32(b"v_a") & 0x7FFFFFFF != node_key("v_b")
    base = noise_array(a, whole, 1, 2, 2, INDEPENDENT)
    variants = [
        noise_array(b, whole, 1, 2, 2, INDEPENDENT),
        noise_array(a, whole, 2, 2, 2, INDEPENDENT),
        noise_array(a, whole, 1 + (1 << 32), 2, 2, INDEPENDENT),
        noise_array(a, whole, 1, 2, 2, INDEPENDENT, first_row=2),
        noise_array(a, whole, 1, 2, 2, INDEPENDENT, first_column=2),
    ]
    for other in variants:
        # 512 fair signs agree in 256 +- 11 places
        assert 180 < int((base == other).sum()) < 332
    # what else is in the program does not
    assert np.array_equal(noise_array(a, program(a), 1, 2, 2, INDEPENDENT), base)


def test_signs_have_mean_zero_and_are_uncorrelated() -> None:
    node = noise("v_a", 16)
    v = noise_array(node, program(node), 7, 40, 1000, INDEPENDENT).reshape(40000, 16)
    assert np.abs(v.mean(axis=0)).max() < 5 / np.sqrt(40000)
    moments = v.T @ v / 40000 - np.eye(16)
    assert np.abs(moments).max() < 5 / np.sqrt(40000)


def test_rows_beyond_four_billion_wrap_like_the_native_counter() -> None:
    node = noise("v_a", 8)
    far = noise_array(node, program(node), 1, 1, 2, INDEPENDENT, first_row=(1 << 32) + 3)
    assert np.array_equal(far, noise_array(node, program(node), 1, 1, 2, INDEPENDENT, first_row=3))


def test_sizes() -> None:
    assert elements(noise("v_a", 3, 5)) == 15 and elements(noise("v_a")) == 1
    assert (noise_count(program()), noise_order(program())) == (0, 1)
    assert noise_order(program(noise("v_a"))) == 1
