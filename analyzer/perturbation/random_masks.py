"""Random masks streamed through the model, with sums of what they scored, until there are enough.

Belongs here: drawing, running and summing up masks for methods that need nothing but such sums. Not here: the methods and
their masks, the sums themselves (``moments``), when it is enough (``budget``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from analyzer.executor.batched_runs import Rows, Source
from analyzer.executor.mask_ops import Grid, Masks
from analyzer.inputs.layout import channel_axis, spatial_axes
from analyzer.perturbation.budget import Budget, Tally, relative
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.moments import GridMoments, Moments
from analyzer.perturbation.replacement import Fill, cost_of, notes_of, replaced

#: Bytes of full masks that are summed up together, and how many at most.
_BLOCK_BYTES, _BLOCK_MOST = 8 * 2**20, 32


class Draw(Protocol):
    """Random masks over the place axes, 1 where they show.

    The numbers must not depend on how a total is cut into blocks.
    """

    def __call__(self, rng: np.random.Generator, n: int) -> Array:
        """n masks, (n, *sides), float32."""
        ...


class DrawGrids(Protocol):
    """Random masks drawn as grids; their numbers too must not depend on how a total is cut."""

    def grid(self, shape: tuple[int, ...]) -> Grid:
        """The mask_ops that enlarges them to masks of the given shape, 1 for each axis that shares them."""
        ...

    def rows(self, rng: np.random.Generator, n: int) -> Rows:
        """n of the mask_ops's rows."""
        ...


@dataclass(frozen=True)
class Probed:
    """What a sample's random masks gave.

    Attributes
    ----------
    values, errors
        The estimate and its standard errors, by place.
    draws
        Masks that were run.
    stopped
        Why no more were.
    """

    values: Array
    errors: Array
    draws: int
    stopped: str


@dataclass(frozen=True)
class MonteCarlo:
    """Random masks for every sample, and what is estimated from them.

    Attributes
    ----------
    replacement
        What hidden elements become, by sample.
    estimate
        Makes values and standard errors of sums.
    """

    evaluator: Evaluator
    replacement: Any
    budget: Budget
    draw: Draw | DrawGrids
    estimate: Callable[[Moments], tuple[Array, Array]]

    @classmethod
    def of(
        cls, evaluator: Evaluator, fill: Fill, draws: int, limits: tuple[int | None, float | None], draw: Draw | DrawGrids,
        estimate: Callable[[Moments], tuple[Array, Array]], *, background: int = 100, least: int = 2,
    ) -> MonteCarlo:  # fmt: skip
        """Masks of a method that was given a ``fill`` and ``limits``: its budget and the standard error to stop at.

        Raises
        ------
        UsageError
            ``params.invalid``, ``fill.*``.
        """
        gone = replaced(evaluator, evaluator.perturbed, fill, background=background, without=("inpaint",))
        budget = Budget.of(draws, *limits, cost=cost_of(gone), least=least)
        return cls(evaluator, gone, budget, draw, estimate)

    def run(self) -> list[Probed]:
        """Every sample under the same masks."""
        value = self.evaluator.inputs[self.evaluator.perturbed]
        tally = Tally(self.budget.draws * self.budget.cost * len(value), self.evaluator.advance)
        return [self._sample(sample, tally) for sample in range(len(value))]

    def _sample(self, sample: int, tally: Tally) -> Probed:
        evaluator, budget, value = self.evaluator, self.budget, self.evaluator.inputs[self.evaluator.perturbed]
        axes = spatial_axes(value.shape, evaluator.model.preprocess)
        sides = tuple(value.shape[axis] for axis in axes)
        shape = (
            sides
            if len(axes) == value.ndim - 1
            else _inserted(sides, channel_axis(value.shape, evaluator.model.preprocess) - 1)
        )
        rng, done = np.random.default_rng(evaluator.seed), 0
        mask_ops: Masks | Grid
        if callable(self.draw):
            drawn, mask_ops = _full(self.draw, rng), Masks(sides, shape)
        else:
            drawn, mask_ops = functools.partial(self.draw.rows, rng), self.draw.grid(shape)
        sums = _Summed(float(evaluator.score[sample]), mask_ops)
        for look in budget.looks():
            source = _until(look - done, drawn, _block(sides))
            for rows, scores in evaluator.masked(sample, mask_ops, source, self.replacement[sample]):
                sums.add(rows, scores)
                tally.add(len(scores) * budget.cost)
            done = look
            values, errors = self.estimate(sums.moments())
            if budget.enough(values, errors):
                break
        tally.spare((budget.draws - done) * budget.cost)
        return Probed(values, errors, done, budget.stopped(done, values, errors))

    def record(self, found: Sequence[Probed]) -> dict[str, Any]:
        """The run's figures."""
        return {
            "evaluations": sum(each.draws for each in found) * self.budget.cost,
            "standard_error": means([each.errors for each in found]),
            "relative_error": [relative(each.values, each.errors) for each in found],
            "stopped": [each.stopped for each in found],
        }

    def notes(self) -> list[str]:
        """What the user should know."""
        return [*notes_of(self.replacement), *self.evaluator.unchanged]


def _full(draw: Draw, rng: np.random.Generator) -> Source:
    return lambda n: {"mask": draw(rng, n)}


def _inserted(sides: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*sides[:axis], 1, *sides[axis:])


def _until(total: int, drawn: Source, block: int) -> Source:
    """A source that ends after a number of rows, which are drawn a block at a time."""
    left, there = total, 0
    waiting: dict[str, Array] = {}

    def source(count: int) -> Rows:
        nonlocal left, there, waiting
        if there < count and left:
            size = min(max(block, count - there), left)
            fresh = drawn(size)
            waiting = {n: np.concatenate([waiting[n], v]) if there else v for n, v in fresh.items()}
            left, there = left - size, there + size
        taken = {name: value[:count] for name, value in waiting.items()}
        waiting, there = {name: value[count:] for name, value in waiting.items()}, max(there - count, 0)
        return taken

    return source


def _block(sides: Sequence[int]) -> int:
    """How many masks are drawn and summed up together."""
    return int(np.clip(_BLOCK_BYTES // (4 * math.prod(sides)), 1, _BLOCK_MOST))


class _Summed:
    """Masks and scores summed up in blocks: batches alone would be too small to be summed up quickly."""

    def __init__(self, reference: float, mask_ops: Masks | Grid) -> None:
        self._mask_ops = mask_ops
        self._full = Moments(reference)
        self._coarse: GridMoments | None = None
        if isinstance(mask_ops, Grid) and GridMoments.suits(mask_ops):
            self._coarse = GridMoments(mask_ops, reference)
        self._waiting: list[tuple[Rows, Array]] = []
        self._count = 0
        self._block = _block(mask_ops.sides)

    def add(self, rows: Rows, scores: Array) -> None:
        """Take up a batch."""
        self._waiting.append((rows, scores))
        self._count += len(scores)
        if self._count >= self._block:
            self._flush()

    def moments(self) -> Moments:
        """The sums over everything that was added."""
        self._flush()
        return self._full if self._coarse is None else self._coarse.moments()

    def _flush(self) -> None:
        if not self._waiting:
            return
        scores = np.concatenate([scores for _, scores in self._waiting])
        rows = {name: np.concatenate([rows[name] for rows, _ in self._waiting]) for name in self._waiting[0][0]}
        if self._coarse is not None:
            self._coarse.add(rows["cells"], rows["shift"], scores)
        else:
            masks = self._mask_ops.masks(rows, {}).reshape(len(scores), *self._mask_ops.sides)
            self._full.add(masks, scores)
        self._waiting, self._count = [], 0


def means(values: Sequence[Array]) -> list[float]:
    """The mean of every array, for the record."""
    return [float(np.mean(value)) for value in values]
