"""Reductions over axes. Not here: positions of extremes (``selection``)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.ops.carriers import computed, ordered
from analyzer.importer.recorder import integers
from analyzer.importer.table import operator

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def axes_of(node: Node, axes: Tensor | None) -> list[int] | None:
    """Axes from the input (newer opsets) or the attribute; None where neither is there."""
    if axes is not None:
        return integers(axes)
    given = node.attr("axes")
    return None if given is None else [int(axis) for axis in given]


def _reduction(op_type: str, function: Reduce, before: Callable[[Tensor], Tensor] | None = None) -> None:
    """Register a reduction; ``before`` is what it does to each element even where nothing is reduced."""
    guard = ordered if op_type in ("ReduceMax", "ReduceMin") else computed

    @operator(op_type)
    @guard
    def call(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = axes_of(node, axes)
        if not chosen:
            if node.attr("noop_with_empty_axes", 0):
                return before(x) if before is not None else x
            chosen = list(range(x.dim()))
        chosen = [axis % x.dim() if -x.dim() <= axis < x.dim() else axis for axis in chosen]
        return function(x, chosen, bool(node.attr("keepdims", 1)))


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(x, axes, keep, dtype=x.dtype) if axes else x


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if not axes:
        return x
    if x.dtype.is_floating_point:
        return torch.mean(x, axes, keep)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keep, dtype=x.dtype)
    return x


def _extreme(function: Callable[[Tensor, list[int], bool], Tensor], largest: bool) -> Reduce:
    def reduce(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if not axes:
            return x
        if any(x.shape[axis] == 0 for axis in axes):
            shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes]
            return torch.full(shape, _lowest(x.dtype, largest), dtype=x.dtype)
        if x.dtype == torch.bool:
            return function(x.to(torch.uint8), axes, keep).to(torch.bool)
        return _winner(x, axes, keep, largest) if x.dtype.is_floating_point else function(x, axes, keep)

    return reduce


def _winner(x: Tensor, axes: list[int], keep: bool, largest: bool) -> Tensor:
    """The extreme over axes as that over one: its derivative is one element's, of equal ones the first, as in pools."""
    if len(axes) == 1:
        return first_extreme(x, axes[0], keep, largest)[0]
    kept = [axis for axis in range(x.dim()) if axis not in axes]
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    order = [*kept, *sorted(axes)]
    rows = x if order == sorted(order) else torch.permute(x, order)
    rows = rows.reshape([*rows.shape[: len(kept)], math.prod(x.shape[axis] for axis in axes)])
    found = first_extreme(rows, -1, False, largest)[0]
    return found.reshape(shape) if keep else found


def first_extreme(x: Tensor, axis: int, keep: bool, largest: bool) -> tuple[Tensor, Tensor]:
    """The largest or smallest element along an axis and its place; of equal ones the first."""
    values, places = torch.max(x, axis, keep) if largest else torch.min(x, axis, keep)
    return values, places


def _lowest(dtype: torch.dtype, largest: bool) -> float:
    """What the reduction of nothing gives."""
    if dtype.is_floating_point:
        return -torch.inf if largest else torch.inf
    if dtype == torch.bool:
        return not largest
    limits = torch.iinfo(dtype)
    return limits.min if largest else limits.max


def _l1(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(torch.abs(x), axes, keep)


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if not axes:
        return torch.abs(x)
    if x.dtype.is_floating_point:
        norm: Tensor = torch.linalg.vector_norm(x, 2, axes, keep)
        return norm
    return torch.sqrt(_sum(x * x, axes, keep).to(torch.float64)).to(x.dtype)


def _square(x: Tensor) -> Tensor:
    return x * x


def _through_float(function: Reduce) -> Reduce:
    """Logarithms of integers are computed in float64 and cut back."""

    def reduce(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if x.dtype.is_floating_point:
            return function(x, axes, keep)
        return function(x.to(torch.float64), axes, keep).to(x.dtype)

    return reduce


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if any(x.shape[axis] == 0 for axis in axes):
        return torch.log(_sum(torch.exp(x), axes, keep))
    return torch.logsumexp(x, axes, keep) if axes else x


_reduction("ReduceSum", _sum)
_reduction("ReduceMean", _mean)
_reduction("ReduceProd", _prod)
_reduction("ReduceMax", _extreme(torch.amax, True))
_reduction("ReduceMin", _extreme(torch.amin, False))
_reduction("ReduceL1", _l1, torch.abs)
_reduction("ReduceL2", _l2, torch.abs)
_reduction("ReduceSumSquare", lambda x, axes, keep: _sum(_square(x), axes, keep), _square)
_reduction("ReduceLogSum", _through_float(lambda x, axes, keep: torch.log(_sum(x, axes, keep))), torch.log)
_reduction("ReduceLogSumExp", _through_float(_log_sum_exp))
