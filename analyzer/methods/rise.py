"""RISE: the mean score under random coarse masks that show an element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from analyzer.errors import UsageError
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.maps import spatial_axes
from analyzer.methods.occlusion import COLUMNS, Fill, spread
from analyzer.methods.registry import method
from analyzer.methods.sampling import Draw, interpolation, means, probe


@method(
    "rise", "perturbation", needs="runtime",
    source="Petsiuk, Das, Saenko 2018, RISE: randomized input sampling for explanation, eq. 6 and section 3.2",
)  # fmt: skip
def rise(
    context: Context,
    *,
    masks: Annotated[int, "number of masks, which is the model evaluations per sample, at least 2"] = 4000,
    grid: Annotated[int, "cells of a mask per axis; columns of a table and words are cells of their own"] = 8,
    keep: Annotated[float, "probability that a cell shows, between 0 and 1"] = 0.5,
    fill: Annotated[Fill, "what hidden elements become: a number, mean, blur or noise"] = 0.0,
    centre: Annotated[
        bool, "subtract the mean score (covariance with the mask over keep): less noise, 0 is neutral"
    ] = False,
) -> Result:
    """Mean score over random smooth masks, weighted by how much of an element each shows.

    Notes
    -----
    sum(score * mask) / (masks * keep) estimates the expected score given that an element shows. With ``centre`` the mean
    score is taken off with the factor masks / (masks - 1) that keeps the estimate unbiased; the expected map then differs
    by a constant alone, and the noise that the constant brings is gone.
    """
    if masks < 2 or grid < 1 or not 0 < keep < 1:
        raise UsageError("params.invalid", "rise needs masks >= 2, grid >= 1, 0 < keep < 1", "see the defaults")
    value = context.inputs[context.perturbed]
    axes = spatial_axes(value.shape, context.model)
    sides = [value.shape[axis] for axis in axes]
    alone = value.dtype.kind in "iu" or (value.ndim == 2 and sides[0] <= COLUMNS)
    found = probe(context, fill, masks, cells(sides, keep) if alone else smooth(sides, grid, keep))
    pairs = [moments.covariance() if centre else moments.product() for moments in found]
    record = {"evaluations": masks * len(value), "standard_error": means([error / keep for _, error in pairs])}
    stacked = np.stack([mean / keep for mean, _ in pairs])
    maps = {context.perturbed: spread(stacked, value, axes, context)}
    return Result(maps, notes=context.unchanged, record=record)


def cells(sides: Sequence[int], keep: float) -> Draw:
    """Masks in which every element is a cell of its own."""
    return lambda rng, n: (rng.random((n, *sides)) < keep).astype(np.float32)


def smooth(sides: Sequence[int], grid: int, keep: float) -> Draw:
    """Masks of a coarse grid: enlarged linearly by one cell more than fits, cut out at a random shift."""
    counts = [min(grid, side) for side in sides]
    steps = [math.ceil(side / count) for side, count in zip(sides, counts, strict=True)]
    enlarge = [interpolation(c, (c + 1) * step).astype(np.float32) for c, step in zip(counts, steps, strict=True)]

    def draw(rng: np.random.Generator, n: int) -> Array:
        drawn = rng.random((n, math.prod(counts) + len(sides)))
        masks: Array = (drawn[:, len(sides) :] < keep).astype(np.float32).reshape(n, *counts)
        for axis, (side, step, matrix) in enumerate(zip(sides, steps, enlarge, strict=True)):
            rows = (drawn[:, axis] * step).astype(int)[:, None] + np.arange(side)
            moved = np.moveaxis(masks, axis + 1, 1)
            masks = (matrix[rows] @ moved.reshape(n, moved.shape[1], -1)).reshape(n, side, *moved.shape[2:])
            masks = np.moveaxis(masks, 1, axis + 1)
        return masks

    return draw
