"""Pools over regions of interest: RoiAlign and MaxRoiPool.

Belongs here: pooling boxes to fixed sizes. The boxes may depend on the model's input: their coordinates stay tensors,
only RoiAlign's adaptive number of samples is read as concrete numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.ops.normalization import at_least_float32
from analyzer.importer.recorder import integers
from analyzer.importer.table import operator


def _corners(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Neighbours and weights of linear interpolation: (low, high, weight of low, weight of high).

    Positions more than one element outside get no weight; the others are clamped to the nearest element.
    """
    inside = ((position >= -1) & (position <= size)).to(position.dtype)
    clamped = torch.clamp(position, 0, size - 1)
    low = torch.floor(clamped)
    share = clamped - low
    high = torch.clamp(low + 1, max=size - 1)
    return low.to(torch.int64), high.to(torch.int64), (1 - share) * inside, share * inside


def _positions(start: Tensor, length: Tensor, bins: int, sampling: int) -> tuple[Tensor, Tensor]:
    """Sample positions (boxes, bins, samples) and how much each counts in its bin's mean."""
    bin_size = length / bins
    if sampling > 0:
        counts = torch.full(start.shape, sampling, dtype=torch.int64, device=start.device)
    else:
        counts = torch.tensor(integers(torch.ceil(bin_size).to(torch.int64)), dtype=torch.int64, device=start.device)
    most = max([1, *integers(counts)])
    sample = torch.arange(most, device=start.device)
    used = (sample < counts[:, None]).to(start.dtype)
    divisor = torch.clamp(counts, min=1).to(start.dtype)
    inner = (sample.to(start.dtype) + 0.5) * bin_size[:, None] / divisor[:, None]
    offset = torch.arange(bins, device=start.device).to(start.dtype) * bin_size[:, None] + start[:, None]
    return offset[:, :, None] + inner[:, None, :], (used / divisor[:, None])[:, None, :].expand(-1, bins, -1)


def _mean_weights(position: Tensor, share: Tensor, size: int) -> Tensor:
    """Weight of every element of an axis in each bin's mean, (boxes, bins, size)."""
    low, high, low_weight, high_weight = _corners(position, size)
    element = torch.arange(size, device=position.device)
    weights = (low[..., None] == element) * low_weight[..., None]
    weights = weights + (high[..., None] == element) * high_weight[..., None]
    return torch.sum(weights * share[..., None], dim=2)


@operator("RoiAlign", since=16)
def roi_align(node: Node, x: Tensor, rois: Tensor, batch_indices: Tensor) -> Tensor:
    half = node.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    return _roi_align(node, x, rois, batch_indices, half)


@operator("RoiAlign", since=10)
def roi_align_output_half_pixel(node: Node, x: Tensor, rois: Tensor, batch_indices: Tensor) -> Tensor:
    return _roi_align(node, x, rois, batch_indices, False)


def _roi_align(node: Node, x: Tensor, rois: Tensor, batch_indices: Tensor, half_pixel: bool) -> Tensor:
    wide = at_least_float32(x)
    boxes = rois.to(wide.dtype)
    bins = node.attr("output_height", 1), node.attr("output_width", 1)
    boxes = boxes * float(node.attr("spatial_scale", 1.0)) - (0.5 if half_pixel else 0.0)
    positions, shares = [], []
    for axis in (1, 0):  # y, then x; boxes are (x1, y1, x2, y2)
        length = boxes[:, axis + 2] - boxes[:, axis]
        length = length if half_pixel else torch.clamp(length, min=1.0)
        where, share = _positions(boxes[:, axis], length, bins[1 - axis], node.attr("sampling_ratio", 0))
        positions.append(where)
        shares.append(share)
    images = torch.index_select(wide, 0, batch_indices.to(torch.int64))
    if node.attr("mode", "avg") == "avg":
        rows, columns = (_mean_weights(p, s, size) for p, s, size in zip(positions, shares, x.shape[2:], strict=True))
        out = torch.matmul(torch.matmul(rows[:, None], images), columns[:, None].transpose(-1, -2))
    else:
        out = _largest_corner(images, positions, shares)
    return out.to(x.dtype)


def _largest_corner(images: Tensor, positions: list[Tensor], shares: list[Tensor]) -> Tensor:
    """The largest weighted neighbour over a bin's samples, as the standard's max mode is defined."""
    boxes, channels, height, width = images.shape
    (_, rows, row_samples), (_, columns, column_samples) = positions[0].shape, positions[1].shape
    used = (shares[0].reshape(boxes, -1, 1) > 0) & (shares[1].reshape(boxes, 1, -1) > 0)
    ys, xs = _corners(positions[0].reshape(boxes, -1), height), _corners(positions[1].reshape(boxes, -1), width)
    flat = images.reshape(boxes, channels, -1)
    largest: Tensor | None = None
    for y in (0, 1):
        for x in (0, 1):
            index = (ys[y][:, :, None] * width + xs[x][:, None, :]).reshape(boxes, 1, -1)
            weight = (ys[y + 2][:, :, None] * xs[x + 2][:, None, :]).reshape(boxes, 1, -1)
            value = torch.gather(flat, 2, index.expand(-1, channels, -1)) * weight
            largest = value if largest is None else torch.maximum(largest, value)
    assert largest is not None
    used_only = torch.where(used.reshape(boxes, 1, -1), largest, torch.full_like(largest, -math.inf))
    parted = used_only.reshape(boxes, channels, rows, row_samples, columns, column_samples)
    out = torch.amax(parted, dim=(3, 5))
    return torch.where(torch.isinf(out), torch.zeros_like(out), out)


@operator("MaxRoiPool")
def max_roi_pool(node: Node, x: Tensor, rois: Tensor) -> Tensor:
    """Each box, rounded to integer coordinates, in bins that may overlap; an empty bin is 0."""
    wide = at_least_float32(x)
    scaled = rois[:, 1:] * float(node.attr("spatial_scale", 1.0))
    integral = torch.trunc(scaled)
    halves = (torch.abs(scaled - integral) >= 0.5).to(scaled.dtype)
    corners = integral + torch.sign(scaled) * halves  # the nearest integer, halves away from zero
    images = torch.index_select(wide, 0, rois[:, 0].to(torch.int64))
    lowest = torch.full((), -math.inf, dtype=wide.dtype, device=x.device)
    masks = []
    for axis, bins in zip((1, 0), node.required("pooled_shape"), strict=True):
        size = x.shape[3 - axis]
        start = corners[:, axis, None]
        length = torch.clamp(corners[:, axis + 2, None] - start + 1, min=1.0) / bins
        count = torch.arange(bins, device=x.device).to(rois.dtype)
        first = torch.clamp(torch.floor(count * length) + start, 0, size)[:, :, None]
        last = torch.clamp(torch.ceil((count + 1) * length) + start, 0, size)[:, :, None]
        element = torch.arange(size, device=x.device).to(rois.dtype)
        masks.append((element >= first) & (element < last))
    rows, columns = masks
    by_column = torch.amax(
        torch.where(columns[:, None, None], images[:, :, :, None, :], lowest), dim=-1
    )  # (boxes, channels, height, bins)
    by_column = by_column.transpose(2, 3)
    out = torch.amax(torch.where(rows[:, None, :, None, :], by_column[:, :, None], lowest), dim=-1)
    return torch.where(torch.isinf(out), torch.zeros_like(out), out).to(x.dtype)
