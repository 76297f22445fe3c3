"""Pooling and its derivative in ONNX.

Belongs here: windows that are summed or whose maximum is taken. Not here: the derivative of averages
(``decompositions``).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import torch

from analyzer.compiler.ir import Result, Value
from analyzer.compiler.lowering.emitter import Emitter
from analyzer.compiler.lowering.table import lowers

aten = torch.ops.aten
#: Windows of more places than this are differentiated by index: every place is four operators.
_MOST_PLACES = 16


def _each(values: Sequence[int], n: int) -> list[int]:
    return list(values) * (n if len(values) == 1 else 1)


def _window(kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> dict[str, Any]:
    n = len(kernel)
    strides = _each(stride, n) if stride else list(kernel)
    return {"kernel_shape": list(kernel), "strides": strides, "pads": _each(padding, n) * 2}


@lowers(aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default)
def max_pool(
    w: Emitter, result: Any, x: Value, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,), ceil: bool = False,
) -> dict[int, str]:  # fmt: skip
    """Maxima of windows with their indices within each channel."""
    n = len(kernel)
    more = _window(kernel, stride, padding) | {"dilations": _each(dilation, n), "ceil_mode": int(ceil)}
    if 1 not in result:
        return {0: w.op("MaxPool", x.name, **more)}
    values, flat_indices = w.ops("MaxPool", 2, x.name, **more)
    within = w.op("Mod", flat_indices, w.integers([prod(x.shape[-n:])]))  # type: ignore[arg-type]
    w.flat_indices[within] = flat_indices
    if _tiles(kernel, more["strides"], more["dilations"], x.rank):  # then nothing else reads the indices, as a rule
        values = w.maxima[within] = w.op("MaxPool", x.name, **more)
    return {0: values, 1: within}


@lowers(aten.max_pool2d_with_indices_backward.default, aten.max_pool3d_with_indices_backward.default)
def max_pool_backward(
    w: Emitter, result: Result, grad: Value, x: Value, kernel: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], ceil: bool, indices: Value,
) -> str:  # fmt: skip
    """The gradient of every maximum goes to the element it was taken from; gradients of overlapping windows add up."""
    n = len(kernel)
    strides = list(stride) or list(kernel)
    if indices.name in w.maxima:
        return _tiled(w, result, grad, x, w.maxima[indices.name], kernel, _each(padding, n))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, _each(dilation, n), strict=True)]
    apart = all(s >= span for s, span in zip(strides, spans, strict=True))
    flat_indices, sizes = _flat_indices(w, x, indices, n), w.size(result.shape)
    wide = torch.promote_types(result.dtype, torch.float32)
    empty = w.zeros(w.op("ReduceProd", sizes), wide)
    flat = [w.op("Reshape", name, w.integers([-1])) for name in (flat_indices, w.of(grad, wide))]
    put = w.op("ScatterElements", empty, *flat, axis=0, **({} if apart else {"reduction": "add"}))
    summed = w.op("Reshape", put, sizes)
    return summed if result.dtype == wide else w.cast(summed, result.dtype)


def _tiles(kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int], rank: int) -> bool:
    """Whether small windows lie side by side, so that :func:`_tiled` holds."""
    side_by_side = list(strides) == list(kernel) and all(d == 1 for d in dilation)
    return side_by_side and prod(kernel) <= _MOST_PLACES and rank == len(kernel) + 2


def _tiled(
    w: Emitter, result: Result, grad: Value, x: Value, maxima: str, kernel: Sequence[int], padding: Sequence[int]
) -> str:
    """The derivative for windows side by side by comparing: place by place of the window, what equals the maximum takes
    the gradient and leaves none for the places after it."""
    n, counts = len(kernel), [int(size) for size in grad.shape[2:]]  # type: ignore[arg-type]
    tiled = [count * k for count, k in zip(counts, kernel, strict=True)]
    over = [t - int(size) - p for t, size, p in zip(tiled, x.shape[2:], padding, strict=True)]  # type: ignore[arg-type]
    beside = [*[0, 0], *padding, *[0, 0], *[max(0, each) for each in over]]
    bordered = w.op("Pad", x.name, w.integers(beside), w.scalar(-torch.inf, x.dtype)) if any(beside) else x.name
    axes, steps, zero = w.integers(range(2, n + 2)), w.integers(kernel), w.scalar(0, result.dtype)
    left, parts = w.of(grad, result.dtype), []
    for place in product(*map(range, kernel)):
        here = w.op("Slice", bordered, w.integers(place), w.integers(tiled), axes, steps)
        chosen = w.op("Equal", here, maxima)
        parts.append(w.op("Where", chosen, left, zero))
        left = w.op("Where", chosen, zero, left)
    whole = _interleaved(w, parts, Value(parts[0], grad.shape, result.dtype), kernel)
    if any(padding):
        ends = [p + int(size) for p, size in zip(padding, x.shape[2:], strict=True)]  # type: ignore[arg-type]
        return w.op("Slice", whole, w.integers(padding), w.integers(ends), axes)
    missing = [0] * (n + 4) + [-each for each in over]
    return w.op("Pad", whole, w.integers(missing), zero) if any(over) else whole


def _interleaved(w: Emitter, parts: Sequence[str], part: Value, kernel: Sequence[int]) -> str:
    """Tensors for each place of a window, (batch, channels, …), as one in which the windows lie side by side."""
    n, (batch, channels, *counts) = len(kernel), part.shape
    joined = w.op("Concat", *parts, axis=1)
    if n == 2 and kernel[0] == kernel[1]:
        return w.op("DepthToSpace", joined, blocksize=kernel[0], mode="DCR")
    apart = w.reshape(joined, [batch, *kernel, channels, *counts])
    order = [axis for pair in zip(range(n + 2, 2 * n + 2), range(1, n + 1), strict=True) for axis in pair]
    beside = w.op("Transpose", apart, perm=[0, n + 1, *order])
    return w.reshape(beside, [batch, channels, *[int(c) * k for c, k in zip(counts, kernel, strict=True)]])  # type: ignore[arg-type]


def _flat_indices(w: Emitter, x: Value, indices: Value, n: int) -> str:
    """Indices within each channel as indices into the flattened tensor."""
    if indices.name in w.flat_indices:
        return w.flat_indices[indices.name]
    lead, channel = x.shape[:-n], prod(x.shape[-n:])  # type: ignore[arg-type]
    count = w.op("ReduceProd", w.size(lead), keepdims=0)
    starts = w.op(
        "Mul", w.op("Range", w.scalar(0, torch.int64), count, w.scalar(1, torch.int64)), w.integers([channel])
    )
    return w.op("Add", indices.name, w.op("Reshape", starts, w.size([*lead, *[1] * n])))


@lowers(aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)
def avg_pool(
    w: Emitter, result: Result, x: Value, kernel: Sequence[int], stride: Sequence[int] = (),
    padding: Sequence[int] = (0,), ceil: bool = False, count_pad: bool = True, divisor: int | None = None,
) -> str:  # fmt: skip
    """Means of windows."""
    more = _window(kernel, stride, padding)
    if divisor is not None:
        pooled = w.op("AveragePool", x.name, count_include_pad=1, ceil_mode=int(ceil), **more)
        return w.op("Mul", pooled, w.scalar(prod(kernel) / divisor, result.dtype))
    return w.op("AveragePool", x.name, count_include_pad=int(count_pad), ceil_mode=int(ceil), **more)
