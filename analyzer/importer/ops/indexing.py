"""Taking elements by index: Gather in its three forms, Compress, OneHot, ReverseSequence.

Not here: slices (``shape``), writing by index (``scatter``), choosing by value (``selection``).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.ops.carriers import rearranged
from analyzer.importer.recorder import concrete, recorded, without_recording
from analyzer.importer.table import operator


def from_front(indices: Tensor, size: int) -> Tensor:
    """Indices as int64, counted from the front."""
    indices = indices.to(torch.int64)
    if not recorded(indices) and _smallest(indices) >= 0:
        return indices
    return torch.where(indices < 0, indices + size, indices)


def _smallest(indices: Tensor) -> int:
    """The smallest index at this moment, read beside the trace."""
    with without_recording():
        return int(indices.min()) if indices.numel() else 0


@operator("Gather")
@rearranged
def gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Slices of ``x`` along an axis.

    Rows of a constant table by computed indices are one ``embedding`` (which refuses negative indices when replayed),
    a single constant index is one ``select``, a constant list of them one ``index_select``.
    """
    axis = int(node.attr("axis", 0))
    axis += x.dim() if axis < 0 else 0
    indices = indices.to(torch.int64)
    if not recorded(indices):
        if indices.dim() == 0:
            return torch.select(x, axis, int(concrete(indices)))
        if indices.dim() == 1:
            return torch.index_select(x, axis, from_front(indices, x.shape[axis]))
    elif not recorded(x) and x.dim() == 2 and axis == 0 and _smallest(indices) >= 0:
        return torch.embedding(x, indices)
    out: Tensor = torch.ops.aten.index.Tensor(x, [None] * axis + [indices])
    return out


@operator("GatherElements", since=11)
@rearranged
def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = int(node.attr("axis", 0))
    return torch.gather(x, axis, from_front(indices, x.shape[axis]))


@operator("GatherND", since=11)
@rearranged
def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """``x`` at index tuples; the first ``batch_dims`` dimensions of both run side by side."""
    batch = int(node.attr("batch_dims", 0))
    indices = indices.to(torch.int64)
    lead = indices.dim() - 1
    along = [torch.arange(x.shape[i]).reshape([-1 if j == i else 1 for j in range(lead)]) for i in range(batch)]
    along += torch.unbind(indices, -1)
    out: Tensor = torch.ops.aten.index.Tensor(x, along)
    return out


@operator("Compress", since=9)
@rearranged
def compress(node: Node, x: Tensor, condition: Tensor) -> Tensor:
    chosen = torch.from_numpy(np.flatnonzero(concrete(condition)))
    axis = node.attr("axis")
    return torch.index_select(x.reshape(-1) if axis is None else x, 0 if axis is None else axis, chosen)


@operator("OneHot", since=9)
def one_hot(node: Node, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    size = int(concrete(depth).reshape(-1)[0])
    indices = indices.to(torch.int64)
    axis = int(node.attr("axis", -1))
    axis += indices.dim() + 1 if axis < 0 else 0
    positions = torch.arange(size).reshape([size if i == axis else 1 for i in range(indices.dim() + 1)])
    hot = torch.where(indices < 0, indices + size, indices).unsqueeze(axis) == positions
    return _choose(node, hot, values)


@rearranged
def _choose(node: Node, hot: Tensor, values: Tensor) -> Tensor:
    return torch.where(hot, torch.select(values, 0, 1), torch.select(values, 0, 0))


@operator("ReverseSequence", since=10)
@rearranged
def reverse_sequence(node: Node, x: Tensor, lengths: Tensor) -> Tensor:
    """The first ``lengths[b]`` steps of each batch entry in reverse, the rest as it is."""
    time, batch = int(node.attr("time_axis", 0)), int(node.attr("batch_axis", 1))
    shape = [1] * x.dim()
    steps = torch.arange(x.shape[time]).reshape([*shape[:time], -1, *shape[time + 1 :]])
    ends = lengths.to(torch.int64).reshape([*shape[:batch], -1, *shape[batch + 1 :]])
    positions = torch.where(steps < ends, ends - 1 - steps, steps)
    return torch.gather(x, time, positions.expand(x.shape))
