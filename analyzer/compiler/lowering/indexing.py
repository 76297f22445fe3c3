"""ATen operators that read and write at the places that indices name, in ONNX.

Belongs here: indexing of several axes, putting, reductions by index. Not here: slices and gathering along one axis
(``shape``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from analyzer.compiler.ir import Batch, Result, Size, Value
from analyzer.compiler.lowering.emitter import Emitter
from analyzer.compiler.lowering.table import axis, lowers

aten = torch.ops.aten
_REDUCTIONS = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}


@lowers(aten.index.Tensor)
def index(w: Emitter, result: Result, x: Value, indices: Sequence[Value | None]) -> str:
    """Chosen places."""
    given, chosen = _given(indices, "indexing")
    if len(given) == 1:
        return w.op("Gather", x.name, chosen[0].name, axis=given[0])
    rank = max(each.rank for each in chosen)
    free = [place for place in range(x.rank) if place not in given]
    name = x.name if given == list(range(len(given))) else w.op("Transpose", x.name, perm=[*given, *free])
    found = w.op("GatherND", name, _places(w, chosen, rank))
    front = _front(given)
    if not front:
        return found
    return w.op(
        "Transpose", found, perm=[*range(rank, rank + front), *range(rank), *range(rank + front, len(result.shape))]
    )


def _front(given: Sequence[int]) -> int:
    """Where the indices' own axes stand in the result: with the first indexed axis if the indexed are neighbours."""
    return given[0] if list(given) == list(range(given[0], given[0] + len(given))) else 0


def _sizes(chosen: Sequence[Value], rank: int) -> list[Size]:
    """What the indices are broadcast to."""
    sizes: list[Any] = [1] * rank
    for each in chosen:
        for place, size in enumerate(each.shape):
            if isinstance(size, Batch) or size != 1:
                sizes[rank - each.rank + place] = size
    return sizes


def _places(w: Emitter, chosen: Sequence[Value], rank: int) -> str:
    """The indices side by side in a new last axis."""
    sizes = _sizes(chosen, rank)
    spread = [w.op("Unsqueeze", w.expand(each, sizes), w.integers([rank])) for each in chosen]
    return w.op("Concat", *spread, axis=rank)


def _given(indices: Sequence[Value | None], doing: str) -> tuple[list[int], list[Value]]:
    """Axes that are indexed and their indices."""
    given = [(place, each) for place, each in enumerate(indices) if each is not None]
    if any(each.dtype in (torch.bool, torch.uint8) for _, each in given):
        raise NotImplementedError(f"{doing} by a mask")
    return [place for place, _ in given], [each for _, each in given]


@lowers(aten.scatter.src, aten.scatter.value)
def scatter(w: Emitter, result: Result, x: Value, dim: int, indices: Value, source: Any) -> str:
    """Elements put by index along an axis."""
    return _scattered(w, x, dim, indices, source, "none")


@lowers(aten.scatter_add.default)
def scatter_add(w: Emitter, result: Result, x: Value, dim: int, indices: Value, source: Value) -> str:
    """Elements added by index along an axis."""
    return _scattered(w, x, dim, indices, source, "add")


@lowers(aten.scatter_reduce.two)
def scatter_reduce(
    w: Emitter,
    result: Result,
    x: Value,
    dim: int,
    indices: Value,
    source: Value,
    reduce: str,
    include_self: bool = True,
) -> str:
    """Elements put together by index along an axis, with what stands there or, where any is put, without."""
    start = x
    if not include_self:
        start = Value(_scattered(w, x, dim, indices, _neutral(reduce, x.dtype), "none"), x.shape, x.dtype)
    found = _scattered(w, start, dim, indices, source, _REDUCTIONS[reduce])
    if reduce != "mean":
        return found
    ones = w.expand(Value(w.scalar(int(include_self), x.dtype), (), x.dtype), x.shape)
    count = _scattered(w, Value(ones, x.shape, x.dtype), dim, indices, 1, "add")
    return w.op("Div", found, count if include_self else w.op("Max", count, w.scalar(1, x.dtype)))


def _neutral(reduce: str, dtype: torch.dtype) -> float:
    """What changes no value in a reduction."""
    if reduce in ("sum", "mean", "prod"):
        return int(reduce == "prod")
    if dtype.is_floating_point:
        return -torch.inf if reduce == "amax" else torch.inf
    return torch.iinfo(dtype).min if reduce == "amax" else torch.iinfo(dtype).max


def _scattered(w: Emitter, x: Value, dim: int, indices: Value, source: Any, reduction: str) -> str:
    if not isinstance(source, Value):
        one = Value(w.scalar(source, x.dtype), (), x.dtype)
        source = Value(w.expand(one, indices.shape), indices.shape, x.dtype)
    name, place = w.of(indices, torch.int64), axis(dim, x.rank)
    wide = torch.promote_types(x.dtype, torch.float32) if reduction == "add" and x.dtype.is_floating_point else x.dtype
    put = w.op("ScatterElements", w.of(x, wide), name, w.of(source, wide), axis=place, reduction=reduction)
    return put if wide == x.dtype else w.cast(put, x.dtype)


@lowers(aten.index_put.default, aten.index_put_.default)
def index_put(
    w: Emitter, result: Result, x: Value, indices: Sequence[Value | None], source: Value, accumulate: bool = False
) -> str:
    """Elements put, or added, at the places that the indices name."""
    given, chosen = _given(indices, "putting")
    rank = max(each.rank for each in chosen)
    sizes, places = _sizes(chosen, rank), _places(w, chosen, rank)
    free = [axis_ for axis_ in range(x.rank) if axis_ not in given]
    order, rest = [*given, *free], [x.shape[axis_] for axis_ in free]
    front = _front(given)
    full = w.expand(source, [*rest[:front], *sizes, *rest[front:]])
    if front:
        count = len(rest) + rank
        full = w.op("Transpose", full, perm=[*range(front, front + rank), *range(front), *range(front + rank, count)])
    reduction = "add" if accumulate else "none"
    if order == sorted(order):
        return w.op("ScatterND", x.name, places, full, reduction=reduction)
    put = w.op("ScatterND", w.op("Transpose", x.name, perm=order), places, full, reduction=reduction)
    return w.op("Transpose", put, perm=[order.index(axis_) for axis_ in range(x.rank)])
