"""Writing elements by index: Scatter, ScatterElements, ScatterND, TensorScatter."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.ops.carriers import computed, ordered, rearranged
from analyzer.importer.ops.indexing import from_front
from analyzer.importer.table import operator

#: ONNX's reduction -> torch's.
_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("Scatter", since=9)
@operator("ScatterElements", since=11)
def scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    out: Tensor = _carrier(node)(_elements)(node, x, indices, updates)
    return out


def _carrier(node: Node) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """How element types travel that torch can't compute with: it depends on what happens to them."""
    reduction = node.attr("reduction", "none")
    return rearranged if reduction == "none" else ordered if reduction in ("max", "min") else computed


def _elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis = int(node.attr("axis", 0))
    return _scatter(node, x, axis, from_front(indices, x.shape[axis]), updates)


def _scatter(node: Node, x: Tensor, axis: int, indices: Tensor, updates: Tensor) -> Tensor:
    reduction = node.attr("reduction", "none")
    if reduction == "none":
        return torch.scatter(x, axis, indices, updates)
    if reduction == "add":
        return torch.scatter_add(x, axis, indices, updates)
    return torch.scatter_reduce(x, axis, indices, updates, _reduction(node, reduction))


def _reduction(node: Node, reduction: str) -> str:
    if reduction not in _REDUCTIONS:
        raise InputError("op.bad_attribute", f"{node}: unknown reduction {reduction!r}", "re-export the model")
    return _REDUCTIONS[reduction]


@operator("ScatterND", since=11)
def scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    out: Tensor = _carrier(node)(_tuples)(node, x, indices, updates)
    return out


def _tuples(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Slices of ``x`` at index tuples replaced by, or reduced with, ``updates``; reductions are those of ScatterElements."""
    reduction = node.attr("reduction", "none")
    depth = indices.shape[-1]
    columns = [from_front(part, x.shape[i]) for i, part in enumerate(torch.unbind(indices, -1))]
    if reduction == "none" and depth:
        return torch.index_put(x, tuple(columns), updates)
    rows, rest = math.prod(x.shape[:depth]), math.prod(x.shape[depth:])
    row = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for column, size in zip(columns, x.shape, strict=False):
        row = row * size + column
    wide = row.reshape(-1, 1).expand(row.numel(), rest)
    out = _scatter(node, x.reshape(rows, rest), 0, wide, updates.reshape(row.numel(), rest))
    return out.reshape(x.shape)


@operator("TensorScatter", since=24)
@rearranged
def tensor_scatter(node: Node, cache: Tensor, update: Tensor, start: Tensor | None = None) -> Tensor:
    """A cache with ``update`` written from each sample's start on along the sequence axis."""
    axis = int(node.attr("axis", -2)) % cache.dim()
    steps = torch.arange(update.shape[axis]).reshape([-1 if i == axis else 1 for i in range(cache.dim())])
    if start is not None:
        steps = steps + start.to(torch.int64).reshape([-1] + [1] * (cache.dim() - 1))
    if node.attr("mode", "linear") == "circular":
        steps = torch.remainder(steps, cache.shape[axis])
    return torch.scatter(cache, axis, steps.expand(update.shape), update)
