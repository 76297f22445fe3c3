"""Sums over random masks from which means, covariances, correlations and their standard errors follow.

Belongs here: what is accumulated while masks are scored, and what follows from it. Not here: drawing or running masks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.executor.mask_ops import Grid

Array = NDArray[Any]
#: Elements of a mask that are summed up at a time: few enough to stay in the processor's cache.
_COLUMNS = 1024
#: Bytes of sums per shift up to which grids are never enlarged while they are summed up.
_MOST_BYTES = 2**28


@dataclass
class Moments:
    """Sums over random masks, of which nothing else is stored.

    Attributes
    ----------
    reference
        Subtracted from every score before it is summed, for the sake of rounding.
    scores
        (3,): sums of 1, g and g², where g = score - reference.
    first, second
        (3, *mask): the same sums with each term times the mask, and times its square.
    """

    reference: float
    scores: Array = field(default_factory=lambda: np.zeros(3))
    first: Array = field(default_factory=lambda: np.zeros(()))
    second: Array = field(default_factory=lambda: np.zeros(()))

    def add(self, masks: Array, scores: Array) -> None:
        """Take up masks (n, *mask) with their scores (n,)."""
        powers = _powers(scores - self.reference)
        self.scores = self.scores + powers.sum(axis=1)
        if self.first.ndim == 0:
            self.first, self.second = np.zeros((2, 3, *masks.shape[1:]))
        flat, first, second = masks.reshape(len(masks), -1), self.first.reshape(3, -1), self.second.reshape(3, -1)
        for start in range(0, flat.shape[1], _COLUMNS):
            part = slice(start, start + _COLUMNS)
            wide = flat[:, part].astype(np.float64)
            first[:, part] += powers @ wide
            second[:, part] += powers @ np.square(wide, out=wide)

    def product(self) -> tuple[Array, Array]:
        """Mean of score times mask, and its standard error."""
        n, c = self.scores[0], self.reference
        mean = (self.first[1] + c * self.first[0]) / n
        square = (self.second[2] + 2 * c * self.second[1] + c**2 * self.second[0]) / n
        return mean, np.sqrt(np.maximum(square - mean**2, 0) / max(n - 1, 1))

    def covariance(self) -> tuple[Array, Array]:
        """Unbiased covariance of score and mask, and its standard error."""
        n, score, mask = self._means()
        covariance = self.first[1] / n - score * mask
        # sums of (score - its mean)², of the same times the mask, and times the mask's square
        squares = self.scores[2] - n * score**2
        first, second = (sums[2] - 2 * score * sums[1] + score**2 * sums[0] for sums in (self.first, self.second))
        square = (second - 2 * mask * first + mask**2 * squares) / n
        error = np.sqrt(np.maximum(square - covariance**2, 0) / max(n - 1, 1))
        return covariance * n / max(n - 1, 1), error

    def correlation(self) -> tuple[Array, Array]:
        """Pearson's correlation of score and mask, and its standard error; 0 where either doesn't vary."""
        n, score, mask = self._means()
        variances = np.maximum(self.scores[2] / n - score**2, 0) * np.maximum(self.second[0] / n - mask**2, 0)
        scale = max(float(self.scores[2] / n), 1e-300) * np.maximum(self.second[0] / n, 1e-300)
        varies = variances > 1e-12 * scale
        covariance = self.first[1] / n - score * mask
        correlation = np.clip(np.where(varies, covariance / np.sqrt(np.where(varies, variances, 1)), 0.0), -1, 1)
        return correlation, np.sqrt((1 - correlation**2) / max(n - 2, 1))

    def _means(self) -> tuple[float, float, Array]:
        """How many masks, the mean of g, and the mean mask."""
        n = self.scores[0]
        return n, self.scores[1] / n, self.first[0] / n


class GridMoments:
    """The same sums for enlarged grids of zeros and ones, without enlarging each.

    A mask is sum(r_a c_b G_ab) with the same r and c for all masks of one shift, so sums over masks are sums over
    grids, enlarged once per shift. An element lies between two cells of each axis at most, so the mask's square needs
    only products of neighbouring cells: per axis r_a² for a cell with itself and r_a r_(a+1) for a cell with the next.

    Parameters
    ----------
    grid
        The mask operators.
    reference
        As of :class:`Moments`.
    """

    def __init__(self, grid: Grid, reference: float) -> None:
        self._grid, self._reference = grid, reference
        self._scores = np.zeros(3)
        self._pairs = tuple(2 * count - 1 for count in grid.counts)
        self._sums = np.zeros((*grid.steps, 3, math.prod(self._pairs)))

    @staticmethod
    def suits(grid: Grid) -> bool:
        """Whether the sums per shift are of reasonable size."""
        return 24 * math.prod(grid.steps) * math.prod(2 * count - 1 for count in grid.counts) <= _MOST_BYTES

    def add(self, cells: Array, shift: Array, scores: Array) -> None:
        """Take up grids (n, *counts) of zeros and ones with their shifts (n, axes) and scores (n,)."""
        powers = _powers(scores - self._reference)
        self._scores += powers.sum(axis=1)
        products = self._products(cells.astype(np.float64)).reshape(len(cells), -1)
        for at, power, product in zip(map(tuple, shift.tolist()), powers.T, products, strict=True):
            self._sums[at] += power[:, None] * product

    def _products(self, cells: Array) -> Array:
        """Products of cells with themselves and their neighbours, (n, 2 counts - 1 per axis): first the counts cells
        along an axis, then its counts - 1 pairs."""
        out = np.empty((len(cells), *self._pairs))
        every, low, high = slice(None), slice(-1), slice(1, None)
        for paired in itertools.product((False, True), repeat=len(self._pairs)):
            where: list[slice] = [every]
            terms: list[tuple[list[slice], list[slice]]] = [([every], [every])]
            for count, pair in zip(self._grid.counts, paired, strict=True):
                where.append(slice(count, None) if pair else slice(count))
                sides = [(low, high), (high, low)] if pair else [(every, every)]
                terms = [([*one, a], [*other, b]) for one, other in terms for a, b in sides]
            out[tuple(where)] = sum(cells[tuple(one)] * cells[tuple(other)] for one, other in terms)
        return out

    def moments(self) -> Moments:
        """The sums over all masks that were taken up."""
        counts, axes = self._grid.counts, len(self._pairs)
        sums = self._sums.reshape(*self._grid.steps, 3, *self._pairs)
        cells = tuple(slice(count) for count in counts)
        singles = sums[(slice(None),) * (axes + 1) + cells]  # zeros and ones are their own squares
        enlarging = [self._shifted(axis) for axis in range(axes)]
        squares = [np.concatenate([r**2, r[:, :-1] * r[:, 1:]], axis=1) for r in enlarging]
        first, second = (_enlarged(values, by) for values, by in ((singles, enlarging), (sums, squares)))
        return Moments(self._reference, self._scores.copy(), first, second)

    def _shifted(self, axis: int) -> Array:
        """The weight of each cell in every element, by shift: (steps, count, side)."""
        step, side = self._grid.steps[axis], self._grid.sides[axis]
        at = np.arange(step)[:, None] + np.arange(side)
        weights: Array = self._grid.enlarging(axis)[at]
        return weights.transpose(0, 2, 1)


def _enlarged(values: Array, by: Sequence[Array]) -> Array:
    """Sums (*steps, 3, *cells) over all shifts at full size, (3, *sides)."""
    for axis in reversed(range(len(by))):  # an axis' shifts and cells give way to its elements
        values = np.tensordot(values, by[axis], axes=([axis, 2 * axis + 2], [0, 1]))
        values = np.moveaxis(values, -1, 2 * axis + 1)
    return values


def _powers(g: Array) -> Array:
    return np.stack([np.ones_like(g), g, g**2])
