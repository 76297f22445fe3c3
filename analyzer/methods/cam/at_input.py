"""A class activation map brought from its layer's resolution to the input's.

Belongs here: that one step, and which inputs a layer's map belongs to. Not here: the maps (the methods), how an engine
resamples (``analyzer.engines``), which axes are spatial (``OnnxModel``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyzer.inputs.resampling import Resampling

if TYPE_CHECKING:
    from analyzer.engines.protocol import FeatureMap
    from analyzer.methods.context import Array, Context


def mapped_inputs(context: Context, found: FeatureMap) -> list[str]:
    """The inputs that a layer's map is of: those that it depends on and as many spatial axes as it has."""
    shapes = {name: context.inputs[name].shape for name in found.inputs}
    model, rank = context.model, len(found.spatial)
    return [name for name, shape in shapes.items() if len(model.axes(name, shape).places) == rank]


def at_input(context: Context, name: str, raw: Array, how: Resampling = "linear") -> Array | None:
    """A map (batch, 1, *spatial) at the resolution of an input, broadcastable to it; None where their ranks differ."""
    shape = context.inputs[name].shape
    axes = context.model.axes(name, shape)
    if len(axes.places) != raw.ndim - 2:
        return None
    resized = context.engine.resample(raw, [shape[axis] for axis in axes.places], how)
    if axes.channels is None or axes.channels in axes.places:
        return resized.reshape((len(raw), *[shape[axis] for axis in axes.places]))
    moved: Array = context.xp.moveaxis(resized, 1, axes.channels)
    return moved
