"""Guided Grad-CAM: guided backpropagation where Grad-CAM looks."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from analyzer.errors import UnsupportedError
from analyzer.methods.cam import Layer, Rectify, feature_map, grad_cam_of
from analyzer.methods.context import Context, Result
from analyzer.methods.maps import at_input
from analyzer.methods.registry import method


@method(
    "guided-grad-cam", "CAM", modalities=("image", "series"), source="Selvaraju et al. 2017, Grad-CAM, section 3.2"
)
def guided_grad_cam(
    context: Context,
    *,
    layer: Layer = "auto",
    relu: Rectify = True,
    interpolate: Annotated[Literal["bilinear", "nearest"], "how the Grad-CAM map is resampled"] = "bilinear",
) -> Result:
    """Guided backpropagation times the Grad-CAM map at the input's resolution."""
    from graph_rules.composites import GUIDED_BACKPROP

    found = feature_map(context, layer)
    raw = grad_cam_of(found)
    name = context.engine.sources[0].name
    resized = at_input(
        context, name, np.maximum(raw, 0) if relu else raw, "nearest" if interpolate == "nearest" else "linear"
    )
    guided = context.engine.sweep(GUIDED_BACKPROP).relevance[name]
    if resized is None or resized.ndim != guided.ndim:
        raise UnsupportedError(
            "method.unsuitable",
            f"the map at {found.name!r} has other axes than input {name!r} of shape {list(guided.shape)}",
            "use guided-backprop, or grad-cam",
        )
    return Result({name: guided * resized}, record={"layer": found.name})
