"""Choosing elements by value: ArgMax, TopK, NonZero, Unique, NonMaxSuppression; Trilu; running sums and products.

Where the choice decides a shape (NonZero, Unique, NonMaxSuppression) the trace holds for its input only.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.ops.carriers import computed, from_ordered, rearranged, storage_only, to_ordered
from analyzer.importer.ops.reduction import first_extreme
from analyzer.importer.recorder import concrete, integers
from analyzer.importer.table import operator


def _arg(node: Node, x: Tensor, largest: bool) -> Tensor:
    axis, keep = int(node.attr("axis", 0)), bool(node.attr("keepdims", 1))
    x = to_ordered(x) if storage_only(x.dtype) else x
    function = torch.argmax if largest else torch.argmin
    if not node.attr("select_last_index", 0):
        return function(x, axis, keep)
    return x.shape[axis] - 1 - function(torch.flip(x, [axis]), axis, keep)


@operator("ArgMax")
def arg_max(node: Node, x: Tensor) -> Tensor:
    return _arg(node, x, True)


@operator("ArgMin")
def arg_min(node: Node, x: Tensor) -> Tensor:
    return _arg(node, x, False)


@operator("TopK")
def top_k(node: Node, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k largest or smallest along an axis in order; of equal ones that with the lower index first."""
    count = integers(k)[0] if k is not None else int(node.required("k"))
    axis, largest = int(node.attr("axis", -1)), bool(node.attr("largest", 1))
    if count == 1 and x.is_floating_point() and x.dim():
        return first_extreme(x, axis, True, largest)
    comparable = to_ordered(x) if storage_only(x.dtype) else x
    values, indices = torch.sort(comparable, dim=axis, descending=largest, stable=True)
    if count > x.shape[axis]:
        raise ValueError(f"k is {count}, but the axis has {x.shape[axis]} elements")
    values, indices = torch.narrow(values, axis, 0, count), torch.narrow(indices, axis, 0, count)
    return (from_ordered(values, x.dtype) if storage_only(x.dtype) else values), indices


@operator("NonZero", since=9)
def non_zero(node: Node, x: Tensor) -> Tensor:
    return torch.from_numpy(np.stack(np.nonzero(np.atleast_1d(concrete(x)))).astype(np.int64))


@operator("Unique", since=11)
def unique(node: Node, x: Tensor) -> tuple[Tensor, ...]:
    """Distinct elements (or slices along an axis), where each is first, where each element went, and how many."""
    axis = node.attr("axis")
    items, along = (x.reshape(-1), 0) if axis is None else (x, int(axis))
    numbers = concrete(items)
    _, first, inverse, counts = np.unique(
        numbers, return_index=True, return_inverse=True, return_counts=True, axis=along
    )
    inverse = inverse.reshape(-1)
    if not node.attr("sorted", 1):
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        first, inverse, counts = first[order], rank[inverse], counts[order]
    indices, positions, numbers_of = (torch.from_numpy(v.astype(np.int64)) for v in (first, inverse, counts))
    return _take(node, items, indices, along), indices, positions, numbers_of


@rearranged
def _take(node: Node, x: Tensor, indices: Tensor, axis: int) -> Tensor:
    return torch.index_select(x, axis, indices)


@operator("Trilu", since=14)
@rearranged
def trilu(node: Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    diagonal = integers(k)[0] if k is not None else 0
    diagonal = max(min(diagonal, x.shape[-1]), -x.shape[-2])
    return torch.triu(x, diagonal) if node.attr("upper", 1) else torch.tril(x, diagonal)


def _running(node: Node, x: Tensor, axis: Tensor, start: int) -> Tensor:
    """A running sum (``start`` 0) or product (``start`` 1)."""
    along = integers(axis)[0]
    along += x.dim() if along < 0 else 0
    reverse = bool(node.attr("reverse", 0))
    x = torch.flip(x, [along]) if reverse else x
    if node.attr("exclusive", 0) and x.shape[along]:
        amounts = [0, 0] * (x.dim() - 1 - along) + [1, -1]
        x = torch.constant_pad_nd(x, amounts, start)
    out = torch.cumprod(x, along, dtype=x.dtype) if start else torch.cumsum(x, along, dtype=x.dtype)
    return torch.flip(out, [along]) if reverse else out


@operator("CumSum", since=11)
@computed
def cum_sum(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    return _running(node, x, axis, 0)


@operator("CumProd", since=26)
@computed
def cum_prod(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    return _running(node, x, axis, 1)
