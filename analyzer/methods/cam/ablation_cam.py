"""Ablation-CAM: feature maps weighted by the drop of the score without them."""

from __future__ import annotations

import numpy as np

from analyzer.engines.protocol import FeatureMap
from analyzer.methods.cam.grad_cam import Layer, Rectify, as_result, feature_map, summed
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.registry import method


@method(
    "ablation-cam", "CAM", signed=False, modalities=("image", "series"),
    source="Desai, Ramaswamy 2020, Ablation-CAM, eq. 1 and 2",
)  # fmt: skip
def ablation_cam(context: Context, *, layer: Layer = "auto", relu: Rectify = True) -> Result:
    """Feature maps weighted by the relative drop of the score when each is set to zero; no gradients.

    The drop is taken relative to the score's absolute value, so that channels that speak for the target count
    positively also where its score is negative. What lies before the layer is run once.
    """
    found = feature_map(context, layer)
    drops = found.score[:, None] - _scores_without(context, found, layer)
    size = np.abs(found.score)[:, None]
    weights = drops / np.where(size > 0, size, 1)
    weighted = weights.reshape(*weights.shape, *[1] * len(found.spatial)) * found.values
    result = as_result(context, found, summed(context, found, weighted), relu)
    result.record["evaluations"] = drops.size
    return result


def _scores_without(context: Context, found: FeatureMap, layer: str) -> Array:
    """Scores (batch, channels) with one channel each set to zero; several channels are run as one larger batch."""
    batch, count = found.values.shape[:2]
    rounds = -(-count // context.engine.chunk())
    together = -(-count // rounds)  # the last round repeats channels rather than being traced for itself
    scores = np.empty((batch, count))
    for first in range(0, count, together):
        channels = np.minimum(np.arange(first, first + together), count - 1)
        copies = np.repeat(found.values[None], together, axis=0)
        copies[np.arange(together), :, channels] = 0
        found_scores = context.engine.scores_with_layer(layer, copies.reshape(-1, *found.values.shape[1:]))
        scores[:, channels] = found_scores.reshape(together, batch).T
        context.advance(batch * min(first + together, count), batch * count)
    return scores
