"""Maps at a layer's resolution brought to the input's.

Belongs here: where an input's spatial axes are. Not here: the maps themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from analyzer.methods.context import Array

if TYPE_CHECKING:
    from analyzer.methods.context import Context
    from analyzer.onnx_model import OnnxModel

#: How maps are resampled: linearly between centres, linearly with the corners aligned, or the nearest place.
Resampling = Literal["linear", "corners", "nearest"]


def channel_axis(shape: Sequence[int], model: OnnxModel) -> int:
    """The channel axis of an input (batch, …): 1, or the last one.

    As the preprocessing says; else the last axis where it is as short as channels are (1, 3 or 4) and axis 1 isn't.
    """
    if model.preprocess is not None and len(shape) == 4:
        return len(shape) - 1 if model.preprocess.layout == "NHWC" else 1
    few = (1, 3, 4)
    if len(shape) == 3:
        return 2 if shape[2] <= 4 < shape[1] else 1
    return len(shape) - 1 if len(shape) > 3 and shape[-1] in few and shape[1] not in few else 1


def spatial_axes(shape: Sequence[int], model: OnnxModel) -> tuple[int, ...]:
    """The axes of an input that are neither batch nor channels; for rank 2 the columns."""
    if len(shape) <= 2:
        return tuple(range(1, len(shape)))
    channels = channel_axis(shape, model)
    return tuple(axis for axis in range(1, len(shape)) if axis != channels)


def at_input(context: Context, name: str, raw: Array, how: Resampling = "linear") -> Array | None:
    """A map (batch, 1, *spatial) at the input's resolution, broadcastable to it; None where they don't match."""
    shape = context.inputs[name].shape
    axes = spatial_axes(shape, context.model)
    if len(axes) != raw.ndim - 2:
        return None
    resized = context.engine.resample(raw, [shape[axis] for axis in axes], how)
    if len(shape) == 2:
        return resized.reshape((len(raw), -1))
    moved: Array = context.xp.moveaxis(resized, 1, channel_axis(shape, context.model))
    return moved
