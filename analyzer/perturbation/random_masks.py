"""Random masks streamed through the model, with sums of what they scored, until there are enough.

Belongs here: drawing, scoring and summing up masks for methods that need nothing but such sums. Not here: the methods and
their masks, the sums themselves (``moments``), when it is enough (``budget``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from analyzer.errors import UnsupportedError
from analyzer.executor.batched_runs import Rows, Source
from analyzer.executor.mask_ops import Grid, Masks
from analyzer.explanation import Result
from analyzer.perturbation.budget import Budget, Progress, SequentialSampling
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.fill_parameter import Fill, replacement_for
from analyzer.perturbation.moments import GridMoments, Moments
from analyzer.perturbation.replacement import MaskedInput, Replacements
from analyzer.perturbation.spatial_layout import SpatialLayout

#: Bytes of full masks that are summed up together, and how many at most.
_BLOCK_BYTES, _BLOCK_MOST = 8 * 2**20, 32


class Draw(Protocol):
    """Random masks over the spatial axes, 1 where the input is left as it is.

    The numbers must not depend on how a total is cut into blocks.
    """

    def __call__(self, rng: np.random.Generator, n: int) -> Array:
        """n masks, (n, *sides), float32."""
        ...


class DrawGrids(Protocol):
    """Random masks drawn as grids; their numbers too must not depend on how a total is cut into blocks."""

    def grid(self, shape: tuple[int, ...]) -> Grid:
        """The mask operators that enlarge them to masks of the given shape, 1 for each axis that shares them."""
        ...

    def rows(self, rng: np.random.Generator, n: int) -> Rows:
        """n rows of the mask operators."""
        ...


@dataclass(frozen=True)
class MonteCarlo:
    """Maps estimated from the scores of random masks, the same masks for every sample.

    Where several inputs are changed every evaluation masks them all, each by a mask of its own.

    Attributes
    ----------
    draws
        Input name -> its masks.
    replacements
        What masked elements become.
    estimate
        Makes values and standard errors of sums over masks.
    """

    evaluator: Evaluator
    draws: Mapping[str, Draw | DrawGrids]
    replacements: Replacements
    budget: Budget
    estimate: Callable[[Moments], tuple[Array, Array]]

    @classmethod
    def of(
        cls, evaluator: Evaluator, fill: Fill, draws: int, limits: tuple[int | None, float | None],
        draw: Callable[[str], Draw | DrawGrids], estimate: Callable[[Moments], tuple[Array, Array]], *,
        background: int = 100, least: int = 2,
    ) -> MonteCarlo:  # fmt: skip
        """Masks of a method that was given a ``fill`` and ``limits``: its budget and the standard error to stop at.

        Parameters
        ----------
        draw
            Gives the masks of an input by its name.

        Raises
        ------
        UsageError
            ``params.invalid``, ``fill.*``.
        UnsupportedError
            ``input.not_blendable``.
        """
        require_blendable(evaluator)
        replacements = Replacements(
            {
                name: replacement_for(evaluator, name, fill, background=background, without=("inpaint",))
                for name in evaluator.changed
            }
        )
        budget = Budget.of(draws, *limits, cost=replacements.cost, least=least)
        return cls(evaluator, {name: draw(name) for name in evaluator.changed}, replacements, budget, estimate)

    def result(self) -> Result:
        """Maps of the changed inputs, notes and the run's figures."""
        evaluator, count = self.evaluator, self.evaluator.batch
        sampling = SequentialSampling(self.budget, [self.budget.draws] * count, evaluator.advance)
        values = self._by_input([sampling.estimate(self._run(sample, sampling.progress)) for sample in range(count)])
        errors = self._by_input([np.asarray(estimate.errors) for estimate in sampling.estimates])
        by_sample = [{name: each[sample] for name, each in errors.items()} for sample in range(count)]
        stated = [next(iter(each.values())) if len(each) == 1 else each for each in by_sample]
        record = {**sampling.record(), "standard_error": stated}
        return Result(values, notes=self.replacements.notes, record=record, standard_errors=errors)

    def _by_input(self, found: Sequence[Array]) -> dict[str, Array]:
        """Numbers of each sample, those of all inputs one after the other, as maps."""
        maps, start = {}, 0
        for name, layout in self._layouts.items():
            end = start + math.prod(layout.sides)
            maps[name] = layout.shared(np.stack([each[start:end].reshape(layout.sides) for each in found]))
            start = end
        return maps

    @functools.cached_property
    def _layouts(self) -> dict[str, SpatialLayout]:
        return {name: self.evaluator.changing(name).layout for name in self.draws}

    def _run(self, sample: int, progress: Progress) -> Callable[[int], tuple[Array, Array]]:
        """Scores a sample's masks up to a number of draws, as :class:`SequentialSampling` asks for it.

        Values and errors are those of all inputs, one after the other.
        """
        evaluator, replacements, done = self.evaluator, self.replacements[sample], 0
        masks = {
            name: _masks(evaluator.generator(at), draw, self._layouts[name])
            for at, (name, draw) in enumerate(self.draws.items())
        }
        several = len(masks) > 1
        prefixes = {name: f"{at}." if several else "" for at, name in enumerate(masks)}
        parts = {name: MaskedInput(ops, replacements[name], {}, prefixes[name]) for name, (_, ops) in masks.items()}
        sums = {name: _BlockedMoments(float(evaluator.score[sample]), ops) for name, (_, ops) in masks.items()}
        block = min(_block_size(layout.sides) for layout in self._layouts.values())

        def drawn(count: int) -> Rows:
            return {prefixes[name] + role: v for name, (draw, _) in masks.items() for role, v in draw(count).items()}

        def after(draws: int) -> tuple[Array, Array]:
            nonlocal done
            source, done = _limited(draws - done, drawn, block), draws
            for rows, scores in evaluator.masked(sample, parts, source):
                for name, each in sums.items():
                    each.add({role: rows[prefixes[name] + role] for role in masks[name][1].rows}, scores)
                progress.add(len(scores))
            estimates = [self.estimate(each.moments()) for each in sums.values()]
            values, errors = (
                np.concatenate([np.ravel(part) for part in parts]) for parts in zip(*estimates, strict=True)
            )
            return values, errors

        return after


def _masks(rng: np.random.Generator, draw: Draw | DrawGrids, layout: SpatialLayout) -> tuple[Source, Masks | Grid]:
    """Rows as they are drawn, and the mask operators that they are for."""
    if callable(draw):
        return lambda n: {"mask": draw(rng, n)}, Masks(layout.sides, layout.mask_shape)
    return functools.partial(draw.rows, rng), draw.grid(layout.mask_shape)


def require_blendable(evaluator: Evaluator) -> None:
    """Refuse to blend what has nothing in between.

    Raises
    ------
    UnsupportedError
        ``input.not_blendable`` for text and missing values.
    """
    holed = [name for name in evaluator.changed if evaluator.holes(name)]
    if not (evaluator.texts or holed):
        return
    what = (
        f"the text of input {evaluator.texts[0]!r}" if evaluator.texts else f"the missing values of input {holed[0]!r}"
    )
    raise UnsupportedError(
        "input.not_blendable",
        f"this method blends inputs by masks, and {what} can't be blended",
        "use feature-ablation, kernel-shap, lime or occlusion; inputs=NAME leaves an input as it is",
    )


def _limited(total: int, drawn: Source, block: int) -> Source:
    """A source that ends after a number of rows, which are drawn a block at a time."""
    left, ready = total, 0
    waiting: dict[str, Array] = {}

    def source(count: int) -> Rows:
        nonlocal left, ready, waiting
        if ready < count and left:
            size = min(max(block, count - ready), left)
            fresh = drawn(size)
            waiting = {n: np.concatenate([waiting[n], v]) if ready else v for n, v in fresh.items()}
            left, ready = left - size, ready + size
        taken = {name: value[:count] for name, value in waiting.items()}
        waiting, ready = {name: value[count:] for name, value in waiting.items()}, max(ready - count, 0)
        return taken

    return source


def _block_size(sides: Sequence[int]) -> int:
    """How many masks are drawn and summed up together."""
    return int(np.clip(_BLOCK_BYTES // (4 * math.prod(sides)), 1, _BLOCK_MOST))


class _BlockedMoments:
    """Sums over masks, taken up in blocks: single batches would be too small to be summed up quickly."""

    def __init__(self, reference: float, mask_ops: Masks | Grid) -> None:
        self._mask_ops = mask_ops
        self._moments = Moments(reference)
        self._grid_moments: GridMoments | None = None
        if isinstance(mask_ops, Grid) and GridMoments.suits(mask_ops):
            self._grid_moments = GridMoments(mask_ops, reference)
        self._pending: list[tuple[Rows, Array]] = []
        self._count = 0
        self._block_size = _block_size(mask_ops.sides)

    def add(self, rows: Rows, scores: Array) -> None:
        """Take up a batch."""
        self._pending.append((rows, scores))
        self._count += len(scores)
        if self._count >= self._block_size:
            self._flush()

    def moments(self) -> Moments:
        """The sums over everything that was added."""
        self._flush()
        return self._moments if self._grid_moments is None else self._grid_moments.moments()

    def _flush(self) -> None:
        if not self._pending:
            return
        scores = np.concatenate([scores for _, scores in self._pending])
        rows = {name: np.concatenate([rows[name] for rows, _ in self._pending]) for name in self._pending[0][0]}
        if self._grid_moments is not None:
            self._grid_moments.add(rows["cells"], rows["shift"], scores)
        else:
            masks = self._mask_ops.masks(rows, {}).reshape(len(scores), *self._mask_ops.sides)
            self._moments.add(masks, scores)
        self._pending, self._count = [], 0
