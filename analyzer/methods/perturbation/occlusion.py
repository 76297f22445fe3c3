"""Occlusion: the drop of the score when a window is replaced."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np

from analyzer.errors import UsageError
from analyzer.explanation import Result
from analyzer.inputs.layout import channel_axis, spatial_axes
from analyzer.methods.registry import method
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.incremental import Mode, prepared
from analyzer.perturbation.replacement import BACKGROUND, COLUMNS, FILLING, Fill, cost_of, notes_of, replaced

Size = int | tuple[int, ...] | list[int] | None


@method(
    "occlusion", "perturbation", needs="runtime",
    source="Zeiler, Fergus 2014, Visualizing and understanding convolutional networks, section 4.2",
)  # fmt: skip
def occlusion(
    evaluator: Evaluator,
    *,
    window: Annotated[
        Size, "window size, one number or one per axis; None: an eighth of each axis, or one column or word"
    ] = None,
    stride: Annotated[Size, "step between windows; None: half the window"] = None,
    fill: Annotated[Fill, f"what replaces the window: {FILLING}"] = 0.0,
    background: Annotated[int, BACKGROUND] = 100,
    budget: Annotated[int | None, "most model evaluations per sample; a larger stride keeps to it"] = None,
    incremental: Annotated[
        Mode,
        "compute only what a window can reach, where that pays (auto) or wherever it can be done (on), or never (off)",
    ] = "auto",
) -> Result:
    """Drop of the score when a sliding window is replaced; overlapping windows are averaged."""
    name = evaluator.perturbed
    value = evaluator.inputs[name]
    axes = spatial_axes(value.shape, evaluator.model.preprocess)
    sides = [value.shape[axis] for axis in axes]
    few = COLUMNS if value.ndim == 2 else 32
    usual = [max(1, round(side / 8)) if len(axes) > 1 or side > few else 1 for side in sides]
    windows = _sizes("window", window, usual)
    strides = _sizes("stride", stride, [max(1, size // 2) for size in windows])
    windows = [min(size, side) for size, side in zip(windows, sides, strict=True)]
    replacement = replaced(evaluator, name, fill, background=background)
    cost, notes = cost_of(replacement), notes_of(replacement)
    if budget is not None:
        strides, more = _affordable(sides, windows, strides, budget // cost)
        notes += more
    spans = [_spans(*of) for of in zip(sides, windows, strides, strict=True)]
    places = _places(spans)
    maps, counts = np.zeros((len(value), *sides)), np.zeros(sides)
    for place in places:
        counts[place] += 1
    alike = isinstance(replacement, np.ndarray)  # else every window has a replacement of its own
    mode: Mode = incremental if alike else "off"
    local = prepared(evaluator, axes, spans, places, mode, replacement if alike else value)
    total, ahead = len(places) * len(value) * cost, 0
    for sample in range(len(value)):

        def advance(done: int, before: int = sample * len(places)) -> None:
            nonlocal ahead
            for evaluation in range(max(ahead, before) + 1, before + done + 1):
                evaluator.advance(evaluation * cost, total)
            ahead = max(ahead, before + done)

        scores: Iterable[float] | None = local.scores(sample, replacement[sample], advance)
        if scores is None:
            scores = evaluator.windows(sample, places, replacement[sample])
        for done, (place, score) in enumerate(zip(places, scores, strict=True), 1):
            maps[sample, ...][place] += evaluator.score[sample] - score
            advance(done)
    maps /= np.maximum(counts, 1)
    record = {"evaluations": total, "windows": len(places), "incremental": local.record()}
    notes += [*evaluator.unchanged, *local.notes]
    return Result({name: spread(maps, value, axes, evaluator)}, notes=notes, record=record)


def _sizes(what: str, given: Size, default: Sequence[int]) -> list[int]:
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
            f"{what} {given} doesn't fit an input with {len(default)} place axes",
            f"give one positive number, or {len(default)}",
        )
    return sizes


def _affordable(
    sides: Sequence[int], windows: Sequence[int], strides: list[int], most: int
) -> tuple[list[int], list[str]]:
    """The smallest strides, enlarged alike, with at most so many windows; and what is to be said of it.

    Raises
    ------
    UsageError
        ``params.invalid`` where not even one window is allowed.
    """
    if most < 1:
        raise UsageError("params.invalid", "the budget doesn't allow for one window", "give a larger budget")

    def count(steps: Sequence[int]) -> int:
        return math.prod(len(_spans(*of)[0]) for of in zip(sides, windows, steps, strict=True))

    least, asked = max(strides), count(strides)
    larger = (
        [min(max(side, step), -(-step * by // least)) for step, side in zip(strides, sides, strict=True)]
        for by in itertools.count(least)
    )
    chosen = next(steps for steps in larger if count(steps) <= most)
    if chosen == strides:
        return chosen, []
    note = f"stride {chosen} instead of {strides}: the budget allows for {count(chosen)} of {asked} windows"
    if any(step > window for step, window in zip(chosen, windows, strict=True)):
        note += ", between which elements stay uncovered, with a value of 0"
    return chosen, [note]


def _spans(side: int, window: int, stride: int) -> tuple[list[int], list[int]]:
    """Begins and ends of windows along an axis: they start at multiples of the stride, the last one is cut."""
    starts = range(0, max(1, min(side, side - window + stride)), stride)
    return list(starts), [min(start + window, side) for start in starts]


def _places(spans: Sequence[tuple[list[int], list[int]]]) -> list[tuple[slice, ...]]:
    """Windows as the product of their intervals along each axis, the last axis fastest."""
    return list(itertools.product(*([slice(*ends) for ends in zip(*span, strict=True)] for span in spans)))


def spread(maps: Array, value: Array, axes: Sequence[int], evaluator: Evaluator) -> Array:
    """Maps (batch, *places) as an array of the input's rank, channels shared."""
    if len(axes) == value.ndim - 1:
        return maps.astype(np.float32)
    return np.expand_dims(maps, channel_axis(value.shape, evaluator.model.preprocess)).astype(np.float32)
