"""Pools over windows and over entire feature maps.

Belongs here: MaxPool, AveragePool, LpPool and their global forms, each one ATen pool where torch has it. Not
here: pools of regions (``vision``), the inverse of a pool (``pooling_inverse``), the arithmetic of windows
(``convolution_window``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from analyzer.importer.graph import Node
from analyzer.importer.ops.convolution_window import Window, pad_spatial, window
from analyzer.importer.table import operator

aten = torch.ops.aten


def _in_planes(x: Tensor, span: Window) -> tuple[Tensor, Window]:
    """One-dimensional data as planes of height 1: torch's 1-D pools are not one ATen operator."""
    if span.dims != 1:
        return x, span
    wide = Window(
        (1, *span.kernel),
        (1, *span.strides),
        (1, *span.dilations),
        (0, *span.begin),
        (0, *span.end),
        (1, *span.sizes),
    )
    return x.unsqueeze(2), wide


def _back(x: Tensor, span: Window) -> Tensor:
    """Planes of height 1 as one-dimensional data again."""
    return x.squeeze(2) if span.dims == 1 else x


def _torch_pads(x: Tensor, span: Window) -> tuple[tuple[int, ...], bool] | None:
    """Padding and ceil mode that give torch the same positions without padding the data first, or None."""
    if not span.symmetric or any(2 * pad > kernel for pad, kernel in zip(span.begin, span.kernel, strict=True)):
        return None
    for ceil_mode in (False, True):
        rounded = []
        for size, pad, extent, stride in zip(x.shape[2:], span.begin, span.spans, span.strides, strict=True):
            room = size + 2 * pad - extent
            count = -(-room // stride) + 1 if ceil_mode else room // stride + 1
            rounded.append(count - 1 if ceil_mode and (count - 1) * stride >= size + pad else count)
        if tuple(rounded) == span.sizes:
            return span.begin, ceil_mode
    return None


def _lowest(dtype: torch.dtype) -> float:
    return -math.inf if dtype.is_floating_point else float(torch.iinfo(dtype).min)


@operator("MaxPool")
def max_pool(node: Node, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    spatial = tuple(x.shape[2:])
    span = window(node, spatial, node.required("kernel_shape"), bool(node.attr("ceil_mode", 0)))
    x_in, wide = _in_planes(x if x.is_floating_point() else x.to(torch.float32), span)
    found = _torch_pads(x_in, wide)
    before: Sequence[int] = (0,) * wide.dims
    if found is None:
        before, after = wide.begin, wide.reach(x_in.shape[2:])
        x_in = pad_spatial(x_in, before, [max(0, a) for a in after], _lowest(x_in.dtype))
        found = (0,) * wide.dims, False
    pool = aten.max_pool2d_with_indices if wide.dims == 2 else aten.max_pool3d_with_indices
    found_max, where = pool(x_in, wide.kernel, wide.strides, found[0], wide.dilations, found[1])
    out: Tensor = _back(found_max, span).to(x.dtype)
    if len(node.outputs) < 2 or not node.outputs[1]:
        return out
    coordinates = _coordinates(_back(where, span), x_in.shape[2:][-span.dims :], before[-span.dims :])
    return out, _flat_index(coordinates, x.shape, column_major=bool(node.attr("storage_order", 0)))


def _coordinates(index: Tensor, sizes: Sequence[int], before: Sequence[int]) -> list[Tensor]:
    """Row-major positions in padded planes as one coordinate per dimension of the unpadded data."""
    coordinates = []
    for size, pad in zip(reversed(sizes), reversed(before), strict=True):
        coordinates.append(index % size - pad)
        index = torch.div(index, size, rounding_mode="floor")
    return coordinates[::-1]


def _flat_index(coordinates: Sequence[Tensor], shape: Sequence[int], column_major: bool) -> Tensor:
    """Coordinates as indices into the flattened tensor, as ONNX counts them."""
    sizes = list(shape[2:])
    pairs = list(zip(coordinates, sizes, strict=True))
    flat: Tensor | int = 0
    for coordinate, size in pairs[::-1] if column_major else pairs:
        flat = flat * size + coordinate
    planes = torch.arange(shape[0] * shape[1], device=coordinates[0].device) * math.prod(sizes)
    return flat + planes.reshape(*shape[:2], *(1,) * len(sizes))


def _counts(span: Window, spatial: Sequence[int], include_pad: bool) -> Tensor:
    """How many elements each window position averages over, shaped like the window's positions."""
    total = torch.ones((), dtype=torch.float64)
    for dim in range(span.dims):
        starts = torch.arange(span.sizes[dim]) * span.strides[dim] - span.begin[dim]
        taps = starts[:, None] + torch.arange(span.kernel[dim]) * span.dilations[dim]
        low = -span.begin[dim] if include_pad else 0
        high = spatial[dim] + (span.end[dim] if include_pad else 0)
        inside = ((taps >= low) & (taps < high)).sum(1).to(torch.float64)
        total = total[..., None] * inside
    return total


def average(x: Tensor, span: Window, include_pad: bool) -> Tensor:
    """Mean over each window position, of the data or of data and padding."""
    spatial = tuple(x.shape[2:])
    plain = all(d == 1 or k == 1 for d, k in zip(span.dilations, span.kernel, strict=True))
    x_in, wide = _in_planes(x, span)
    pool = aten.avg_pool2d if wide.dims == 2 else aten.avg_pool3d
    found = _torch_pads(x_in, wide) if plain else None
    if found is not None:
        mean: Tensor = pool(x_in, wide.kernel, wide.strides, found[0], found[1], include_pad)
        return _back(mean, span)
    x_in = pad_spatial(x_in, wide.begin, [max(0, a) for a in wide.reach(x_in.shape[2:])])
    if plain:
        mean = pool(x_in, wide.kernel, wide.strides)
    else:
        weight = torch.full((1, 1, *wide.kernel), 1 / math.prod(wide.kernel), dtype=x.dtype, device=x.device)
        planes = x_in.reshape(-1, 1, *x_in.shape[2:])
        zeros = [0] * wide.dims
        mean = aten.convolution(planes, weight, None, wide.strides, zeros, wide.dilations, False, zeros, 1)
        mean = mean.reshape(*x.shape[:2], *wide.sizes)
    mean = _back(mean, span)
    factors = math.prod(span.kernel) / _counts(span, spatial, include_pad)
    return mean if bool((factors == 1).all()) else mean * factors.to(mean)


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    span = window(node, x.shape[2:], node.required("kernel_shape"), bool(node.attr("ceil_mode", 0)))
    return average(x, span, bool(node.attr("count_include_pad", 0)))


@operator("LpPool", since=2)
def lp_pool(node: Node, x: Tensor) -> Tensor:
    span = window(node, x.shape[2:], node.required("kernel_shape"), bool(node.attr("ceil_mode", 0)))
    power = node.attr("p", 2)
    full = math.prod(span.kernel)
    # zeros add nothing to a sum, so the mean over the full kernel times its size is the sum
    wide = Window(span.kernel, span.strides, span.dilations, span.begin, span.reach(x.shape[2:]), span.sizes)
    return _root(average(_powers(x, power), wide, True) * full, power)


def _powers(x: Tensor, power: float) -> Tensor:
    return x * x if power == 2 else torch.abs(x) if power == 1 else torch.pow(torch.abs(x), power)


def _root(x: Tensor, power: float) -> Tensor:
    return torch.sqrt(x) if power == 2 else x if power == 1 else torch.pow(x, 1 / power)


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    return torch.mean(x, dim=tuple(range(2, x.dim())), keepdim=True) if x.dim() > 2 else x


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    """A pool over the entire map, so that the gradient goes to one largest element."""
    spatial = tuple(x.shape[2:])
    if len(spatial) == 2:
        return functional.max_pool2d(x, spatial)
    flat = x.reshape(*x.shape[:2], 1, -1)
    return functional.max_pool2d(flat, (1, flat.shape[-1])).reshape(*x.shape[:2], *(1,) * len(spatial))


@operator("GlobalLpPool")
def global_lp_pool(node: Node, x: Tensor) -> Tensor:
    power = node.attr("p", 2)
    return _root(torch.sum(_powers(x, power), dim=tuple(range(2, x.dim())), keepdim=True), power)
