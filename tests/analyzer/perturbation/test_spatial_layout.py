"""Masks and maps have the shapes that inputs of every layout need."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analyzer.inputs.layout import axes_of
from analyzer.perturbation.spatial_layout import SpatialLayout

MODEL: Any = SimpleNamespace(axes=lambda _, shape: axes_of(shape, None))


@pytest.mark.parametrize(
    ("shape", "sides", "channels"),
    [
        ((2, 7), (7,), None),  # columns, words
        ((2, 3, 40), (40,), 1),  # a series
        ((2, 40, 3), (40,), 2),
        ((2, 3, 10, 12), (10, 12), 1),
        ((2, 10, 12, 3), (10, 12), 3),
        ((2, 3, 4, 10, 12), (4, 10, 12), 1),
    ],
)
def test_masks_and_maps_share_the_channels(
    shape: tuple[int, ...], sides: tuple[int, ...], channels: int | None
) -> None:
    layout = SpatialLayout.of(MODEL, "x", shape)
    assert (layout.sides, layout.channels) == (sides, channels)
    assert tuple(shape[1:][axis] for axis in layout.sample_axes) == sides
    maps = layout.shared(np.arange(2.0 * np.prod(sides)).reshape(2, *sides))
    assert maps.dtype == np.float32
    assert maps.shape == (2, *layout.mask_shape)
    assert np.broadcast_shapes(maps.shape, shape) == shape
    np.testing.assert_array_equal(maps.ravel(), np.arange(2 * np.prod(sides)))
