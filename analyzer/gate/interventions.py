"""What an input would be without what lies in a region, or with something else there, and what the model says to it.

Belongs here: inputs that are changed inside a region, probabilities of classes. Not here: the regions (``regions``), statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analyzer.data.reading import feed_of, read_file
from analyzer.errors import InputError, UnsupportedError, UsageError
from analyzer.gate.outcome import Array
from analyzer.inputs.inpainting import inpaint
from analyzer.model import Model
from analyzer.targets.resolve import scored_value

Feed = Mapping[str, Array]


def widened(model: Model, name: str, shape: tuple[int, ...], region: Array) -> Array:
    """A region over an input's places as a mask of one sample's rank, 1 along channels."""
    places = model.axes(name, shape).places
    return region.reshape([shape[axis] if axis in places else 1 for axis in range(1, len(shape))])


def without(model: Model, feed: Feed, name: str, region: Array) -> dict[str, Array]:
    """One sample, a batch of one, with the region filled smoothly from what surrounds it.

    Raises
    ------
    UnsupportedError
        ``gate.intervention`` for an input of whole numbers, which has nothing between its values.
    """
    x = np.asarray(feed[name])
    if x.dtype.kind != "f":
        raise UnsupportedError(
            "gate.intervention", f"input {name!r} holds {x.dtype}, which can't be filled smoothly", "paste a patch"
        )
    places = model.axes(name, x.shape).places
    hole = widened(model, name, x.shape, region)
    return {**feed, name: inpaint(x[0], hole, [axis - 1 for axis in places])[None].astype(x.dtype)}


def pasted(model: Model, feed: Feed, name: str, region: Array, patch: Array) -> dict[str, Array] | None:
    """One sample with the patch's values inside the region; None where it has them already.

    Raises
    ------
    UsageError
        ``config.gate`` where the two have different shapes.
    """
    x = np.asarray(feed[name])
    if patch.shape != x.shape:
        raise UsageError(
            "config.gate",
            f"the patch has shape {list(patch.shape)}, an input has {list(x.shape)}",
            "give one of its size",
        )
    changed = np.where(widened(model, name, x.shape, region)[None], patch, x).astype(x.dtype)
    return None if np.array_equal(changed, x) else {**feed, name: changed}


def read_patch(model: Model, path: Path, name: str, check: str) -> Array:
    """An input whose values are pasted, a batch of one.

    Raises
    ------
    UsageError
        ``config.gate`` naming the check where it can't be read.
    """
    try:
        return np.asarray(feed_of(read_file(model, path, any_batch=True))[name])
    except (UsageError, InputError) as problem:
        raise UsageError("config.gate", f"check {check!r}: patch: {problem.message}", problem.hint) from None


def class_probabilities(model: Model, feed: Feed) -> Array:
    """The probability of every class, (samples, classes) float64: the model's own, or the softmax of its logits.

    Raises
    ------
    UnsupportedError
        ``gate.no_classes`` where its scores are no classes'.
    """
    scored = scored_value(model)
    scores = np.asarray(model.predict(dict(feed))[scored.output], np.float64)
    scores = scores.reshape(scores.shape[:2]) if scores.size == int(np.prod(scores.shape[:2])) else scores
    if scores.ndim != 2 or scored.kind == "value":
        raise UnsupportedError(
            "gate.no_classes", f"output {scored.output!r} of shape {list(scores.shape)} holds no probabilities of classes",
            "use a check that needs none",
        )  # fmt: skip
    if scored.squashed_by == "LogSoftmax":
        return np.exp(scores)
    if scored.kind == "probability" or scored.squashed_by is not None:
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
