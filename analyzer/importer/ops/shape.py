"""Shapes and the order of elements: Reshape, Transpose, Concat, Split, Expand, Tile, Pad and their kin.

Not here: taking elements by index (``indexing``), making tensors from nothing (``creation``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.ops.carriers import rearranged
from analyzer.importer.ops.reduction import axes_of
from analyzer.importer.recorder import integers
from analyzer.importer.table import operator


@operator("Identity")
def identity(node: Node, x: Tensor) -> Tensor:
    return x


@operator("Shape")
def shape_of(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape[node.attr("start", 0) : node.attr("end")]), dtype=torch.int64)


@operator("Size")
def size_of(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


@operator("Reshape")
def reshape(node: Node, x: Tensor, shape: Tensor | None = None) -> Tensor:
    wanted = integers(shape) if shape is not None else [int(v) for v in node.attr("shape", ())]
    if not node.attr("allowzero", 0):
        wanted = [x.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    if -1 in wanted and x.numel() == 0:  # torch calls this ambiguous unless the other sizes say otherwise
        rest = math.prod(size for size in wanted if size != -1)
        wanted = [(0 if rest else 1) if size == -1 else size for size in wanted]
        if not rest:
            raise InputError("op.bad_attribute", f"{node}: -1 beside a size of 0 is ambiguous", "re-export the model")
    return torch.reshape(x, wanted)


@operator("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    axis = int(node.attr("axis", 1))
    if not -x.dim() <= axis <= x.dim():
        raise InputError("op.bad_attribute", f"{node}: axis {axis} for {x.dim()} dimensions", "re-export the model")
    axis += x.dim() if axis < 0 else 0
    return torch.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    return torch.permute(x, node.attr("perm", list(range(x.dim()))[::-1]))


@operator("Squeeze")
def squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = axes_of(node, axes)
    if chosen is None:
        return torch.squeeze(x)
    for axis in chosen:
        if x.shape[axis] != 1:
            raise InputError(
                "op.bad_attribute",
                f"{node}: axis {axis} has size {x.shape[axis]}, not 1",
                "re-export the model",
            )
    return torch.squeeze(x, tuple(chosen)) if chosen else x


@operator("Unsqueeze")
def unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = axes_of(node, axes) or []
    rank = x.dim() + len(chosen)
    wanted = {axis + rank if axis < 0 else axis for axis in chosen}
    if len(wanted) != len(chosen) or not all(0 <= axis < rank for axis in wanted):
        raise InputError("op.bad_attribute", f"{node}: axes {chosen} for rank {rank}", "re-export the model")
    for axis in sorted(wanted):
        x = torch.unsqueeze(x, axis)
    return x


@operator("Concat")
def concat(node: Node, *inputs: Tensor) -> Tensor:
    axis = node.attr("axis", 1)
    return torch.cat(inputs, axis) if len(inputs) > 1 else inputs[0]


@operator("Split")
def split(node: Node, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    """Parts along an axis; without sizes ``num_outputs`` parts, the last one smaller where need be."""
    axis = node.attr("axis", 0)
    parts = integers(sizes) if sizes is not None else node.attr("split")
    if parts is None:
        count = node.attr("num_outputs", len(node.outputs))
        length = x.shape[axis]
        if node.version < 18 and length % count:
            raise InputError(
                "op.bad_attribute",
                f"{node}: {length} elements don't split into {count} parts",
                "re-export the model",
            )
        chunk = -(-length // count)
        parts = [max(0, min(chunk, length - i * chunk)) for i in range(count)]
    return divided(x, [int(v) for v in parts], axis)


def divided(x: Tensor, sizes: Sequence[int], axis: int) -> tuple[Tensor, ...]:
    """Parts along an axis; a single one is the value itself."""
    return (x,) if len(sizes) == 1 and sizes[0] == x.shape[axis] else tuple(torch.split(x, list(sizes), axis))


@operator("Expand", since=8)
def expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    return torch.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(integers(shape))))


@operator("Tile")
def tile_one(node: Node, x: Tensor, tiles: Tensor, axis: Tensor) -> Tensor:
    repeats = [1] * x.dim()
    repeats[integers(axis)[0]] = integers(tiles)[0]
    return x.repeat(repeats)


@operator("Tile", since=6)
def tile(node: Node, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(integers(repeats))


@operator("Slice")
@rearranged
def slice_attributes(node: Node, x: Tensor) -> Tensor:
    starts, ends = node.required("starts"), node.required("ends")
    axes = node.attr("axes", list(range(len(starts))))
    for start, end, axis in zip(starts, ends, axes, strict=True):
        x = _slice(x, int(start), int(end), int(axis), 1)
    return x


@operator("Slice", since=10)
@rearranged
def slice_inputs(
    node: Node,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = integers(starts), integers(ends)
    along = integers(axes) if axes is not None else list(range(len(first)))
    by = integers(steps) if steps is not None else [1] * len(first)
    for start, end, axis, step in zip(first, last, along, by, strict=True):
        x = _slice(x, start, end, axis, step)
    return x


def _slice(x: Tensor, start: int, end: int, axis: int, step: int) -> Tensor:
    """Python's slice, clamped as in ONNX; a negative step walks over the flipped axis."""
    chosen = (
        range(*slice(start, end, step).indices(x.shape[axis]))
        if step > 0
        else _backwards(start, end, step, x.shape[axis])
    )
    if not chosen:
        return torch.narrow(x, axis, 0, 0)
    if step > 0:
        if len(chosen) == x.shape[axis]:
            return x
        first, last = chosen[0], chosen[-1]
    else:
        first, last = (x.shape[axis] - 1 - i for i in (chosen[0], chosen[-1]))
        x = torch.flip(x, [axis])
    out: Tensor = torch.ops.aten.slice.Tensor(x, axis, first, last + 1, abs(step))
    return out


def _backwards(start: int, end: int, step: int, size: int) -> range:
    """Indices of a slice with a negative step.

    ``end`` below ``-size`` means past the first element, and so do the largest integers, which onnxruntime takes for
    "to the end" in either direction.
    """
    if end in (2**31 - 1, 2**63 - 1):
        end = -size - 1
    start += size if start < 0 else 0
    end += size if end < 0 else 0
    return range(min(max(start, 0), size - 1), min(max(end, -1), size - 1), step)
