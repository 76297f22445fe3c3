"""Guided Grad-CAM: guided backpropagation where Grad-CAM looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from analyzer.errors import UnsupportedError
from analyzer.methods.cam.at_input import at_input, mapped_inputs
from analyzer.methods.cam.grad_cam import Layer, Rectify, empty, feature_map, grad_cam_of
from analyzer.methods.context import Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.gradient.guided_backprop import Rectifiers, guided_table, unit_notes
from analyzer.methods.registry import method

if TYPE_CHECKING:
    from analyzer.methods.static_context import StaticContext


def _other_axes(layer: str, name: str, shape: Sequence[int]) -> UnsupportedError:
    return UnsupportedError(
        "method.unsuitable",
        f"the map at {layer!r} has other axes than input {name!r} of shape {list(shape)}",
        "use guided-backprop, or grad-cam",
    )


def _lies_over_an_input(static: StaticContext) -> None:
    if not static.mapped_inputs():
        first = static.layer.inputs[0]
        raise _other_axes(static.layer.name, first, static.evaluator.inputs[first].shape)


@method(
    "guided-grad-cam",
    "CAM",
    compilable=True,
    fits=_lies_over_an_input,
    modalities=("image", "series"),
    source="Selvaraju et al. 2017, Grad-CAM, section 3.2",
)
def guided_grad_cam(
    context: Context,
    *,
    layer: Layer = "auto",
    relu: Rectify = True,
    interpolate: Annotated[Literal["bilinear", "nearest"], "how the Grad-CAM map is resampled"] = "bilinear",
    rectifiers: Rectifiers = "relu",
) -> Result:
    """Guided backpropagation times the Grad-CAM map at the input's resolution."""
    found = feature_map(context, layer)
    raw = grad_cam_of(context, found)
    raw = context.xp.clip(raw, 0, None) if relu else raw
    names = mapped_inputs(context, found)
    if not names:
        name = found.inputs[0]
        raise _other_axes(found.name, name, context.inputs[name].shape)
    swept, maps = context.engine.sweep(guided_table(rectifiers)), {}
    guided = swept.relevance
    for name in names:
        weight = at_input(context, name, raw, "nearest" if interpolate == "nearest" else "linear")
        assert weight is not None
        wider = [1] * (guided[name].ndim - weight.ndim)  # an embedding is wider than tokens
        maps[name] = guided[name] * weight.reshape((*weight.shape, *wider))
    result = per_input(context, maps, record={"layer": found.name})
    result.notes += [*unit_notes(swept, rectifiers), *empty(context, found, raw, relu)]
    return result
