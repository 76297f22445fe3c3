"""Pixel-flipping as something to look at: the pictures of an input that loses its units, with their scores.

Belongs here: one input's copies as pictures. Not here: the metric (``metrics.pixel_flipping``), drawing (``analyzer.report``).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from analyzer.errors import UnsupportedError
from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.evaluate import same_input
from analyzer.evaluation.flipping import Order, first_of, ranking, step_counts
from analyzer.evaluation.measure import Array
from analyzer.explanation import Explanation
from analyzer.inputs import array_picture
from analyzer.inputs.reading import shown_by
from analyzer.model import Model
from analyzer.report.animation import Flipping


def flipping_frames(
    model: Model,
    x: Array | dict[str, Array],
    explanation: Explanation,
    sample: int = 0,
    *,
    steps: int = 16,
    order: Order = "morf",
    fill: Any = "mean",
    size: int = 1,
    most: float = 1.0,
    seed: int = 0,
) -> Flipping:
    """One input of a batch while units are taken away, as the metric ``pixel-flipping`` does with the same parameters.

    Raises
    ------
    UnsupportedError
        ``flipping.no_picture`` where the first explained input is no picture.
    """
    feed = same_input(model, x, explanation)
    context = MetricContext(model, explanation, feed, {}, seed)
    name = next(iter(explanation.attributions))
    layout = _layout(model, name, feed[name])
    units, rng = context.units(sample, size), context.generator(sample)
    counts = step_counts(units.count, steps, most)
    present = ~first_of(ranking(units, rng, order), counts)
    replacements = context.replacements(fill)
    scores = context.scores(sample, units, present, replacements)
    copies = context.copies(sample, units, present, replacements)[name]
    pictures = _pictures(copies, layout, model)
    title = f"{explanation.method}, {explanation.target[sample]}"
    return Flipping(title, pictures, counts / units.count, scores, explanation.score_kind)


def _layout(model: Model, name: str, value: Array) -> Literal["CHW", "HWC"]:
    axes = model.axes(name, value.shape)
    if value.ndim == 4 and len(axes.places) == 2 and axes.channels in (1, 3):
        channels = value.shape[axes.channels]
        if channels in (1, 3):
            return "CHW" if axes.channels == 1 else "HWC"
    raise UnsupportedError(
        "flipping.no_picture", f"input {name!r} is no picture: there is nothing to animate", "see the curve instead"
    )


def _pictures(copies: Array, layout: Literal["CHW", "HWC"], model: Model) -> Array:
    """Copies as pictures; where no preprocessing tells how, all of them are stretched like the whole one."""
    if model.preprocess is not None:
        how = shown_by(model.preprocess, copies.shape, copies.dtype)
        return np.stack([array_picture(copy, layout, how)[0] for copy in copies])
    values = np.asarray(copies if layout == "HWC" else np.moveaxis(copies, 1, -1), np.float64)
    low, high = float(values[0].min()), float(values[0].max())
    scaled = np.clip((values - low) / (high - low) if high > low else values * 0 + 0.5, 0, 1)
    return np.ascontiguousarray(np.broadcast_to(np.rint(scaled * 255), (*scaled.shape[:3], 3))).astype(np.uint8)
