"""Pooling and its derivative in ONNX.

Belongs here: windows that are summed or whose maximum is taken. Not here: the derivative of averages
(``decompositions``).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from analyzer.compiler.ir import Result, Value
from analyzer.compiler.lowering.emitter import Emitter
from analyzer.compiler.lowering.table import lowers

aten = torch.ops.aten


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
    return {0: values, 1: within}


@lowers(aten.max_pool2d_with_indices_backward.default, aten.max_pool3d_with_indices_backward.default)
def max_pool_backward(
    w: Emitter, result: Result, grad: Value, x: Value, kernel: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], ceil: bool, indices: Value,
) -> str:  # fmt: skip
    """The gradient of every maximum goes to the element it was taken from; gradients of overlapping windows add up."""
    n = len(kernel)
    strides, spans = (
        list(stride) or list(kernel),
        [d * (k - 1) + 1 for k, d in zip(kernel, _each(dilation, n), strict=True)],
    )
    apart = all(s >= span for s, span in zip(strides, spans, strict=True))
    flat_indices, sizes = _flat_indices(w, x, indices, n), w.size(result.shape)
    reach = [(o - 1) * s + k for o, s, k in zip(grad.shape[-n:], strides, kernel, strict=True)]  # type: ignore[operator]
    fits = all(r <= size for r, size in zip(reach, result.shape[-n:], strict=True))  # type: ignore[operator]
    if apart and fits and result.dtype == torch.float32:
        return w.op("MaxUnpool", grad.name, flat_indices, sizes, kernel_shape=list(kernel), strides=strides)
    empty = w.zeros(w.op("ReduceProd", sizes), torch.float32)
    flat = [w.op("Reshape", name, w.integers([-1])) for name in (flat_indices, w.of(grad, torch.float32))]
    put = w.op("ScatterElements", empty, *flat, axis=0, **({} if apart else {"reduction": "add"}))
    summed = w.op("Reshape", put, sizes)
    return summed if result.dtype == torch.float32 else w.cast(summed, result.dtype)


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
