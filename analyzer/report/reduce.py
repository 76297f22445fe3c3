"""From an attribution of any rank to what can be drawn: a map, bars, curves, words or a strip.

Belongs here: which axes are summed, which elements are drawn, and notes about both. Not here:
colours, pixels, pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.report.panel import Panel, Sample
from analyzer.report.text import clean, number, value_text

MOST_BARS = 20
MOST_CURVES = 6
MOST_TOKENS = 600
MOST_ROWS = 256


@dataclass(frozen=True, eq=False)
class Drawable:
    """What is drawn of one attribution.

    Parameters
    ----------
    values
        Relevance, float64: (H, W) of an image or tensor, (C, T) of a series, (N,) of features or tokens.
    labels
        One per row or element where that has meaning.
    details
        The inputs' values beside the labels, ``= 37.84``; features only.
    notes
        What was summed, left out or enlarged.
    rest
        Number and sum of the elements that aren't drawn.
    picked
        Which channels or elements of the sample these are, in order; empty: all.
    """

    values: NDArray[np.float64]
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rest: tuple[int, float] = (0, 0.0)
    picked: tuple[int, ...] = ()
    details: tuple[str, ...] = ()


def _real(array: NDArray[Any], what: str) -> NDArray[np.float64]:
    array = np.asarray(array)
    if array.dtype.kind == "c" or array.dtype.kind in "OSUMmV":
        raise UsageError("report.dtype", f"{what} must be real numbers, not {array.dtype}")
    return array.astype(np.float64)


def _misfit(sample: Sample, panel: Panel) -> UsageError:
    return UsageError(
        "report.shape",
        f"the attribution of '{clean(panel.method, 60)}' has shape {panel.attribution.shape}, which can't be "
        f"laid over the sample '{clean(sample.name, 60)}' of shape {sample.values.shape} ({sample.kind})",
        "pass one sample's map without the batch axis",
    )


def _over_channels(values: NDArray[np.float64], axis: int, signed: bool) -> tuple[NDArray[np.float64], str]:
    """Channels summed for signed maps, their largest value for others, and the sentence."""
    count = values.shape[axis]
    if count == 1:
        return values.squeeze(axis), ""
    with np.errstate(invalid="ignore", over="ignore"):
        if signed:
            return values.sum(axis=axis), f"summed over {count} channels"
        return values.max(axis=axis), f"largest of {count} channels"


def _channel_axis(sample: Sample, shape: tuple[int, ...]) -> int:
    if sample.layout in {"CHW", "HWC"}:
        return 0 if sample.layout == "CHW" else 2
    if sample.image is not None:
        sides = sample.image.shape[:2]
        if shape[1:] == sides:
            return 0
        if shape[:2] == sides:
            return 2
    return 0 if shape[0] <= shape[2] else 2


def image_map(sample: Sample, panel: Panel) -> Drawable:
    """The (H, W) map of an image: channels summed (signed) or their largest value (unsigned)."""
    values = _real(panel.attribution, "an attribution")
    if 0 in values.shape or values.ndim not in {2, 3}:
        raise _misfit(sample, panel)
    note = ""
    if values.ndim == 3:
        values, note = _over_channels(values, _channel_axis(sample, values.shape), panel.signed)
    return Drawable(values, notes=(note,) if note else ())


def grey_picture(sample: Sample) -> NDArray[np.uint8]:
    """A picture for an image sample that has none: the mean over channels, lowest black, highest white."""
    values = _real(sample.values, "image values")
    if 0 in values.shape or values.ndim not in {2, 3}:
        raise UsageError("report.shape", f"an image sample needs 2 or 3 axes, not shape {values.shape}")
    if values.ndim == 3:
        values = values.mean(axis=_channel_axis(sample, values.shape))
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    grey = np.round(255 * (values - low) / (high - low)) if high > low else np.full_like(values, 128)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _per_element(sample: Sample, panel: Panel) -> NDArray[np.float64]:
    """Relevance of every element of the sample, flat: broadcast where the map is coarser."""
    values = _real(panel.attribution, "an attribution")
    shape = sample.values.shape
    if values.size != sample.values.size:
        if not _broadcasts(values.shape, shape):
            raise _misfit(sample, panel)
        values = np.broadcast_to(values, shape)
    return values.ravel()


def feature_bars(sample: Sample, panel: Panel, most: int = MOST_BARS) -> Drawable:
    """The ``most`` features of largest |relevance|, largest first; ties by position, not finite last.

    Features without a name are numbered from 0.
    """
    values = _per_element(sample, panel)
    size = np.where(np.isfinite(values), np.abs(values), -1.0)
    order = np.argsort(-size, kind="stable")
    listed, omitted = order[:most], order[most:]
    inputs = np.asarray(sample.values).ravel()
    labels = tuple(_name(sample, int(i), "feature") for i in listed)
    details = tuple(f"= {value_text(inputs[i], 24)}" for i in listed)
    with np.errstate(invalid="ignore", over="ignore"):
        rest = (len(omitted), float(values[omitted].sum()) if omitted.size else 0.0)
    notes = (f"{len(omitted)} smaller features, together {number(rest[1])}",) if omitted.size else ()
    return Drawable(values[listed], labels, notes, rest, tuple(int(i) for i in listed), details)


def _name(sample: Sample, position: int, kind: str) -> str:
    known = position < len(sample.feature_names)
    return (clean(sample.feature_names[position], 60) if known else "") or f"{kind} {position}"


def channels_first(sample: Sample) -> tuple[NDArray[np.float64], bool]:
    """The values of a series as (C, T), and whether they had to be transposed."""
    values = _real(sample.values, "a series")
    if values.ndim > 2:
        values = values.reshape([side for side in values.shape if side != 1] or [1])
    if values.ndim > 2 or not values.size:
        raise UsageError("report.shape", f"a series needs 1 or 2 axes, not shape {sample.values.shape}")
    if values.ndim < 2:
        return values.reshape(1, -1), False
    turned = sample.layout == "TC" or (sample.layout is None and values.shape[0] > values.shape[1])
    return (values.T if turned else values), turned


def series_map(sample: Sample, panel: Panel, most: int = MOST_CURVES) -> Drawable:
    """Relevance (C, T) of a series, the ``most`` channels of largest total |relevance| in their own order."""
    curves, turned = channels_first(sample)
    values = _real(panel.attribution, "an attribution")
    squeezed = values.reshape([side for side in values.shape if side != 1] or [1])
    for candidate in (values, squeezed):
        flat = candidate.T if turned and candidate.ndim == 2 else candidate
        if _broadcasts(flat.shape, curves.shape):
            values = np.broadcast_to(flat, curves.shape)
            break
    else:
        raise _misfit(sample, panel)
    count = len(curves)
    size = np.abs(np.nan_to_num(values, posinf=0.0, neginf=0.0)).sum(axis=1)
    picked = tuple(sorted(int(i) for i in np.argsort(-size, kind="stable")[:most]))
    notes = (f"the {most} most relevant of {count} channels",) if count > most else ()
    labels = tuple(_name(sample, i, "channel") for i in picked) if count > 1 or sample.feature_names else ("",)
    return Drawable(values[list(picked)], labels, notes, picked=picked)


def _broadcasts(shape: tuple[int, ...], goal: tuple[int, ...]) -> bool:
    if len(shape) > len(goal):
        return False
    padded = (1,) * (len(goal) - len(shape)) + shape
    return all(side in {1, wanted} for side, wanted in zip(padded, goal, strict=True))


def token_map(sample: Sample, panel: Panel, most: int = MOST_TOKENS) -> Drawable:
    """Relevance of the first ``most`` tokens: a map over (tokens, width) is summed over its width."""
    values = _real(panel.attribution, "an attribution")
    count = len(sample.feature_names) or sample.values.size
    while values.ndim > 1 and values.shape[0] == 1:
        values = values[0]
    if values.ndim > 1 and values.shape[0] == count:
        with np.errstate(invalid="ignore", over="ignore"):
            values = values.reshape(count, -1).sum(axis=1)
    if values.ndim != 1 or len(values) != count:
        raise _misfit(sample, panel)
    ids = np.asarray(sample.values).ravel()
    names = sample.feature_names[:most] or [value_text(each, 24) for each in ids[:most]]
    labels = tuple(clean(name, 60) or "␣" for name in names)
    if count <= most:
        return Drawable(values, labels)
    with np.errstate(invalid="ignore", over="ignore"):
        rest = (count - most, float(values[most:].sum()))
    return Drawable(values[:most], labels, (f"the first {most} of {count} tokens, the others {number(rest[1])}",), rest)


def tensor_map(array: NDArray[Any], most: int = MOST_ROWS) -> Drawable:
    """Any array as a matrix: the last axis across, all others down, at most ``most`` rows and 4 × that
    columns.

    Where rows or columns have to be joined, each group is drawn as its value of largest size.
    """
    values = _real(array, "an attribution")
    if not values.size:
        raise UsageError("report.shape", f"nothing to draw: the array has shape {values.shape}")
    matrix = values.reshape(-1, values.shape[-1]) if values.ndim else values.reshape(1, 1)
    notes: list[str] = []
    for axis, name in ((0, "rows"), (1, "columns")):
        limit = most * (1 + 3 * axis)
        group = -(-matrix.shape[axis] // limit)
        if group > 1:
            notes.append(f"groups of {group} {name} drawn as one: the value of largest size")
            matrix = strongest(matrix, group, axis)
    return Drawable(matrix, notes=tuple(notes))


def strongest(values: NDArray[np.float64], group: int, axis: int) -> NDArray[np.float64]:
    """Every ``group`` neighbours along ``axis`` as the one of largest size; the last group may be shorter."""
    values_last = np.moveaxis(values, axis, -1)
    short = -values_last.shape[-1] % group
    padded = np.concatenate([values_last, np.full((*values_last.shape[:-1], short), np.nan)], axis=-1)
    blocks = padded.reshape(*values_last.shape[:-1], -1, group)
    best = np.argmax(np.nan_to_num(np.abs(blocks), nan=-1.0, posinf=-1.0), axis=-1)
    chosen = np.take_along_axis(blocks, best[..., None], axis=-1)[..., 0]
    return np.asarray(np.moveaxis(chosen, -1, axis))
