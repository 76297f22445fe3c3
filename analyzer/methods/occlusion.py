"""Occlusion: the drop of the score when a window is replaced."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np

from analyzer.errors import UsageError
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.maps import channel_axis, spatial_axes
from analyzer.methods.registry import method

Size = int | tuple[int, ...] | list[int] | None
Fill = float | int | str
#: Up to so many columns or words are taken one by one; a longer row is taken for a series.
COLUMNS = 128


@method(
    "occlusion", "perturbation", needs="runtime",
    source="Zeiler, Fergus 2014, Visualizing and understanding convolutional networks, section 4.2",
)  # fmt: skip
def occlusion(
    context: Context,
    *,
    window: Annotated[
        Size, "window size, one number or one per axis; None: an eighth of each axis, or one column or word"
    ] = None,
    stride: Annotated[Size, "step between windows; None: half the window"] = None,
    fill: Annotated[Fill, "what replaces the window: a number, mean, blur or noise"] = 0.0,
) -> Result:
    """Drop of the score when a sliding window is replaced; overlapping windows are averaged."""
    name = context.perturbed
    value = context.inputs[name]
    axes = spatial_axes(value.shape, context.model)
    sides = [value.shape[axis] for axis in axes]
    few = COLUMNS if value.ndim == 2 else 32
    usual = [max(1, round(side / 8)) if len(axes) > 1 or side > few else 1 for side in sides]
    windows = _sizes("window", window, usual)
    strides = _sizes("stride", stride, [max(1, size // 2) for size in windows])
    windows = [min(size, side) for size, side in zip(windows, sides, strict=True)]
    places = list(_places(sides, windows, strides))
    replacement = replaced(context, name, fill)
    maps = np.zeros((len(value), *sides))
    total = len(places) * len(value)
    for sample, x in enumerate(value):
        regions = [_region(x.ndim, axes, place) for place in places]
        copies = (_with(x, region, replacement[sample]) for region in regions)
        counts = np.zeros(sides)
        scores = context.evaluate(sample, copies)
        for done, (place, score) in enumerate(zip(places, scores, strict=True), 1):
            maps[sample, ...][place] += context.score[sample] - score
            counts[place] += 1
            context.advance(sample * len(places) + done, total)
        maps[sample] /= np.maximum(counts, 1)
    record = {"evaluations": total, "windows": len(places)}
    return Result({name: spread(maps, value, axes, context)}, notes=context.unchanged, record=record)


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


def _places(sides: Sequence[int], windows: Sequence[int], strides: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Windows starting at multiples of the stride, the last one cut at the border."""
    starts = [
        range(0, max(1, min(side, side - window + stride)), stride)
        for side, window, stride in zip(sides, windows, strides, strict=True)
    ]
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + window, side)) for start, window, side in zip(corner, windows, sides, strict=True)
        )


def _region(rank: int, axes: Sequence[int], place: tuple[slice, ...]) -> tuple[slice, ...]:
    """The index of a window in a sample without batch axis, all channels."""
    index = [slice(None)] * rank
    for axis, part in zip(axes, place, strict=True):
        index[axis - 1] = part
    return tuple(index)


def _with(x: Array, region: tuple[slice, ...], replacement: Array) -> Array:
    copy = np.array(x)
    copy[region] = replacement[region]
    return copy


def replaced(context: Context, name: str, how: Fill | Array) -> Array:
    """What removed elements of an input become; the input's shape and dtype."""
    from analyzer.inputs import fill

    value = context.inputs[name]
    if isinstance(how, str):
        with contextlib.suppress(ValueError):
            how = float(how)
    if value.dtype.kind in "iu":
        if isinstance(how, str):
            raise UsageError("params.invalid", f"fill {how!r} doesn't suit whole numbers", "give a number, such as 0")
        return np.full_like(value, how)
    layout = "HWC" if value.ndim > 2 and channel_axis(value.shape, context.model) == value.ndim - 1 else "CHW"
    filled: Array = fill(value, how, layout=layout, seed=context.seed)  # type: ignore[arg-type]
    return filled.astype(value.dtype, copy=False)


def spread(maps: Array, value: Array, axes: Sequence[int], context: Context) -> Array:
    """Maps (batch, *places) as an array of the input's rank, channels shared."""
    if len(axes) == value.ndim - 1:
        return maps.astype(np.float32)
    return np.expand_dims(maps, channel_axis(value.shape, context.model)).astype(np.float32)
