"""Score-CAM: feature maps weighted by the score of the input seen through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from analyzer.errors import UnsupportedError
from analyzer.methods.cam.at_input import at_input, mapped_inputs
from analyzer.methods.cam.grad_cam import Layer, Rectify, as_result, feature_map, summed
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.registry import method

if TYPE_CHECKING:
    from analyzer.methods.static_context import StaticContext

#: Channels whose masks are held at once.
_TOGETHER = 32
#: Below this share of a channel's largest value its differences are rounding errors of the resampling.
_EVEN = 1e-6


def _cannot_mask(layer: str, name: str, value: Array) -> UnsupportedError:
    return UnsupportedError(
        "method.unsuitable",
        f"score-cam can't mask input {name!r} of shape {list(value.shape)} with maps of layer {layer!r}",
        "use grad-cam or ablation-cam",
    )


def _masks_an_input(static: StaticContext) -> None:
    names = static.mapped_inputs()
    name = next(iter(names), static.layer.inputs[0])
    value = static.evaluator.inputs[name]
    if value.dtype.kind != "f" or not names:
        raise _cannot_mask(static.layer.name, name, value)


@method(
    "score-cam", "CAM", signed=False, modalities=("image", "series"), fits=_masks_an_input,
    source="Wang et al. 2020, Score-CAM: score-weighted visual explanations, algorithm 1",
)  # fmt: skip
def score_cam(context: Context, *, layer: Layer = "auto", relu: Rectify = True) -> Result:
    """Feature maps weighted by the score of the input masked with each; no gradients.

    A channel's map, brought to the input's resolution (linearly, corners aligned) and scaled to [0, 1], multiplies the
    input. The weights are the softmax over the channels of the scores; subtracting a reference score from all of them, as
    in the paper, wouldn't change the softmax.
    """
    found = feature_map(context, layer)
    names, count = mapped_inputs(context, found), found.values.shape[1]
    name = next(iter(names), found.inputs[0])
    value = context.inputs[name]
    if value.dtype.kind != "f" or not names:
        raise _cannot_mask(found.name, name, value)
    scores, masked = np.empty((len(value), count)), context.changing(name)
    for sample, x in enumerate(value):
        copies = (x * mask for mask in _masks(context, name, found.values[sample]))
        for channel, score in enumerate(masked.evaluate(sample, copies)):
            scores[sample, channel] = score
            context.advance(sample * count + channel + 1, scores.size)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    weighted = weights.reshape(*weights.shape, *[1] * len(found.spatial)) * found.values
    result = as_result(context, found, summed(context, found, weighted), relu)
    result.record["evaluations"] = scores.size
    context.masks = masked.masks
    if len(names) > 1:
        result.notes.append(f"only input {name!r} was masked")
    return result


def _masks(context: Context, name: str, maps: Array) -> Iterator[Array]:
    """Masks in [0, 1], broadcastable to a sample of the input; zeros for a channel that is even."""
    for first in range(0, len(maps), _TOGETHER):
        part = maps[first : first + _TOGETHER, None].astype(np.result_type(maps.dtype, np.float32))
        resized = at_input(context, name, part, "corners")
        assert resized is not None
        for mask in resized:
            span = np.ptp(mask)
            even = span <= _EVEN * np.abs(mask).max()
            yield np.zeros_like(mask) if even else (mask - mask.min()) / span
