"""Occlusion: the drop of the score when a window is replaced."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np

from analyzer.errors import UsageError
from analyzer.explanation import Result
from analyzer.methods.parameters import COUNT
from analyzer.methods.perturbation.feature_ablation import feature_ablation
from analyzer.methods.registry import ANY_ROWS, method
from analyzer.perturbation.budget import Progress
from analyzer.perturbation.evaluator import Evaluator
from analyzer.perturbation.fill_parameter import BACKGROUND_HELP, COLUMNS, FILL_HELP, Fill, replacement_for
from analyzer.perturbation.incremental import IncrementalWindows, Mode, Window, prepared
from analyzer.perturbation.replacement import Replacement, cost_of, notes_of
from analyzer.perturbation.spatial_layout import Array, SpatialLayout

if TYPE_CHECKING:
    from analyzer.methods.static_context import StaticContext

Size = int | tuple[int, ...] | list[int] | None


def _has_windows(static: StaticContext) -> None:
    if not (static.evaluator.columns or static.evaluator.texts):
        static.evaluator.require_axes()


@method(
    "occlusion", "perturbation", needs="runtime", modalities=ANY_ROWS, fits=_has_windows,
    source="Zeiler, Fergus 2014, Visualizing and understanding convolutional networks, section 4.2",
)  # fmt: skip
def occlusion(
    evaluator: Evaluator,
    *,
    window: Annotated[
        Size, "window size, one number or one per axis; None: an eighth of each axis, or one column or word", COUNT
    ] = None,
    stride: Annotated[Size, "step between windows; None: half the window", COUNT] = None,
    fill: Annotated[Fill, f"what replaces the window: {FILL_HELP}"] = 0.0,
    background: Annotated[int, BACKGROUND_HELP, COUNT] = 100,
    budget: Annotated[int | None, "most model evaluations per sample; a larger stride keeps to it", COUNT] = None,
    incremental: Annotated[
        Mode,
        "compute only what a window can reach, where that pays (auto) or wherever it can be done (on), or never (off)",
    ] = "auto",
) -> Result:
    """Drop of the score when a sliding window is replaced; overlapping windows are averaged.

    Where each column of a table is an input of its own, or holds text, a window is a column; in a text, a word.
    """
    if evaluator.texts and any(size not in (None, 1) for size in (window, stride)):
        raise UsageError("params.invalid", "a window over text is one column or word", "leave window and stride out")
    if evaluator.columns or evaluator.texts:
        _one_per_axis("window", window, [1])
        _one_per_axis("stride", stride, [1])
        columns: Result = feature_ablation(evaluator, fill=fill, background=background, budget=budget)
        return columns
    each = [_Occluded.of(evaluator.changing(name), window, stride, fill, background) for name in evaluator.changed]
    notes = [note for one in each for note in notes_of(one.replacement)]
    if budget is not None:
        wanted = sum(one.evaluations for one in each)
        shares = [budget * one.evaluations // (wanted * one.cost) for one in each]
        coarser = [one.grid.affordable(share) for one, share in zip(each, shares, strict=True)]
        each = [replace(one, grid=grid) for one, (grid, _) in zip(each, coarser, strict=True)]
        notes += [note for _, more in coarser for note in more]
    progress = Progress(sum(one.evaluations for one in each) * evaluator.batch, evaluator.advance)
    maps, windows, records = {}, {}, {}
    for one in each:
        name = one.evaluator.perturbed
        maps[name], local = one.drops(incremental, progress)
        notes += local.notes
        windows[name], records[name] = len(local.windows), local.record()
    alone = len(each) == 1
    record = {
        "evaluations": progress.total,
        "windows": windows[name] if alone else windows,
        "incremental": records[name] if alone else records,
    }
    evaluator.masks = each[0].evaluator.masks
    return Result(maps, notes=list(dict.fromkeys(notes)), record=record)


@dataclass(frozen=True)
class _Occluded:
    """One input that windows are moved over.

    Attributes
    ----------
    evaluator
        Changes this input alone.
    """

    evaluator: Evaluator
    grid: WindowGrid
    replacement: Replacement

    @classmethod
    def of(cls, evaluator: Evaluator, window: Size, stride: Size, fill: Fill, background: int) -> _Occluded:
        """As a method's parameters say; see :func:`occlusion`."""
        grid = WindowGrid.of(evaluator.layout, window, stride)
        return cls(evaluator, grid, replacement_for(evaluator, evaluator.perturbed, fill, background=background))

    @property
    def cost(self) -> int:
        """Model evaluations for one window."""
        return cost_of(self.replacement)

    @property
    def evaluations(self) -> int:
        """Model evaluations for one sample."""
        return self.grid.count * self.cost

    def drops(self, incremental: Mode, progress: Progress) -> tuple[Array, IncrementalWindows]:
        """The map, of the input's rank, and the incremental inference that was used."""
        evaluator, layout, windows = self.evaluator, self.evaluator.layout, self.grid.windows()
        same = isinstance(self.replacement, np.ndarray)  # for every window
        mode: Mode = incremental if same and not evaluator.holes(evaluator.perturbed) else "off"
        local = prepared(evaluator, layout.axes, self.grid.spans(), windows, mode, self.replacement)
        drops, before = np.zeros((evaluator.batch, *layout.sides)), progress.done
        for sample in range(evaluator.batch):
            scores = _scores(
                evaluator, local, sample, self.replacement, lambda n: progress.reach(before + n * self.cost)
            )
            for done, (box, score) in enumerate(zip(windows, scores, strict=True), sample * len(windows) + 1):
                drops[sample, ...][box] += evaluator.score[sample] - score
                progress.reach(before + done * self.cost)
        return layout.shared(drops / np.maximum(self.grid.coverage(), 1)), local


def _scores(
    evaluator: Evaluator, local: IncrementalWindows, sample: int, replacement: Replacement, reach: Callable[[int], None]
) -> Iterable[float]:
    """Scores of all windows of a sample: by incremental inference, or else by running the full model on each.

    Parameters
    ----------
    reach
        Called with how many windows of all samples are done.
    """
    before, its = sample * len(local.windows), replacement[sample]
    scores = None
    if isinstance(its, np.ndarray):
        scores = local.scores(sample, its, lambda done: reach(before + done))
    return evaluator.windows(sample, local.windows, its) if scores is None else scores


@dataclass(frozen=True)
class WindowGrid:
    """Windows at regular positions.

    Attributes
    ----------
    sides, sizes, strides
        Per spatial axis: its length, the windows' size, and the step from one window to the next.
    """

    sides: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, layout: SpatialLayout, window: Size, stride: Size) -> WindowGrid:
        """As a method's parameters say; see :func:`occlusion`.

        Raises
        ------
        UsageError
            ``params.invalid``.
        """
        sides, one_by_one = layout.sides, COLUMNS if len(layout.shape) == 2 else 32
        usual = [max(1, round(side / 8)) if len(sides) > 1 or side > one_by_one else 1 for side in sides]
        sizes = _one_per_axis("window", window, usual)
        strides = _one_per_axis("stride", stride, [max(1, size // 2) for size in sizes])
        return cls(sides, tuple(min(size, side) for size, side in zip(sizes, sides, strict=True)), tuple(strides))

    def spans(self) -> list[tuple[list[int], list[int]]]:
        """Begins and ends of the windows along each axis."""
        return [_spans(*axis) for axis in zip(self.sides, self.sizes, self.strides, strict=True)]

    def windows(self) -> list[Window]:
        """The product of the intervals along each axis, the last axis fastest."""
        return list(itertools.product(*([slice(*ends) for ends in zip(*span, strict=True)] for span in self.spans())))

    def coverage(self) -> Array:
        """How many windows cover each element, (*sides)."""
        counts = np.zeros(self.sides)
        for window in self.windows():
            counts[window] += 1
        return counts

    @property
    def count(self) -> int:
        """How many windows there are."""
        return math.prod(len(begins) for begins, _ in self.spans())

    def affordable(self, most: int) -> tuple[WindowGrid, list[str]]:
        """With the smallest strides, enlarged alike, that give at most so many windows; and what the user should know.

        Raises
        ------
        UsageError
            ``params.invalid`` where not even one window is allowed.
        """
        if most < 1:
            raise UsageError("params.invalid", "the budget doesn't allow for one window", "give a larger budget")
        least = max(self.strides)
        found = next(grid for by in itertools.count(least) if (grid := self._coarser(by, least)).count <= most)
        if found.strides == self.strides:
            return self, []
        steps, given = list(found.strides), list(self.strides)
        note = f"stride {steps} instead of {given}: the budget allows for {found.count} of {self.count} windows"
        if any(step > size for step, size in zip(steps, self.sizes, strict=True)):
            note += ", between which elements stay uncovered, with a value of 0"
        return found, [note]

    def _coarser(self, by: int, least: int) -> WindowGrid:
        """Strides times by / least, no larger than reach the end of an axis."""
        strides = (
            min(max(side, step), -(-step * by // least)) for step, side in zip(self.strides, self.sides, strict=True)
        )
        return replace(self, strides=tuple(strides))


def _one_per_axis(what: str, given: Size, default: Sequence[int]) -> list[int]:
    """One positive number per axis.

    Raises
    ------
    UsageError
        ``params.invalid``.
    """
    if given is None:
        return list(default)
    sizes = [given] * len(default) if isinstance(given, int) else list(given)
    if len(sizes) != len(default) or any(size < 1 for size in sizes):
        raise UsageError(
            "params.invalid",
            f"{what} {given} doesn't fit an input with {len(default)} spatial axes",
            f"give one positive number, or {len(default)}",
        )
    return sizes


def _spans(side: int, size: int, stride: int) -> tuple[list[int], list[int]]:
    """Begins and ends of windows along an axis: they start at multiples of the stride, the last one is cut."""
    begins = range(0, max(1, min(side, side - size + stride)), stride)
    return list(begins), [min(begin + size, side) for begin in begins]
