"""Where an input's spatial axes are: masks and maps lie along them, and channels share them.

Belongs here: shapes of masks and maps of one input. Not here: finding the axes (``OnnxModel.spatial_axes``),
resampling along them (``analyzer.inputs.resampling``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.onnx_model import OnnxModel

Array = NDArray[Any]


@dataclass(frozen=True)
class SpatialLayout:
    """The axes of an input (batch, …) of some shape.

    Attributes
    ----------
    axes
        Those that are neither batch nor channels; of an input of rank 2 its columns.
    channels
        The axis of the channels; None where there is none.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    channels: int | None

    @classmethod
    def of(cls, model: OnnxModel, name: str, shape: tuple[int, ...]) -> SpatialLayout:
        """The layout of a model's input of this shape, as its preprocessing or graph says, or the sizes suggest."""
        axes = model.axes(name, shape)
        return cls(shape, axes.places, None if axes.channels in axes.places else axes.channels)

    @property
    def sides(self) -> tuple[int, ...]:
        """Lengths of the spatial axes."""
        return tuple(self.shape[axis] for axis in self.axes)

    @property
    def sample_axes(self) -> tuple[int, ...]:
        """The spatial axes of one sample, without the batch."""
        return tuple(axis - 1 for axis in self.axes)

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """Of a mask that is broadcast to one sample: 1 along the channels."""
        return tuple(side if axis in self.axes else 1 for axis, side in enumerate(self.shape[1:], 1))

    def shared(self, maps: Array) -> Array:
        """Maps (batch, *spatial) as float32 of the input's rank: 1 along the channels, which share them."""
        return (maps if self.channels is None else np.expand_dims(maps, self.channels)).astype(np.float32)
