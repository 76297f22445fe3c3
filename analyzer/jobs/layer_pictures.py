"""Pictures of one layer's values for one sample: feature maps, curves, or bars, by the axes that they have.

Belongs here: from values to what is drawn. Not here: drawing (``analyzer.report``), running the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.onnx_model import OnnxModel
from analyzer.report.picture_grid import MOST, draw_bars, draw_maps, draw_rows
from analyzer.visualization.channels import channel_axis
from analyzer.visualization.layers import Layer

Array = NDArray[Any]


def layer_picture(
    model: OnnxModel, layer: Layer, value: Array, batch: int | None, title: str
) -> NDArray[np.uint8] | None:
    """The picture of a layer's first sample, uint8 (height, width, 3); None for what is no number or empty.

    Channels with two axes of places are maps, with one curves, without any bars; the largest mean comes first. Further axes of
    places are averaged over.

    Parameters
    ----------
    value
        With its batch axis, if ``batch`` names one.
    """
    if value.dtype.kind not in "fiub" or not value.size:
        return None
    channel = channel_axis(model, layer.value, value.ndim)
    one = np.asarray(value, np.float64)
    channels = one if channel is None else np.moveaxis(one, channel, 0)
    if batch is not None and channel is not None and batch != channel:
        at = 1 + (batch if batch < channel else batch - 1)
        channels = np.take(channels, 0, at)
    elif batch is not None:
        channels = np.take(one, 0, batch)
    head = f"{title}: {layer.operator} {layer.value}"
    if channels.ndim < 2:
        return draw_bars(head, channels.reshape(-1), [f"{channels.size} units"])
    mean = _mean(channels)
    order = np.argsort(-mean, kind="stable")
    channels, labels = channels[order], [str(at) for at in order]
    notes = [f"channels by their mean activation, the largest first{_cut(len(order))}"]
    if channels.ndim == 2:
        return draw_rows(head, channels, [f"channel {name}" for name in labels], notes)
    if channels.ndim > 3:
        notes.append(f"mean over {channels.ndim - 3} further axes of places")
        channels = channels.reshape(len(channels), -1, *channels.shape[-2:]).mean(axis=1)
    size = f"{channels.shape[1]} × {channels.shape[2]} places"
    return draw_maps(head, channels, labels, [f"{size}; {notes[0]}", *notes[1:]])


def _mean(channels: Array) -> Array:
    flat = channels.reshape(len(channels), -1)
    known = np.isfinite(flat)
    found: Array = np.where(known, flat, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return found


def _cut(count: int) -> str:
    return f"; {MOST} of {count}" if count > MOST else ""
