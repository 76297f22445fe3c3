"""Guided Grad-CAM: guided backpropagation where Grad-CAM looks."""

from __future__ import annotations

from typing import Annotated, Literal

from analyzer.engines.protocol import GUIDED_BACKPROP
from analyzer.errors import UnsupportedError
from analyzer.methods.cam.at_input import at_input
from analyzer.methods.cam.grad_cam import Layer, Rectify, feature_map, grad_cam_of
from analyzer.methods.context import Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method


@method(
    "guided-grad-cam",
    "CAM",
    compilable=True,
    modalities=("image", "series"),
    source="Selvaraju et al. 2017, Grad-CAM, section 3.2",
)
def guided_grad_cam(
    context: Context,
    *,
    layer: Layer = "auto",
    relu: Rectify = True,
    interpolate: Annotated[Literal["bilinear", "nearest"], "how the Grad-CAM map is resampled"] = "bilinear",
) -> Result:
    """Guided backpropagation times the Grad-CAM map at the input's resolution."""
    found = feature_map(context, layer)
    raw = grad_cam_of(context, found)
    raw = context.xp.clip(raw, 0, None) if relu else raw
    name = context.engine.explained[0].name
    resized = at_input(context, name, raw, "nearest" if interpolate == "nearest" else "linear")
    if resized is None:
        raise UnsupportedError(
            "method.unsuitable",
            f"the map at {found.name!r} has other axes than input {name!r} of shape {list(context.inputs[name].shape)}",
            "use guided-backprop, or grad-cam",
        )
    guided = context.engine.sweep(GUIDED_BACKPROP).relevance[name]
    weight = resized.reshape((*resized.shape, *[1] * (guided.ndim - resized.ndim)))  # an embedding is wider than tokens
    return per_input(context, {name: guided * weight}, record={"layer": found.name})
