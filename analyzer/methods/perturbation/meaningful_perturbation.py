"""Meaningful perturbation: the smallest smooth region whose removal lowers the score most, learned by gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from analyzer.errors import UnsupportedError, UsageError
from analyzer.inputs.resampling import interpolation_matrix
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.parameters import CELLS, COUNT, NOT_NEGATIVE, POSITIVE, Bounds
from analyzer.methods.registry import method
from analyzer.perturbation.fill_parameter import COLUMNS, Fill, replacement_for
from analyzer.perturbation.spatial_layout import SpatialLayout

#: A slope is the change over this part of an axis.
_LENGTH = 12
#: Samples that a note names.
_SHOWN = 3


@method(
    "meaningful-perturbation", "perturbation", quick={"steps": 10}, signed=False,
    fits=lambda static: static.evaluator.require_batch(),
    source="Fong, Vedaldi 2017, Interpretable explanations of black boxes by meaningful perturbation, eq. 3 to 6",
)  # fmt: skip
def meaningful_perturbation(
    context: Context,
    *,
    fill: Annotated[
        Fill,
        "what removed elements become: a number, mean, blur, noise, image:FILE or an array; tables and words: 0 for blur",
    ] = "blur",
    steps: Annotated[int, "steps of Adam, at least 1", COUNT] = 200,
    l1: Annotated[
        float, "price of removing everything, as a share of the score's change by doing so", NOT_NEGATIVE
    ] = 0.5,
    tv: Annotated[
        float,
        "price of roughness: the mean over the mask of |change over a twelfth of the axis, or a cell| ** 3; not of columns",
        NOT_NEGATIVE,
    ] = 0.5,
    grid: Annotated[
        int | None,
        "cells of the mask per axis; None: a fourth of the axis, 4 to 28. Columns and words are cells of their own",
        CELLS,
    ] = None,
    rate: Annotated[float, "learning rate, above 0", POSITIVE] = 0.1,
    jitter: Annotated[
        float, "random shift of the mask in every step, as a fraction of each axis", Bounds(0, 0.5)
    ] = 0.02,
) -> Result:
    """What a learned smooth mask removes so that the score falls most for the least region.

    Notes
    -----
    Descends on l1 * mean(1 - m) + tv * mean(|grad m| ** 3) + f(mixed) / d with d = |f(x) - f(filled)|, so that prices mean
    the same for every model and for logits; d = |f(x)| where the two are alike. A logit has no lowest value as a probability
    has: below f(x) - d nothing more is gained, else the mask would go on to noise that fools the model. Reported: 1 - m at
    the input's resolution, averaged over the later half of the steps (as Polyak, Juditsky 1992) against single steps' noise,
    and ranks what is removed by how early it was; and the score before, after and with everything removed, for the last mask.
    """
    masked, rng = _MaskedInputs.of(context, fill, grid), np.random.default_rng(context.seed)
    adams = [Adam(rate) for _ in masked.each]
    masks = [np.ones((context.batch, *each.cells)) for each in masked.each]
    filled, _ = masked.gradient([np.zeros_like(mask) for mask in masks])
    change = np.abs(context.score - filled)
    least = 1e-6 * np.maximum(np.abs(context.score), 1e-6)
    alike = change < least
    change = np.where(alike, np.maximum(np.abs(context.score), least), change)
    scale, removed = 1 / change, [np.zeros_like(mask) for mask in masks]
    for step in range(steps):
        score, slopes = masked.gradient(masks, [each.shifted(rng, jitter) for each in masked.each])
        falling = scale * (score > context.score - change)
        for at, (each, adam) in enumerate(zip(masked.each, adams, strict=True)):
            mask = masks[at]
            share = slopes[at] * falling.reshape(-1, *[1] * (mask.ndim - 1)) * mask[0].size * len(masks)
            masks[at] = np.clip(mask - adam.step(share - l1 + tv * each.roughness(mask)), 0, 1)
            if step >= steps // 2:
                removed[at] += (1 - masks[at]) / (steps - steps // 2)
        context.advance(step + 1, steps + 2)
    after, _ = masked.gradient(masks)
    context.advance(steps + 2, steps + 2)
    cells = np.concatenate([mask.reshape(len(mask), -1) for mask in masks], axis=1)
    record = {
        "evaluations": (steps + 2) * len(cells),
        "score_before": context.score.tolist(),
        "score_after": after.tolist(),
        "score_filled": filled.tolist(),
        "removed": (1 - cells.mean(axis=1)).tolist(),
    }
    notes = _unchanging(alike, context.score, after)
    if not any(mask.any() for mask in removed):
        notes.append(
            "nothing is removed: no region lowers the score by what its removal costs; lower l1, or change fill"
        )
    return masked.result(removed, notes, record)


def _unchanging(alike: Array, before: Array, after: Array) -> list[str]:
    """A note on samples whose score is the same where all of them is replaced, with what the mask came to."""
    if not alike.any():
        return []
    some = np.flatnonzero(alike)
    which = f" of sample {', '.join(map(str, some[:_SHOWN]))}" if len(alike) > 1 else ""
    more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
    found = ", ".join(f"{before[at]:.4g} to {after[at]:.4g}" for at in some[:_SHOWN])
    return [
        f"replacing everything doesn't change the score{which}{more}; replacing what the mask removes takes it from {found}: "
        "choose another fill"
    ]


@dataclass(frozen=True)
class _MaskedInputs:
    """All inputs that masks are learned for, together."""

    context: Context
    each: list[_MaskedValues]

    @classmethod
    def of(cls, context: Context, fill: Fill, grid: int | None) -> _MaskedInputs:
        """The explained inputs with samples on their first axis; else the first explained one."""
        explained = {entry.name: entry.tokens for entry in context.engine.explained}
        names = [name for name in context.changed if name in explained] or list(explained)[:1]
        values = context.engine.values()
        return cls(
            context, [_MaskedValues.of(context, name, values[name], explained[name], fill, grid) for name in names]
        )

    def gradient(
        self, masks: Sequence[Array], upsampling: Sequence[Sequence[Array]] | None = None
    ) -> tuple[Array, list[Array]]:
        """Scores of the values blended by masks (batch, *cells), and their derivatives by each mask.

        Parameters
        ----------
        upsampling
            Per input the matrices that enlarge its mask; None for its own.
        """
        matrices = [each.upsampling for each in self.each] if upsampling is None else upsampling
        parts = list(zip(self.each, masks, matrices, strict=True))
        swept = self.context.engine.gradient({each.name: each.blended(mask, by) for each, mask, by in parts})
        for sample, score in enumerate(swept.score):
            self.context.require_scores(sample, score[None])
        slopes = [each.slope(swept.relevance[each.name], by) for each, _, by in parts]
        if not all(np.isfinite(slope).all() for slope in slopes):
            raise UnsupportedError(
                "result.nonfinite",
                "the model has no derivative where its input is blended with the fill",
                "choose another fill, or a method that needs no derivatives",
            )
        return swept.score, slopes

    def result(self, removed: Sequence[Array], notes: list[str], record: dict[str, Any]) -> Result:
        """How much of each element the masks remove, and the same by cell where these are larger."""
        large, small = {}, {}
        for each, mask in zip(self.each, removed, strict=True):
            large[each.name] = each.layout.shared(multiplied(mask, each.upsampling))
            if not each.per_element:
                small[each.name] = each.layout.shared(mask)
        return Result(large, small, notes=notes, record=record)


@dataclass(frozen=True)
class _MaskedValues:
    """The explained values of one input, what they are blended with, and the coarse mask that blends them.

    Attributes
    ----------
    cells
        Of the mask, per spatial axis.
    per_element
        Whether every element has a cell of its own.
    upsampling
        Per spatial axis the matrix (side, cells) that enlarges a mask.
    """

    name: str
    values: Array
    replacement: Array
    layout: SpatialLayout
    cells: list[int]
    per_element: bool
    upsampling: list[Array]

    @classmethod
    def of(
        cls, context: Context, name: str, values: Array, tokens: bool, fill: Fill, grid: int | None
    ) -> _MaskedValues:
        """Of an input; columns and words have cells of their own."""
        layout = SpatialLayout.of(context.model, name, context.inputs[name].shape)
        sides = layout.sides
        per_element = tokens or (len(layout.shape) == 2 and sides[0] <= COLUMNS)
        if per_element and isinstance(fill, str) and fill.startswith("blur"):
            fill = 0.0  # columns and words have no neighbours
        replacement = np.full_like(values, _number(fill)) if tokens else _one_array(context, name, fill)
        if per_element:
            cells, upsampling = list(sides), [np.eye(side) for side in sides]
        else:
            cells = [min(grid or int(np.clip(side // 4, 4, 28)), side) for side in sides]
            upsampling = [interpolation_matrix(count, side) for count, side in zip(cells, sides, strict=True)]
        return cls(name, values, replacement.astype(np.float64), layout, cells, per_element, upsampling)

    def blended(self, mask: Array, upsampling: Sequence[Array]) -> Array:
        """The values where the mask is 1, their replacement where it is 0."""
        large = np.expand_dims(multiplied(mask, upsampling), self._others)
        return np.asarray(self.replacement + large * (self.values - self.replacement), self.values.dtype)

    def slope(self, gradient: Array, upsampling: Sequence[Array]) -> Array:
        """A derivative by the blended values as one by the mask."""
        with np.errstate(invalid="ignore"):
            slope = gradient.astype(np.float64) * (self.values - self.replacement)
        return multiplied(slope.sum(axis=self._others), [matrix.T for matrix in upsampling])

    @property
    def _others(self) -> tuple[int, ...]:
        """The axes that share a mask."""
        return tuple(axis for axis in range(1, self.values.ndim) if axis not in self.layout.axes)

    def roughness(self, mask: Array) -> Array:
        """Derivative by each cell of the price of roughness: slopes are those along the axes, however many cells there are."""
        if self.per_element:
            return np.zeros_like(mask)
        return roughness(mask, [max(1.0, cells / _LENGTH) for cells in self.cells])

    def shifted(self, rng: np.random.Generator, jitter: float) -> list[Array]:
        """The matrices of a mask that is shifted at random by up to ``jitter`` of each axis."""
        sides = self.layout.sides
        shifts = np.round(rng.uniform(-jitter, jitter, len(sides)) * sides).astype(int)
        if self.per_element:
            return self.upsampling
        rows = [np.clip(np.arange(side) + shift, 0, side - 1) for side, shift in zip(sides, shifts, strict=True)]
        return [matrix[at] for matrix, at in zip(self.upsampling, rows, strict=True)]


def _one_array(context: Context, name: str, fill: Fill) -> Array:
    found = replacement_for(context, name, fill, without=("inpaint", "samples"))
    assert isinstance(found, np.ndarray), "other kinds are refused"
    return found


def _number(fill: Fill) -> float:
    try:
        return float(fill)
    except (TypeError, ValueError):
        raise UsageError(
            "params.invalid", f"fill {fill!r} doesn't suit an embedding", "give a number, such as 0"
        ) from None


def multiplied(values: Array, matrices: Sequence[Array]) -> Array:
    """Every axis after the first multiplied by its matrix."""
    for axis, matrix in enumerate(matrices, 1):
        values = np.moveaxis(np.tensordot(matrix, values, axes=(1, axis)), 0, axis)
    return values


def roughness(mask: Array, factors: Sequence[float] | None = None) -> Array:
    """Derivative of the sum over neighbours of |factor * difference| ** 3 by each cell; (batch, *cells)."""
    slope = np.zeros_like(mask)
    for axis in range(1, mask.ndim):
        step = np.diff(mask, axis=axis)
        derivative = 3 * step * np.abs(step) * (1.0 if factors is None else factors[axis - 1] ** 3)
        before, after = [(0, 0)] * mask.ndim, [(0, 0)] * mask.ndim
        before[axis], after[axis] = (1, 0), (0, 1)
        slope += np.pad(derivative, before) - np.pad(derivative, after)
    return slope


@dataclass
class Adam:
    """Kingma, Ba 2015, algorithm 1; epsilon is large, so that slopes of rounding size don't move anything.

    Here because this method runs without torch, and numpy and scipy have no optimiser that takes one gradient at a time.
    """

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
