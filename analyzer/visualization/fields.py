"""What the positions of a map see of one axis of the input, and how that grows from layer to layer.

Belongs here: arithmetic along one axis. Not here: which positions an operator reads (``reads``).

Two things are kept side by side. The intervals are exact for this size of the input: each position's first and last element of
the input, padding left out. Size, stride and offset are those of a unit in the middle of an input of any size (Araujo, Norris,
Sim 2019, Distill): size grows by (window - 1) · stride, stride is multiplied by the operator's step, and the offset, the first
element that the first unit would see, falls by padding · stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Stretch:
    """How an operator changes a unit's size, stride and offset.

    Attributes
    ----------
    span
        How many neighbouring positions a unit reads.
    step
        How far the next unit's are, in positions; below 1 where the map is enlarged.
    begin
        How far before the axis the first unit's begin.
    dilation
        How far the positions that a unit reads lie apart.
    """

    span: float = 1
    step: float = 1
    begin: float = 0
    dilation: int = 1


@dataclass(frozen=True, eq=False)
class Field:
    """What the positions of a map see.

    Attributes
    ----------
    low, high
        Half-open intervals of the input's axis, one for each position, int64; empty where a position reads padding only.
    size, stride, offset
        Of a unit away from the borders, see above.
    """

    low: Integers
    high: Integers
    size: float
    stride: float
    offset: float

    @staticmethod
    def identity(size: int) -> Field:
        """What the input's own positions see: themselves."""
        at = np.arange(size, dtype=np.int64)
        return Field(at, at + 1, 1, 1, 0)

    def along(self, first: Integers, last: Integers, stretch: Stretch) -> Field:
        """What units see that read the positions from ``first`` to ``last`` of this map; those outside it are padding."""
        places, apart = len(self.low), stretch.dilation
        start = np.where(first < 0, first % apart, first)
        stop = np.where(last >= places, places - 1 - (places - 1 - last) % apart, last)
        seeing = np.flatnonzero(self.high > self.low)
        if not len(seeing):
            seeing = np.array([places])
        ahead, behind = np.searchsorted(seeing, start), np.searchsorted(seeing, stop, "right") - 1
        empty = (ahead > behind) | (start > stop) | (seeing[0] == places)
        ahead, behind = np.where(empty, 0, ahead), np.where(empty, 0, behind)
        low = np.where(empty, 0, self.low[seeing[ahead] % places])
        high = np.where(empty, 0, self.high[seeing[behind] % places])
        return Field(low, high, self.size + (stretch.span - 1) * self.stride, self.stride * stretch.step,
                     self.offset - stretch.begin * self.stride)  # fmt: skip

    def everywhere(self) -> Field:
        """One unit that sees what any position does."""
        seen = self.high > self.low
        low = self.low[seen].min(initial=np.iinfo(np.int64).max) if seen.any() else 0
        high = self.high[seen].max(initial=0)
        return Field(np.array([low]), np.array([high]), float(high - low), 0, float(low))

    def repeated(self, size: int) -> Field:
        """The same for every one of so many positions."""
        return Field(np.repeat(self.low, size), np.repeat(self.high, size), self.size, self.stride, self.offset)


def hull(fields: Sequence[Field]) -> Field:
    """What units see that read several maps at the same position."""
    found = fields[0]
    for other in fields[1:]:
        ours, theirs = found.high > found.low, other.high > other.low
        both = ours & theirs
        low = np.where(both, np.minimum(found.low, other.low), np.where(ours, found.low, other.low))
        high = np.where(both, np.maximum(found.high, other.high), np.where(ours, found.high, other.high))
        offset = min(found.offset, other.offset)
        size = max(found.offset + found.size, other.offset + other.size) - offset
        found = Field(low, high, size, max(found.stride, other.stride), offset)
    return found
