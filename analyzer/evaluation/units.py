"""The pieces of a sample that a metric ranks and takes away: pixels with all their channels, columns, words, time steps.

Belongs here: cutting a sample into units, the relevance of each, their order. Not here: scores without some of them
(``context``), metrics.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from analyzer.evaluation.measure import Array
from analyzer.perturbation.evaluator import Evaluator
from analyzer.perturbation.features import Segmentation
from analyzer.perturbation.fill_parameter import COLUMNS

#: Into about so many units an input with places is cut where no size is given.
PIECES = 64
#: Relevance that differs by less, of the largest, is the same: a map is of single precision.
TIED = 1e-9


@dataclass(frozen=True)
class Units:
    """One sample's units, numbered over all explained inputs.

    Attributes
    ----------
    segmentation
        Which unit each element belongs to.
    relevance
        (count,) float64: the sum, or mean, of the map over each unit.
    """

    segmentation: Segmentation
    relevance: Array

    @property
    def count(self) -> int:
        """How many there are."""
        return self.segmentation.count

    @property
    def tied(self) -> bool:
        """Whether there are several, all with the same relevance, so that their order is of chance."""
        return self.count > 1 and bool(np.ptp(self.relevance) <= TIED * np.abs(self.relevance).max(initial=0))

    @classmethod
    def of(
        cls, evaluator: Evaluator, maps: Mapping[str, Array], size: int | None = 1, words: Collection[str] = ()
    ) -> Units:
        """A sample's units.

        Parameters
        ----------
        maps
            Input name -> the sample's map, without the batch axis, broadcastable to the input.
        size
            Side of the square, or length of the piece, that is one unit of a picture, volume or series; None for about
            :data:`PIECES` in all. Columns and words are always taken one by one. Channels share their units.
        words
            Inputs of text whose maps are of words.
        """
        ids: dict[str, Array] = {}
        start = 0
        for name, values in maps.items():
            own = np.arange(values.size) if name in words else _ids(evaluator, name, size)
            ids[name] = own + start
            start += int(own.max()) + 1
        return cls.on(Segmentation(ids), maps)

    @classmethod
    def on(cls, segmentation: Segmentation, maps: Mapping[str, Array], *, mean: bool = False) -> Units:
        """The segments as units, with the sums, or means, of a sample's maps, each broadcastable to its input."""
        relevance, size = np.zeros((2, segmentation.count))
        for name, values in maps.items():
            ids = segmentation.ids[name]
            shape = np.broadcast_shapes(ids.shape, values.shape)
            at, summed = np.broadcast_to(ids, shape), np.broadcast_to(values, shape)
            relevance += np.bincount(at.reshape(-1), summed.reshape(-1).astype(np.float64), segmentation.count)
            size += np.bincount(at.reshape(-1), minlength=segmentation.count)
        return cls(segmentation, relevance / size if mean else relevance)

    def sized(self) -> Units:
        """The same with the sizes of their relevance, without signs."""
        return replace(self, relevance=np.abs(self.relevance))

    def order(self, rng: np.random.Generator, descending: bool = True) -> Array:
        """Unit numbers, the most relevant first; equal ones in an order of chance."""
        ties = rng.permutation(self.count)
        ranked = np.lexsort((ties, -self.relevance if descending else self.relevance))
        return np.asarray(ranked, np.int64)


def _ids(evaluator: Evaluator, name: str, size: int | None) -> Array:
    """The units of one sample of an input from 0, of its rank, 1 along channels."""
    shape = evaluator.inputs[name].shape
    if len(shape) < 2 or int(np.prod(shape[1:])) == 1:
        return np.zeros((1,) * (len(shape) - 1), np.int64)
    layout = evaluator.changing(name).layout
    sides = layout.sides
    blocked = len(shape) > 2 or (evaluator.inputs[name].dtype.kind == "f" and sides[0] > COLUMNS)
    pieces = round(PIECES ** (1 / len(sides)))
    steps = [(size or -(-side // pieces)) if blocked else 1 for side in sides]
    counts = [-(-side // step) for side, step in zip(sides, steps, strict=True)]
    grid = np.arange(int(np.prod(counts))).reshape(counts)
    for axis, (side, step) in enumerate(zip(sides, steps, strict=True)):
        grid = np.repeat(grid, step, axis).take(range(side), axis)
    return np.asarray(grid, np.int64).reshape(layout.mask_shape)
