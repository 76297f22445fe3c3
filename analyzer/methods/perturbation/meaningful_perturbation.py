"""Meaningful perturbation: the smallest smooth region whose removal lowers the score most, learned by gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from analyzer.errors import UsageError
from analyzer.inputs.layout import spatial_axes
from analyzer.inputs.resampling import interpolation_matrix
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.perturbation.occlusion import spread
from analyzer.methods.registry import method
from analyzer.perturbation.replacement import COLUMNS, Fill, replaced


@method(
    "meaningful-perturbation", "perturbation", quick={"steps": 10}, signed=False,
    source="Fong, Vedaldi 2017, Interpretable explanations of black boxes by meaningful perturbation, eq. 3 to 6",
)  # fmt: skip
def meaningful_perturbation(
    context: Context,
    *,
    fill: Annotated[
        Fill,
        "what removed elements become: a number, mean, blur, noise, image:FILE or an array; tables and words: 0 for blur",
    ] = "blur",
    steps: Annotated[int, "steps of Adam, at least 1"] = 200,
    l1: Annotated[float, "price of removing everything, as a share of the score's change by doing so"] = 0.5,
    tv: Annotated[float, "price of roughness: the mean over the mask of |difference of neighbours| ** 3"] = 0.5,
    grid: Annotated[
        int | None,
        "cells of the mask per axis; None: a fourth of the axis, 4 to 28. Columns and words are cells of their own",
    ] = None,
    rate: Annotated[float, "learning rate, above 0"] = 0.1,
    jitter: Annotated[float, "random shift of the mask in every step, as a fraction of each axis"] = 0.02,
) -> Result:
    """What a learned smooth mask removes so that the score falls most for the least region.

    Notes
    -----
    Descends on l1 * mean(1 - m) + tv * mean(|grad m| ** 3) + f(mixed) / d with d = |f(x) - f(filled)|, so that prices mean
    the same for every model and for logits. A logit has no lowest value as a probability has: below f(x) - d nothing more
    is gained, else the mask would go on to noise that fools the model. Reported: 1 - m at the input's resolution, and the
    score before, after and with everything removed.
    """
    if steps < 1 or (grid is not None and grid < 1) or rate <= 0 or l1 < 0 or tv < 0 or not 0 <= jitter < 1:
        raise UsageError(
            "params.invalid",
            "it needs steps >= 1, grid >= 1, rate > 0, l1 >= 0, tv >= 0, 0 <= jitter < 1",
            "see the defaults",
        )
    scene = _scene(context, fill, grid)
    mask = np.ones((len(scene.value), *scene.counts))
    price = np.full(mask.shape, l1)
    adam = Adam(rate)
    filled = scene.run(np.zeros_like(mask), scene.enlarge)[0]
    change = np.abs(context.score - filled)
    least = 1e-6 * np.maximum(np.abs(context.score), 1e-6)
    scale = 1 / np.maximum(change, least)
    rng = np.random.default_rng(context.seed)
    for step in range(steps):
        shifts = np.round(rng.uniform(-jitter, jitter, len(scene.sides)) * scene.sides).astype(int)
        rows = [np.clip(np.arange(s) + by, 0, s - 1) for s, by in zip(scene.sides, shifts, strict=True)]
        moved = [m if scene.alone else m[r] for m, r in zip(scene.enlarge, rows, strict=True)]
        score, slope = scene.run(mask, moved)
        gain = _per_sample(scale * (score > context.score - change), mask)
        slope = slope * gain * mask[0].size - price + tv * roughness(mask)
        mask = np.clip(mask - adam.step(slope), 0, 1)
        context.advance(step + 1, steps + 2)
    after = scene.run(mask, scene.enlarge)[0]
    context.advance(steps + 2, steps + 2)
    record = {
        "evaluations": (steps + 2) * len(mask),
        "score_before": [float(v) for v in context.score],
        "score_after": [float(v) for v in after],
        "score_filled": [float(v) for v in filled],
        "removed": [float(v) for v in 1 - mask.reshape(len(mask), -1).mean(axis=1)],
    }
    large = spread(along(1 - mask, scene.enlarge), context.inputs[scene.name], scene.axes, context)
    small = spread(1 - mask, context.inputs[scene.name], scene.axes, context)
    notes = ["nothing changes where all is replaced: choose another fill"] if (change < least).any() else []
    notes += context.unchanged if scene.name == context.perturbed else []
    return Result({scene.name: large}, {} if scene.alone else {scene.name: small}, notes=notes, record=record)


@dataclass(frozen=True)
class _Scene:
    """What is masked: explained values, what they become, and the matrices that enlarge a mask to them.

    Attributes
    ----------
    axes, sides, counts
        The input's place axes, their lengths, and the mask's.
    alone
        Whether every element has a cell of its own.
    """

    context: Context
    name: str
    value: Array
    gone: Array
    axes: tuple[int, ...]
    sides: list[int]
    counts: list[int]
    alone: bool
    enlarge: list[Array]

    def run(self, mask: Array, enlarge: Sequence[Array]) -> tuple[Array, Array]:
        """Scores of the values mixed by a mask (batch, *counts), and their derivative by the mask."""
        large, others = along(mask, enlarge), tuple(a for a in range(1, self.value.ndim) if a not in self.axes)
        mixed = self.gone + np.expand_dims(large, others) * (self.value - self.gone)
        swept = self.context.engine.gradient({self.name: mixed.astype(self.value.dtype)})
        slope = swept.relevance[self.name].astype(np.float64) * (self.value - self.gone)
        return swept.score, along(slope.sum(axis=others), [matrix.T for matrix in enlarge])


def _scene(context: Context, fill: Fill, grid: int | None) -> _Scene:
    sources = {entry.name: entry for entry in context.engine.explained}
    name = context.perturbed if context.perturbed in sources else next(iter(sources))
    shape, value = context.inputs[name].shape, context.engine.values()[name]
    axes = spatial_axes(shape, context.model.preprocess)
    sides = [shape[axis] for axis in axes]
    alone = sources[name].tokens or (len(shape) == 2 and sides[0] <= COLUMNS)
    if alone:
        how = 0.0 if isinstance(fill, str) and fill.startswith("blur") else fill
        gone = np.full_like(value, _number(how)) if sources[name].tokens else _single(context, name, how)
    else:
        gone = _single(context, name, fill)
    counts = sides if alone else [min(grid or int(np.clip(side // 4, 4, 28)), side) for side in sides]
    enlarge = [np.eye(side) if alone else interpolation_matrix(c, side) for c, side in zip(counts, sides, strict=True)]
    return _Scene(context, name, value, gone.astype(np.float64), axes, sides, list(counts), alone, enlarge)


def _single(context: Context, name: str, fill: Fill) -> Array:
    found: Array = replaced(context, name, fill, without=("inpaint", "samples"))
    return found


def _number(fill: Fill) -> float:
    try:
        return float(fill)
    except (TypeError, ValueError):
        raise UsageError(
            "params.invalid", f"fill {fill!r} doesn't suit an embedding", "give a number, such as 0"
        ) from None


def along(values: Array, matrices: Sequence[Array]) -> Array:
    """Every axis after the first multiplied by its matrix."""
    for axis, matrix in enumerate(matrices, 1):
        values = np.moveaxis(np.tensordot(matrix, values, axes=(1, axis)), 0, axis)
    return values


def roughness(mask: Array) -> Array:
    """Derivative of the sum over neighbours of |difference| ** 3 by each cell; (batch, *counts)."""
    slope = np.zeros_like(mask)
    for axis in range(1, mask.ndim):
        step = np.diff(mask, axis=axis)
        pull = 3 * step * np.abs(step)
        none = [(0, 0)] * mask.ndim
        before, after = list(none), list(none)
        before[axis], after[axis] = (1, 0), (0, 1)
        slope += np.pad(pull, before) - np.pad(pull, after)
    return slope


def _per_sample(values: Array, like: Array) -> Array:
    return values.reshape(-1, *[1] * (like.ndim - 1))


@dataclass
class Adam:
    """Kingma, Ba 2015, algorithm 1; epsilon is large, so that slopes of rounding size don't move anything."""

    rate: float
    epsilon: float = 1e-3
    count: int = 0
    mean: Array = field(default_factory=lambda: np.zeros(()))
    square: Array = field(default_factory=lambda: np.zeros(()))

    def step(self, slope: Array) -> Array:
        """What to subtract."""
        self.count += 1
        self.mean = 0.9 * self.mean + 0.1 * slope
        self.square = 0.999 * self.square + 0.001 * slope**2
        mean, square = self.mean / (1 - 0.9**self.count), self.square / (1 - 0.999**self.count)
        return np.asarray(self.rate * mean / (np.sqrt(square) + self.epsilon))
