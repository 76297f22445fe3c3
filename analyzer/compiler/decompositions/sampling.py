"""Sampling at computed places, and its derivatives by the values and by the places.

Belongs here: ``grid_sampler`` in two and three dimensions. Not here: resampling at fixed places (``resampling``).

A sample is a sum over taps: along each axis some neighbours, each with a weight that follows the place. A tap of the grid is
one neighbour of each axis; its weight is the product of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from torch import Tensor

from analyzer.compiler.decompositions.table import decomposes

aten = torch.ops.aten
_LINEAR, _NEAREST, _CUBIC = 0, 1, 2
_ZEROS, _BORDER, _REFLECTION = 0, 1, 2
#: torch's coefficient of cubic interpolation.
_A = -0.75


@dataclass(frozen=True)
class Tap:
    """A neighbour along one axis, for every sample: its index, whether it lies inside, its weight and the weight's slope."""

    index: Tensor
    inside: Tensor
    weight: Tensor
    slope: Tensor


@decomposes(aten.grid_sampler_3d.default, aten.grid_sampler_2d.default)
def grid_sampler(x: Tensor, grid: Tensor, mode: int, padding: int, corners: bool) -> Tensor:
    """Values at the places of a grid."""
    flat, axes = x.flatten(2), _axes(x, grid, mode, padding, corners)
    out: Tensor | None = None
    for taps in product(*axes):
        index, inside = _joint(taps, x.shape[2:])
        value = _taken(flat, index, inside) * _product([tap.weight for tap in taps]).flatten(1).unsqueeze(1)
        out = value if out is None else out + value
    assert out is not None
    return out.reshape(*x.shape[:2], *grid.shape[1:-1])


@decomposes(aten.grid_sampler_2d_backward.default, aten.grid_sampler_3d_backward.default)
def grid_sampler_backward(
    grad: Tensor, x: Tensor, grid: Tensor, mode: int, padding: int, corners: bool, mask: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """What each value gave to the samples, and how the samples follow their places."""
    flat, given, axes = x.flatten(2), grad.flatten(2), _axes(x, grid, mode, padding, corners)
    by_value = torch.zeros(flat.shape, dtype=x.dtype)
    by_place: list[Tensor] = [torch.zeros(grid.shape[:-1], dtype=x.dtype).flatten(1) for _ in axes]
    for taps in product(*axes):
        index, inside = _joint(taps, x.shape[2:])
        if mask[0]:
            weight = torch.where(inside, _product([tap.weight for tap in taps]), 0.0).flatten(1).unsqueeze(1)
            by_value = by_value.scatter_add(2, index.flatten(1).unsqueeze(1).expand(given.shape), given * weight)
        if mask[1] and mode != _NEAREST:
            amount = (_taken(flat, index, inside) * given).sum(1)
            for place, tap in enumerate(taps):
                others = [other.weight for other in taps if other is not tap]
                by_place[place] = by_place[place] + amount * _product([tap.slope, *others]).flatten(1)
    places = torch.stack(by_place[::-1], -1).reshape(grid.shape) if mask[1] else None
    return by_value.reshape(x.shape) if mask[0] else None, places


def _product(factors: Sequence[Tensor]) -> Tensor:
    found = factors[0]
    for factor in factors[1:]:
        found = found * factor
    return found


def _joint(taps: Sequence[Tap], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Index in all axes laid out as one, and whether the tap lies inside."""
    index, inside = taps[0].index, taps[0].inside
    for tap, size in zip(taps[1:], sizes[1:], strict=True):
        index, inside = index * size + tap.index, inside & tap.inside
    return index, inside


def _taken(flat: Tensor, index: Tensor, inside: Tensor) -> Tensor:
    rows = index.flatten(1).unsqueeze(1)
    found = torch.gather(flat, 2, rows.expand(flat.shape[0], flat.shape[1], rows.shape[2]))
    return torch.where(inside.flatten(1).unsqueeze(1), found, 0.0)


def _axes(x: Tensor, grid: Tensor, mode: int, padding: int, corners: bool) -> list[list[Tap]]:
    """Every axis's taps; the grid names the last axis first."""
    sizes = x.shape[2:]
    assert prod(sizes) > 0
    return [
        list(_taps(grid.select(-1, len(sizes) - 1 - axis), size, mode, padding, corners))
        for axis, size in enumerate(sizes)
    ]


def _taps(place: Tensor, size: int, mode: int, padding: int, corners: bool) -> Iterator[Tap]:
    scale = (size - 1) / 2 if corners else size / 2
    at = (place + 1) * scale if corners else ((place + 1) * size - 1) / 2
    if mode == _CUBIC:
        start = torch.floor(at)
        for offset, (weight, slope) in zip(range(-1, 3), _cubic(at - start), strict=True):
            tap, _ = _padded(start + offset, size, padding, corners)
            yield _tap(tap, size, weight, slope * scale)
        return
    at, slope = _padded(at, size, padding, corners)
    if mode == _NEAREST:
        yield _tap(torch.round(at), size, torch.ones_like(at), torch.zeros_like(at))
        return
    start = torch.floor(at)
    part = at - start
    yield _tap(start, size, 1 - part, -scale * slope)
    yield _tap(start + 1, size, part, scale * slope)


def _tap(place: Tensor, size: int, weight: Tensor, slope: Tensor) -> Tap:
    inside = (place >= 0) & (place <= size - 1)
    return Tap(torch.clamp(place, 0, size - 1).to(torch.int64), inside, weight, slope)


def _cubic(part: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights of four neighbours and their slopes, by how far the place is past the second."""

    def far(d: Tensor) -> Tensor:
        return ((_A * d - 5 * _A) * d + 8 * _A) * d - 4 * _A

    def near(d: Tensor) -> Tensor:
        return ((_A + 2) * d - (_A + 3)) * d * d + 1

    def far_slope(d: Tensor) -> Tensor:
        return (3 * _A * d - 10 * _A) * d + 8 * _A

    def near_slope(d: Tensor) -> Tensor:
        return (3 * (_A + 2) * d - 2 * (_A + 3)) * d

    pieces: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Tensor, int]] = [
        (far, far_slope, part + 1, 1), (near, near_slope, part, 1), (near, near_slope, 1 - part, -1),
        (far, far_slope, 2 - part, -1),
    ]  # fmt: skip
    return [(value(d), sign * slope(d)) for value, slope, d, sign in pieces]


def _padded(at: Tensor, size: int, padding: int, corners: bool) -> tuple[Tensor, Tensor]:
    """Places outside brought inside as the padding says, and the slope of that."""
    if padding == _ZEROS:
        return at, torch.ones_like(at)
    slope = torch.ones_like(at)
    if padding == _REFLECTION:
        at, slope = _reflected(at, 0.0 if corners else -0.5, size - 1.0 if corners else size - 0.5)
    within = (at > 0) & (at < size - 1)
    return torch.clamp(at, 0, size - 1), torch.where(within, slope, 0.0)


def _reflected(at: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    span = high - low
    if span == 0:
        return torch.zeros_like(at), torch.zeros_like(at)
    away, sign = torch.abs(at - low), torch.where(at < low, -1.0, 1.0)
    turns = torch.floor(away / span)
    rest = away - turns * span
    even = turns - 2 * torch.floor(turns / 2) == 0
    return torch.where(even, rest, span - rest) + low, torch.where(even, sign, -sign)
