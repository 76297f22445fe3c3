"""Class activation maps as tensor code over a sweep.

Belongs here: the weightings of ``analyzer.methods.cam.grad_cam``, ``cam_variants`` and ``guided_grad_cam`` that one forward and
reverse pass gives, in tensors. Not here: maps that need a decomposition (Eigen-CAM) or run the model again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from analyzer.compiler.recorded_sweep import SweepBench
from analyzer.errors import UnsupportedError
from analyzer.inputs.layout import channel_axis, spatial_axes
from graph_rules.composites import GRADIENT, GUIDED_BACKPROP

Params = dict[str, Any]
#: (activations, gradients, spatial axes, parameters) -> channels' contributions, which are then summed.
Weighting = Callable[[Tensor, Tensor, tuple[int, ...], Params], Tensor]
Recipe = Callable[[SweepBench, Params], dict[str, Tensor]]


def _summed(a: Tensor, g: Tensor, places: tuple[int, ...], params: Params) -> Tensor:
    return g.sum(places, keepdim=True) * a


def _mean(a: Tensor, g: Tensor, places: tuple[int, ...], params: Params) -> Tensor:
    return g.mean(places, keepdim=True) * a


def _positive(a: Tensor, g: Tensor, places: tuple[int, ...], params: Params) -> Tensor:
    return g.double().clamp(min=0) * a.double()


def _by_place(a: Tensor, g: Tensor, places: tuple[int, ...], params: Params) -> Tensor:
    return g.double() * a.double()


def _by_share(a: Tensor, g: Tensor, places: tuple[int, ...], params: Params) -> Tensor:
    """Grad-CAM++: positive gradients, each place by its share of the second derivative."""
    a, g = a.double(), g.double()
    below = 2 * g * g + g * g * g * a.sum(places, keepdim=True) + params["epsilon"]
    shares = torch.where(g == 0, torch.zeros_like(g), _quotient(g * g, below))
    return (shares * g.clamp(min=0)).sum(places, keepdim=True) * a


def _by_activation(a: Tensor, g: Tensor, places: tuple[int, ...], params: Params) -> Tensor:
    """XGrad-CAM: gradients weighted by each place's share of the activation."""
    a, g = a.double(), g.double()
    total = a.sum(places, keepdim=True)
    below = torch.where(total < 0, total - params["epsilon"], total + params["epsilon"])
    return _quotient((g * a).sum(places, keepdim=True), below) * a


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """above / below, 0 where below is."""
    zero = below == 0
    return torch.where(zero, torch.zeros_like(above), above / torch.where(zero, torch.ones_like(below), below))


def _recipe(weighting: Weighting) -> Recipe:
    def record(bench: SweepBench, params: Params) -> dict[str, Tensor]:
        return {bench.engine.sources[0].name: _map(bench, weighting, params)}

    return record


def _map(bench: SweepBench, weighting: Weighting, params: Params) -> Tensor:
    node = bench.engine.feature_layer(params["layer"])[1]
    relevance, values, _ = bench.sweep(GRADIENT, at=[("layer", node)])
    gradients, activations = relevance["layer"], values["layer"]
    weighted = weighting(activations, gradients, tuple(range(2, gradients.ndim)), params)
    raw = weighted.sum(1, keepdim=True).to(activations.dtype)
    return raw.clamp(min=0) if params["relu"] else raw


def _guided(bench: SweepBench, params: Params) -> dict[str, Tensor]:
    """Guided backpropagation times the Grad-CAM map at the input's resolution."""
    engine = bench.engine
    source, model = engine.sources[0], engine.model
    raw = _map(bench, _mean, params)
    shape = engine.inputs[source.name].shape
    axes = spatial_axes(shape, model.preprocess)
    if len(axes) != raw.ndim - 2 or source.tokens or len(shape) == 2:
        raise UnsupportedError(
            "compile.method", "guided-grad-cam can be compiled for inputs with channels only", "use grad-cam"
        )
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(axes)]
    nearest = params["interpolate"] == "nearest"
    resized = torch.nn.functional.interpolate(
        raw,
        [shape[axis] for axis in axes],
        mode="nearest" if nearest else linear,
        align_corners=None if nearest else False,
    )
    guided = bench.sweep(GUIDED_BACKPROP)[0][source.name]
    return {source.name: guided * resized.movedim(1, channel_axis(shape, model.preprocess))}


CAMS: dict[str, Recipe] = {
    "cam": _recipe(_summed),
    "grad-cam": _recipe(_mean),
    "grad-cam++": _recipe(_by_share),
    "layer-cam": _recipe(_positive),
    "hires-cam": _recipe(_by_place),
    "xgrad-cam": _recipe(_by_activation),
    "guided-grad-cam": _guided,
}
