"""Variances, running products, order along an axis, diagonals.

Belongs here: operators along axes that aren't plain sums or extremes. Not here: sums (``lowering.linear``).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from analyzer.compiler.decompositions.table import decomposes

aten, prims = torch.ops.aten, torch.ops.prims


@decomposes(prims.var.default, aten.var.correction)
def var(
    x: Tensor,
    dims: Sequence[int] | None = None,
    correction: float | None = 1,
    *,
    output_dtype: Any = None,
    keepdim: bool = False,
) -> Tensor:
    """The mean square distance from the mean, the count less by the correction."""
    axes = list(range(x.ndim)) if not dims else list(dims)
    centred = x - x.mean(axes, keepdim=True)
    count = prod(x.shape[axis] for axis in axes)
    correction = 1 if correction is None else correction
    return (centred * centred).sum(axes, keepdim) / max(0.0, count - correction)


@decomposes(aten.cumprod.default)
def cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Products of all before, twice as far in each step."""
    x = x if dtype is None else x.to(dtype)
    if x.ndim == 0:
        return x.clone()
    reach, size = 1, x.shape[dim]
    while reach < size:
        start = torch.ones_like(x.narrow(dim, 0, reach))
        x = x * torch.cat([start, x.narrow(dim, 0, size - reach)], dim)
        reach *= 2
    return x


@decomposes(aten.sort.stable)
def sort(x: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """All values as the largest or smallest ones; of equal ones ONNX puts the first one first."""
    if x.ndim == 0:
        return x.clone(), torch.zeros((), dtype=torch.int64)
    values, places = aten.topk.default(x, x.shape[dim], dim, descending)
    return values, places


@decomposes(aten.sort.default)
def sort_plain(x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """The same: any order of equal ones will do."""
    return sort(x, dim=dim, descending=descending)  # type: ignore[no-any-return]


def _diagonal(rows: int, columns: int, offset: int) -> tuple[int, int, int]:
    """First row, first column and length of a diagonal."""
    row, column = max(0, -offset), max(0, offset)
    return row, column, max(0, min(rows - row, columns - column))


@decomposes(aten.diagonal.default)
def diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Chosen places of the two axes laid out as one."""
    last = x.movedim((dim1, dim2), (-2, -1))
    rows, columns = last.shape[-2:]
    row, column, length = _diagonal(rows, columns, offset)
    places = torch.arange(length) * (columns + 1) + row * columns + column
    return last.reshape(*last.shape[:-2], rows * columns).index_select(-1, places)


@decomposes(aten.diagonal_backward.default)
def diagonal_backward(grad: Tensor, sizes: Sequence[int], offset: int, dim1: int, dim2: int) -> Tensor:
    """The diagonal put back between zeros."""
    rows, columns = sizes[dim1], sizes[dim2]
    row, column, length = _diagonal(rows, columns, offset)
    there = torch.zeros(rows, columns, dtype=torch.bool)
    places = torch.arange(length)
    there[row + places, column + places] = True
    by_row = torch.nn.functional.pad(grad, [row, rows - row - length]).unsqueeze(-1)
    return torch.where(there, by_row, 0.0).movedim((-2, -1), (dim1, dim2))
