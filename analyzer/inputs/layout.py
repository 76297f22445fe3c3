"""Which axes of a model's input hold channels and which are spatial.

Belongs here: reading of shapes (batch, …). Not here: declared shapes with free dimensions (``shapes``), resampling
(``resampling``), reading it from the graph (``graph_channels``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analyzer.inputs.schema import Preprocess


def channel_axis(shape: Sequence[int], preprocess: Preprocess | None, read: int | None = None) -> int:
    """The channel axis of an input (batch, …): 1, or the last one.

    By the preprocessing; else as ``read`` from the graph; else the last axis where it is as short as channels are (1, 3 or 4)
    and axis 1 isn't.
    """
    if preprocess is not None and len(shape) == 4:
        return len(shape) - 1 if preprocess.layout == "NHWC" else 1
    if read is not None and read < len(shape):
        return read
    few = (1, 3, 4)
    if len(shape) == 3:
        return 2 if shape[2] <= 4 < shape[1] else 1
    return len(shape) - 1 if len(shape) > 3 and shape[-1] in few and shape[1] not in few else 1


def spatial_axes(shape: Sequence[int], preprocess: Preprocess | None, read: int | None = None) -> tuple[int, ...]:
    """The axes of an input that are neither batch nor channels; for rank 2 the columns."""
    if len(shape) <= 2:
        return tuple(range(1, len(shape)))
    channels = channel_axis(shape, preprocess, read)
    return tuple(axis for axis in range(1, len(shape)) if axis != channels)
