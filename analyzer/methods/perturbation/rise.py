"""RISE: the mean score under random coarse masks that leave an element as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from analyzer.executor.batched_runs import Rows
from analyzer.executor.mask_ops import Grid
from analyzer.explanation import Result
from analyzer.methods.parameters import CELLS, COUNT, MOST, SHARE, Bounds
from analyzer.methods.registry import method
from analyzer.perturbation.budget import BUDGET_HELP, STANDARD_ERROR_HELP
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.fill_parameter import BACKGROUND_HELP, BLENDED_FILL_HELP, COLUMNS, Fill
from analyzer.perturbation.moments import Moments
from analyzer.perturbation.random_masks import Draw, DrawGrids, MonteCarlo, require_blendable

if TYPE_CHECKING:
    from analyzer.methods.static_context import StaticContext


def _can_be_masked(static: StaticContext) -> None:
    require_blendable(static.evaluator)
    static.evaluator.require_axes()


@method(
    "rise", "perturbation", quick={"masks": 40}, needs="runtime", fits=_can_be_masked,
    source="Petsiuk, Das, Saenko 2018, RISE: randomized input sampling for explanation, eq. 6 and section 3.2",
)  # fmt: skip
def rise(
    evaluator: Evaluator,
    *,
    masks: Annotated[
        int, "number of masks, each a model evaluation (or one per background sample), at least 2", Bounds(2, MOST)
    ] = 1000,
    grid: Annotated[int, "cells of a mask per axis; columns of a table and words are cells of their own", CELLS] = 8,
    keep: Annotated[float, "probability that a cell shows, between 0 and 1", SHARE] = 0.5,
    fill: Annotated[Fill, f"what hidden elements become: {BLENDED_FILL_HELP}"] = 0.0,
    centre: Annotated[
        bool, "subtract the mean score, which leaves far less noise and makes 0 neutral; off is the paper's sum"
    ] = True,
    background: Annotated[int, BACKGROUND_HELP, COUNT] = 100,
    budget: Annotated[int | None, BUDGET_HELP, COUNT] = None,
    standard_error: Annotated[float | None, STANDARD_ERROR_HELP, SHARE] = None,
) -> Result:
    """Mean score over random smooth masks, weighted by how much of an element each shows.

    Notes
    -----
    sum(score * mask) / (masks * keep) estimates the expected score given that an element shows. With ``centre`` the mean
    score is taken off with the factor masks / (masks - 1) that keeps the estimate unbiased; the expected map then differs
    by a constant alone, and the noise that the constant brings is gone. With ``standard_error`` it stops early: the
    record's ``relative_error`` is the largest standard error over the map's max - min. 1,000 masks, where the paper takes
    4,000, are for centred maps: docs/defaults.md shows what they leave to chance.
    """

    def draw(name: str) -> Draw | DrawGrids:
        value, sides = evaluator.inputs[name], evaluator.changing(name).layout.sides
        per_element = value.dtype.kind in "iu" or (value.ndim == 2 and sides[0] <= COLUMNS)
        return independent_cells(sides, keep) if per_element else SmoothGrids(sides, grid, keep)

    def estimate(moments: Moments) -> tuple[Array, Array]:
        mean, error = moments.covariance() if centre else moments.product()
        return mean / keep, error / keep

    limits = budget, standard_error
    return MonteCarlo.of(evaluator, fill, masks, limits, draw, estimate, background=background).result()


def independent_cells(sides: Sequence[int], keep: float) -> Draw:
    """Masks in which every element is a cell of its own."""
    return lambda rng, n: (rng.random((n, *sides)) < keep).astype(np.float32)


@dataclass(frozen=True)
class SmoothGrids:
    """Masks of a coarse grid: enlarged linearly by one cell more than fits, cut out at a random shift.

    Attributes
    ----------
    sides
        Of a mask.
    cells
        Of the grid per axis; no more than there are elements.
    keep
        Probability that a cell shows.
    """

    sides: tuple[int, ...]
    cells: int
    keep: float

    def grid(self, shape: tuple[int, ...]) -> Grid:
        """The mask operators that enlarge them to masks of the given shape."""
        return Grid(tuple(min(self.cells, side) for side in self.sides), self.sides, shape)

    def rows(self, rng: np.random.Generator, n: int) -> Rows:
        """n grids and shifts."""
        grid = self.grid(self.sides)
        drawn = rng.random((n, len(self.sides) + math.prod(grid.counts)))
        shift, present = drawn[:, : len(self.sides)], drawn[:, len(self.sides) :] < self.keep
        return {
            "cells": present.astype(np.float32).reshape(n, *grid.counts),
            "shift": (shift * grid.steps).astype(np.int64),
        }
