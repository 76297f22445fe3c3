"""Resampling along axes in numpy, equal to torch's ``interpolate``.

Belongs here: the arithmetic, for maps and as a matrix. Not here: where an input's spatial axes are (``layout``), resizing of
8-bit pictures with an antialiasing filter (``geometry``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: Linear between the centres of the elements, linear with the corner elements aligned, or the nearest element.
Resampling = Literal["linear", "corners", "nearest"]


def resample(map_: Array, size: Sequence[int], how: Resampling = "linear") -> Array:
    """Maps (batch, channels, *spatial) resampled to another spatial size, in their element type.

    Parameters
    ----------
    how
        ``linear`` between the elements' centres, ``corners`` the same with the corner elements aligned
        (``align_corners`` in torch), ``nearest``. Nothing is smoothed where maps are made smaller.
    """
    found = np.asarray(map_)
    for axis, want in enumerate(size, start=2):
        have = found.shape[axis]
        if how == "nearest":
            positions = np.floor(np.arange(want, dtype=np.float32) * np.float32(have / want)).astype(int)
            found = found.take(np.minimum(positions, have - 1), axis)
        elif have != want:
            low, high, share = _between(have, want, how)
            share = share.reshape(-1, *[1] * (found.ndim - axis - 1))
            found = found.take(low, axis) * (1 - share) + found.take(high, axis) * share
    return np.ascontiguousarray(found, map_.dtype)


def interpolation_matrix(have: int, want: int) -> Array:
    """The matrix (want, have) of ``linear`` resampling along one axis."""
    low, high, share = _between(have, want, "linear")
    matrix, rows = np.zeros((want, have)), np.arange(want)
    matrix[rows, low] = 1 - share
    matrix[rows, high] += share  # at the last element both neighbours are the same
    return matrix


def _between(have: int, want: int, how: Resampling) -> tuple[Array, Array, Array]:
    """For every new element the two old ones that it lies between, and the share of the second."""
    steps = np.arange(want)
    at = (
        steps * ((have - 1) / (want - 1) if want > 1 else 0.0)
        if how == "corners"
        else (steps + 0.5) * have / want - 0.5
    )
    at = np.clip(at, 0, have - 1)
    low = np.minimum(at.astype(int), have - 1)
    return low, np.minimum(low + 1, have - 1), at - low
