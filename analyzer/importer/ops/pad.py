"""Pad and CenterCropPad: constant, reflected, repeated and wrapped borders; a negative amount crops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.ops.carriers import rearranged
from analyzer.importer.recorder import concrete, integers
from analyzer.importer.table import operator


@operator("Pad")
def pad_attributes(node: Node, x: Tensor) -> Tensor:
    pads = node.attr("pads") or node.required("paddings")
    return _pad(node, x, [int(v) for v in pads], list(range(x.dim())), node.attr("value", 0.0))


@operator("Pad", since=11)
def pad_inputs(node: Node, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    along = [axis % x.dim() for axis in integers(axes)] if axes is not None else list(range(x.dim()))
    fill = concrete(value).reshape(-1)[0].item() if value is not None and value.numel() else 0
    return _pad(node, x, integers(pads), along, fill)


def _pad(node: Node, x: Tensor, pads: Sequence[int], axes: Sequence[int], value: float) -> Tensor:
    if len(pads) != 2 * len(axes):
        raise InputError("op.bad_attribute", f"{node}: {len(pads)} pads for {len(axes)} axes", "re-export the model")
    before = dict(zip(axes, pads[: len(axes)], strict=True))
    after = dict(zip(axes, pads[len(axes) :], strict=True))
    mode = node.attr("mode", "constant")
    if mode == "constant":
        amounts = [n for axis in reversed(range(x.dim())) for n in (before.get(axis, 0), after.get(axis, 0))]
        return torch.constant_pad_nd(x, amounts, value) if any(amounts) else x
    return _extend(node, x, before, after, mode)


@rearranged
def _extend(node: Node, x: Tensor, before: dict[int, int], after: dict[int, int], mode: str) -> Tensor:
    """Pad with elements of the tensor itself, which after cropping are taken by index along each axis."""
    for axis in before:
        crop = max(-before[axis], 0), max(-after[axis], 0)
        if any(crop):
            x = torch.narrow(x, axis, crop[0], x.shape[axis] - sum(crop))
    for axis in before:
        start, end, size = max(before[axis], 0), max(after[axis], 0), x.shape[axis]
        if start == end == 0:
            continue
        if size == 0:
            raise InputError("op.bad_attribute", f"{node}: axis {axis} has no element to {mode}", "re-export the model")
        positions = torch.arange(-start, size + end)
        if mode == "edge":
            positions = positions.clamp(0, size - 1)
        elif mode == "wrap":
            positions = positions % size
        elif mode == "reflect":
            positions = positions % max(2 * size - 2, 1)
            positions = torch.minimum(positions, (2 * size - 2 - positions).abs())
        else:
            raise InputError("op.bad_attribute", f"{node}: unknown mode {mode!r}", "re-export the model")
        x = torch.index_select(x, axis, positions)
    return x


@operator("CenterCropPad", since=18)
def center_crop_pad(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    """Crop or zero-pad axes around their middle; an odd difference has its larger half at the end."""
    sizes = integers(shape)
    axes = [axis % x.dim() for axis in node.attr("axes", list(range(x.dim())))]
    amounts = [0] * (2 * x.dim())
    for axis, size in zip(axes, sizes, strict=True):
        difference = size - x.shape[axis]
        first = difference // 2 if difference >= 0 else -(-difference // 2)
        last = x.dim() - 1 - axis
        amounts[2 * last], amounts[2 * last + 1] = first, difference - first
    return torch.constant_pad_nd(x, amounts, 0) if any(amounts) else x
