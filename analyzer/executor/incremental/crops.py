"""Cutting crops out of the original feature maps and writing computed parts over them.

Belongs here: array copies. Not here: what is cut where (``plan``), running (``runner``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Scratch:
    """Reused buffers: fresh memory pages cost more than what is written into them."""

    def __init__(self) -> None:
        self._held: dict[object, NDArray[np.uint8]] = {}

    def take(self, slot: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array with any content; valid until the slot is taken again."""
        size = math.prod(shape) * dtype.itemsize
        if slot not in self._held or self._held[slot].size < size:
            self._held[slot] = np.empty(size, np.uint8)
        return self._held[slot][:size].view(dtype).reshape(shape)


@dataclass(frozen=True)
class Patch:
    """The computed part of a value, for every window of a chunk.

    Attributes
    ----------
    values
        Per window: the part without a batch axis, spatial axes last.
    starts
        Per window: where the part begins in the map, one number per spatial axis.
    """

    values: list[Array]
    starts: list[Sequence[int]]


@dataclass(frozen=True)
class Map:
    """A feature map of the original input with what lies around it.

    Attributes
    ----------
    values
        Without a batch axis, spatial axes last.
    origin
        Where ``values`` begin, one number per spatial axis; negative where they begin before the map.
    """

    values: Array
    origin: tuple[int, ...]

    def cut(self, crop: Array, row: int, start: Sequence[int], lengths: Sequence[int], patch: Patch | None) -> None:
        """Fill a crop, spatial axes last, that begins at ``start``: with a window's computed part, around it with the map."""
        inside: list[slice] = []
        source: list[slice] = []
        covered = patch is not None
        if patch is not None:
            part, own = patch.values[row], patch.starts[row]
            for begin, length, low, side in zip(start, lengths, own, part.shape[-len(own) :], strict=True):
                first, last = max(low - begin, 0), min(low - begin + side, length)
                inside.append(slice(first, max(first, last)))
                source.append(slice(first + begin - low, max(first, last) + begin - low))
                covered &= last - first == length
        if not covered:  # one copy of whole rows is quicker than narrow borders
            original = [slice(b - o, b - o + n) for b, o, n in zip(start, self.origin, lengths, strict=True)]
            crop[...] = self.values[_last(original)]
        if patch is not None:
            crop[_last(inside)] = part[_last(source)]


def spatial_last(values: Array, axes: Sequence[int]) -> Array:
    """A view with the spatial axes last."""
    wanted = range(values.ndim - len(axes), values.ndim)
    return values if tuple(axes) == tuple(wanted) else np.moveaxis(values, axes, wanted)


def _last(slices: list[slice]) -> Any:
    """An index of the last axes."""
    return (..., *slices)
