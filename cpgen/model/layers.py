"""Common layers as thin functions: each writes ordinary definitions into a model and returns the last one.

Axes are taken from the variables' declarations; axes that a layer needs on the way are named after the layer.
"""

from __future__ import annotations

import builtins
from typing import Any

import sympy

from cpgen.errors import ModelError, ShapeError
from cpgen.ir.nodes import Dim
from cpgen.model.expressions import Axis
from cpgen.model.helpers import max, mean, softmax, sum
from cpgen.model.model import Model, Variable
from cpgen.model.place import caller

__all__ = ["attention", "avg_pool", "conv1d", "conv2d", "dense", "max_pool"]


def dense(model: Model, name: str, source: Variable, weight: Variable, bias: Variable | None = None) -> Any:
    """``name[..., o] = sum(weight[o, i] * source[..., i], i) + bias[o]``."""
    _count(name, "source", source, 1)
    _count(name, "weight", weight, 2, exactly=True)
    out, inner = weight.axes
    last = source.axes[-1]
    if last.extent != inner.extent:
        raise ShapeError(
            f"{name}: {source!r} ends in an axis of {last.size_text} but {weight!r} multiplies {inner.extent}",
            caller(name),
        )
    over, space = inner, (*source.axes[:-1], out)
    if inner in space:
        over = model.axis(f"{name}_{inner.name}", inner.extent)
    total = sum(weight[out, over] * source[(*source.axes[:-1], over)], over)
    return model.define(name, space, _with_bias(name, total, bias, out))


def conv1d(
    model: Model,
    name: str,
    source: Variable,
    weight: Variable,
    bias: Variable | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Any:
    """``name[..., o, q] = sum(weight[o, c, k] * source[..., c, stride*q + dilation*k - padding], c, k) + bias[o]``.

    With ``groups`` the channels of ``source`` and ``name`` are cut into so many parts and each output reads the part of
    its own number; ``c`` counts the channels of one part.
    """
    return _convolution(model, name, source, weight, bias, stride, padding, dilation, groups, 1)


def conv2d(
    model: Model,
    name: str,
    source: Variable,
    weight: Variable,
    bias: Variable | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Any:
    """:func:`conv1d` with two positions: ``weight[o, c, k, l]`` and ``source[..., c, p, q]``; zeros outside."""
    return _convolution(model, name, source, weight, bias, stride, padding, dilation, groups, 2)


def _convolution(
    model: Model,
    name: str,
    source: Variable,
    weight: Variable,
    bias: Variable | None,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    positions: int,
) -> Any:
    _count(name, "source", source, positions + 1)
    _count(name, "weight", weight, positions + 2, exactly=True)
    for what, number in (("stride", stride), ("dilation", dilation), ("groups", groups)):
        _at_least(name, what, number, 1)
    _at_least(name, "padding", padding, 0)
    out, channel, *taps = weight.axes
    lead, own_channel, spatial = (
        source.axes[: -positions - 1],
        source.axes[-positions - 1],
        source.axes[-positions:],
    )
    if channel.size * groups != own_channel.extent or out.size % groups:
        of = f" in each of {groups} groups, which must divide its {out.extent} outputs," if groups > 1 else ""
        raise ShapeError(
            f"{name}: {source!r} has {own_channel.extent} channels but {weight!r}{of} expects {channel.extent}",
            caller(name),
        )
    moved: list[Axis] = []
    for letter, axis, tap in zip("pq", spatial, taps, strict=False):
        width = dilation * (_size(name, tap) - 1) + 1
        size = _windows(name, axis, width, stride, padding)
        moved.append(model.axis(f"{name}_{letter}", size))
    subscripts = [stride * p + dilation * k - padding for p, k in zip(moved, taps, strict=True)]
    read = source.padded if padding else source
    own = channel if groups == 1 else out // (out.size // groups) * channel.size + channel
    total = sum(weight[weight.axes] * read[(*lead, own, *subscripts)], channel, *taps)
    return model.define(name, (*lead, out, *moved), _with_bias(name, total, bias, out))


def avg_pool(model: Model, name: str, source: Variable, *sizes: int) -> Any:
    """The mean over windows of ``sizes`` along the last axes; what does not fill a window is left out."""
    _count(name, "source", source, len(sizes))
    if not sizes or min(sizes) < 1:
        raise ModelError(
            f"{name}: avg_pool needs a window of at least 1 for each axis it pools", caller(name)
        )
    lead, spatial = source.axes[: -len(sizes)], source.axes[-len(sizes) :]
    windows = [model.axis(f"{name}_k{a}", size) for a, size in enumerate(sizes)]
    moved = [
        model.axis(f"{name}_p{a}", _size(name, axis) // size)
        for a, (axis, size) in enumerate(zip(spatial, sizes, strict=True))
    ]
    subscripts = [size * p + k for size, p, k in zip(sizes, moved, windows, strict=True)]
    return model.define(name, (*lead, *moved), mean(source[(*lead, *subscripts)], *windows))


def max_pool(
    model: Model, name: str, source: Variable, *sizes: int, stride: int | None = None, padding: int = 0
) -> Any:
    """The largest value of each window of ``sizes`` along the last axes, ``stride`` apart (default: side by side).

    With ``padding`` windows begin so far outside, where nothing is: whatever the signs, the largest value is one of
    ``source``.  Raises ModelError where a window would hold nothing.
    """
    _count(name, "source", source, len(sizes))
    if not sizes:
        raise ModelError(f"{name}: max_pool needs the size of a window for each axis it pools", caller(name))
    for size in sizes:
        _at_least(name, "a window's size", size, 1)
    _at_least(name, "padding", padding, 0)
    if stride is not None:
        _at_least(name, "stride", stride, 1)
    if padding >= min(sizes):
        raise ModelError(
            f"{name}: with padding={padding} a window of {min(sizes)} lies outside of {source!r} as a whole, and nothing "
            "has no largest value",
            caller(name),
        )
    steps = [size if stride is None else stride for size in sizes]
    lead, spatial = source.axes[: -len(sizes)], source.axes[-len(sizes) :]
    moved = [
        model.axis(f"{name}_p{a}", _windows(name, axis, size, step, padding))
        for a, (axis, size, step) in enumerate(zip(spatial, sizes, steps, strict=True))
    ]
    if padding:  # one axis after the other
        for a, (out, size, step) in enumerate(zip(moved, sizes, steps, strict=True)):
            own = name if a == len(sizes) - 1 else f"{name}_along{a}"
            source = _pooled_along(model, own, source, len(lead) + a, out, size, step, padding)
        return source
    windows = [model.axis(f"{name}_k{a}", size) for a, size in enumerate(sizes)]
    subscripts = [step * p + k for step, p, k in zip(steps, moved, windows, strict=True)]
    return model.define(name, (*lead, *moved), max(source[(*lead, *subscripts)], *windows))


def _pooled_along(
    model: Model, name: str, source: Variable, at: int, out: Axis, size: int, step: int, padding: int
) -> Variable:
    """The largest of each window along axis ``at``: windows of whole size together, each that is cut off on its own."""
    before, own, after = source.axes[:at], source.axes[at], source.axes[at + 1 :]
    pieces: list[tuple[int, int, int, int]] = []  # first window, how many, where the first begins, their size
    for p in range(out.size):
        start, stop = builtins.max(step * p - padding, 0), min(step * p - padding + size, own.size)
        if pieces and stop - start == size == pieces[-1][3]:
            pieces[-1] = (*pieces[-1][:1], pieces[-1][1] + 1, *pieces[-1][2:])
        else:
            pieces.append((p, 1, start, stop - start))
    total = sympy.Integer(0)
    for number, (first, count, start, width) in enumerate(pieces):
        p, k = model.axis(f"{name}_q{number}", count), model.axis(f"{name}_w{number}", width)
        subscript = start + k + (step * p if count > 1 else 0)
        part = model.define(f"{name}_part{number}", (*before, p, *after), max(source[(*before, subscript, *after)], k))
        total += part.padded[(*before, out - first, *after)]
    return model.define(name, (*before, out, *after), total)


def attention(model: Model, name: str, query: Variable, key: Variable, value: Variable) -> Any:
    """Scaled dot-product attention of ``query[..., t, e]``, ``key[..., s, e]`` and ``value[..., s, d]``.

    Defines the weights ``<name>_weights[..., t, s]``, normalised over ``s``, and ``name[..., t, d]`` (Vaswani et al.
    2017).
    """
    for what, variable in (("query", query), ("key", key), ("value", value)):
        _count(name, what, variable, 2)
    *lead, t, e = query.axes
    if any(v.axes[:-2] != tuple(lead) for v in (key, value)):
        raise ShapeError(
            f"{name}: {query!r}, {key!r} and {value!r} must begin with the same axes", caller(name)
        )
    if key.axes[-1].extent != e.extent or key.axes[-2].extent != value.axes[-2].extent:
        raise ShapeError(
            f"{name}: {query!r} and {key!r} must agree in the last axis, {key!r} and {value!r} in the one before",
            caller(name),
        )
    s = model.axis(f"{name}_s", _size(name, key.axes[-2]))
    over = model.axis(f"{name}_e", _size(name, e))
    d = value.axes[-1]
    scores = sum(query[(*lead, t, over)] * key[(*lead, s, over)], over) / sympy.sqrt(over.extent)
    weights = model.define(f"{name}_weights", (*lead, t, s), softmax(scores, s))
    return model.define(name, (*lead, t, d), sum(weights[(*lead, t, s)] * value[(*lead, s, d)], s))


def _count(name: str, what: str, variable: Variable, axes: int, exactly: bool = False) -> None:
    if not isinstance(variable, Variable):
        raise ModelError(f"{name}: the {what} must be a declared variable without subscripts", caller(name))
    have = len(variable.axes)
    if have < axes or (exactly and have != axes):
        raise ShapeError(
            f"{name}: the {what} {variable!r} needs {'' if exactly else 'at least '}{axes} axes, it has {have}",
            caller(name),
        )


def _size(name: str, axis: Axis) -> int:
    if isinstance(axis.extent, Dim):
        raise ShapeError(
            f"{name}: the axis of rows, {axis.name}, cannot be convolved, pooled or attended over",
            caller(name),
        )
    return axis.extent


def _at_least(name: str, what: str, number: int, least: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise ModelError(f"{name}: {what}={number!r} must be a whole number of at least {least}", caller(name))


def _windows(name: str, axis: Axis, width: int, step: int, padding: int) -> int:
    """How many windows of ``width`` there are along ``axis``."""
    room = _size(name, axis) + 2 * padding
    if width > room:
        raise ShapeError(
            f"{name}: a window of {width} does not fit into the axis {axis.name} of {axis.extent}"
            + (f" with padding {padding}" if padding else ""),
            caller(name),
        )
    return (room - width) // step + 1


def _with_bias(name: str, total: sympy.Expr, bias: Variable | None, out: Axis) -> sympy.Expr:
    if bias is None:
        return total
    if tuple(a.extent for a in bias.axes) != (out.extent,):
        raise ShapeError(
            f"{name}: the bias {bias!r} must have the one axis {out.name} of {out.extent}", caller(name)
        )
    return total + bias[out]
