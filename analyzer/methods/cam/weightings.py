"""Class activation maps weighted by the results of one forward and reverse pass: Grad-CAM++, LayerCAM, HiResCAM, XGrad-CAM,
Eigen-CAM.

Belongs here: formulas on a layer's activations ``A`` and the score's derivatives ``g`` by them, both
(batch, channels, *spatial). Not here: reading them (``cam``), maps that run the model again (``score_cam``,
``ablation_cam``).
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from analyzer.engines.protocol import FeatureMap
from analyzer.errors import UsageError
from analyzer.methods.cam.grad_cam import Layer, Rectify, as_result, feature_map, summed, wide
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.registry import method

Epsilon = Annotated[float, "stabiliser of the quotient, at least 0"]
_PLACED = ("image", "series")


@method(
    "grad-cam++", "CAM", compilable=True, signed=False, modalities=_PLACED,
    source="Chattopadhay et al. 2018, Grad-CAM++, eq. 5, 7 and 19",
)  # fmt: skip
def grad_cam_plus_plus(
    context: Context, *, layer: Layer = "auto", relu: Rectify = True, epsilon: Epsilon = 1e-6
) -> Result:
    """Feature maps weighted by positive gradients, each position by its share of the second derivative.

    Of exp(score), behind which only ReLUs and linear nodes lie, the derivatives are exp(score) times powers of g: the
    shares are a = g^2 / (2 g^2 + g^3 sum(A) + epsilon), 0 where g is 0, the weights sum(a relu(g)). The factor
    exp(score), common to all positions, is left out. Gradients far below sqrt(epsilon) are damped: lower it for them.
    """
    found = feature_map(context, layer)
    values, gradients = wide(context, found)
    _check(epsilon)
    xp = context.xp
    total = xp.sum(values, axis=found.spatial, keepdims=True)
    below = 2 * gradients**2 + gradients**3 * total + epsilon
    shares = _quotient(xp, gradients**2, xp.where(gradients == 0, 0 * below, below))
    weights = xp.sum(shares * xp.clip(gradients, 0, None), axis=found.spatial, keepdims=True)
    return _result(context, found, weights * values, relu)


@method(
    "layer-cam", "CAM", compilable=True, signed=False, modalities=_PLACED,
    source="Jiang et al. 2021, LayerCAM: exploring hierarchical class activation maps, eq. 5 and 6",
)  # fmt: skip
def layer_cam(context: Context, *, layer: Layer = "auto", relu: Rectify = True) -> Result:
    """Feature maps times their positive gradients, position by position; also suits early layers."""
    found = feature_map(context, layer)
    return _result(context, found, context.xp.clip(found.gradients, 0, None) * found.values, relu)


@method(
    "hires-cam", "CAM", compilable=True, signed=False, modalities=_PLACED,
    source="Draelos, Carin 2020, Use HiResCAM instead of Grad-CAM, eq. 3",
)  # fmt: skip
def hires_cam(context: Context, *, layer: Layer = "auto", relu: Rectify = True) -> Result:
    """Feature maps times their gradients, position by position: only positions that the score uses are highlighted."""
    found = feature_map(context, layer)
    return _result(context, found, found.gradients * found.values, relu)


@method(
    "xgrad-cam", "CAM", compilable=True, signed=False, modalities=_PLACED,
    source="Fu et al. 2020, Axiom-based Grad-CAM, eq. 8",
)  # fmt: skip
def xgrad_cam(context: Context, *, layer: Layer = "auto", relu: Rectify = True, epsilon: Epsilon = 1e-7) -> Result:
    """Feature maps weighted by the mean gradient, each position by its share of the activation.

    The weights are sum(g A) / S(sum(A)) with the stabiliser S(z) = z + epsilon sign(z).
    """
    found = feature_map(context, layer)
    values, gradients = wide(context, found)
    _check(epsilon)
    xp = context.xp
    total = xp.sum(values, axis=found.spatial, keepdims=True)
    below = xp.where(total < 0, total - epsilon, total + epsilon)
    weights = _quotient(xp, xp.sum(gradients * values, axis=found.spatial, keepdims=True), below)
    return _result(context, found, weights * values, relu)


@method(
    "eigen-cam", "CAM", signed=False, modalities=_PLACED,
    source="Muhammad, Yeasin 2020, Eigen-CAM, eq. 2 and 3",
)  # fmt: skip
def eigen_cam(context: Context, *, layer: Layer = "auto", relu: Rectify = True) -> Result:
    """First principal component of the feature maps; the same for every target.

    Each position is a vector of channels; the centred vectors are projected on their first right singular vector. Its sign
    is free: it is chosen so that the map grows with the mean activation.
    """
    found = feature_map(context, layer)
    values, _ = wide(context, found)
    return _result(context, found, np.stack([_first_component(sample) for sample in values])[:, None], relu)


def _first_component(sample: Array) -> Array:
    """Centred activations (channels, *spatial) along their first principal axis, shape ``spatial``."""
    vectors = sample.reshape(len(sample), -1).T
    centred = vectors - vectors.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    found = centred @ axis
    return np.asarray(found if found @ centred.mean(axis=1) >= 0 else -found).reshape(sample.shape[1:])


def _quotient(xp: Any, above: Array, below: Array) -> Array:
    """above / below, 0 where below is."""
    none = below == 0
    found: Array = xp.where(none, 0 * above, above / xp.where(none, 0 * below + 1, below))
    return found


def _result(context: Context, found: FeatureMap, weighted: Array, relu: bool) -> Result:
    return as_result(context, found, summed(context, found, weighted), relu)


def _check(epsilon: float) -> None:
    if not epsilon >= 0:
        raise UsageError("params.invalid", f"epsilon must be at least 0, not {epsilon:g}", "1e-6 is usual")
