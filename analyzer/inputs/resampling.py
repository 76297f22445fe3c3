"""Resampling of maps in numpy, place for place as torch does it.

Belongs here: interpolation along axes. Not here: which size a map is brought to (``maps``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from analyzer.engines.protocol import Array

if TYPE_CHECKING:
    from analyzer.inputs.layout import Resampling


def resample(map_: Array, size: Sequence[int], how: Resampling = "linear") -> Array:
    """Maps (batch, channels, *spatial) resampled to another spatial size, in their element type.

    Parameters
    ----------
    how
        ``linear`` between the places' centres, ``corners`` linear between the outermost centres put on the corners,
        ``nearest``. Nothing is smoothed where maps are made smaller.
    """
    found = np.asarray(map_)
    for axis, want in enumerate(size, start=2):
        have = found.shape[axis]
        if how == "nearest":
            places = np.floor(np.arange(want, dtype=np.float32) * np.float32(have / want)).astype(int)
            found = found.take(np.minimum(places, have - 1), axis)
        elif have != want:
            low, high, share = _between(have, want, how)
            share = share.reshape(-1, *[1] * (found.ndim - axis - 1))
            found = found.take(low, axis) * (1 - share) + found.take(high, axis) * share
    return np.ascontiguousarray(found, map_.dtype)


def _between(have: int, want: int, how: Resampling) -> tuple[Array, Array, Array]:
    """For every new place the two old ones that it lies between, and the share of the second."""
    steps = np.arange(want)
    at = (
        steps * ((have - 1) / (want - 1) if want > 1 else 0.0)
        if how == "corners"
        else (steps + 0.5) * have / want - 0.5
    )
    at = np.clip(at, 0, have - 1)
    low = np.minimum(at.astype(int), have - 1)
    return low, np.minimum(low + 1, have - 1), at - low
