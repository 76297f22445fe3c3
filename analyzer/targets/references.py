"""Arrays and masks that a target names by their files.

Belongs here: reading them, and whether they fit an output. Not here: what is made of them (``language``, ``regions``,
``functional``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import AnalyzerError, UsageError
from analyzer.inputs import read_array
from analyzer.inputs.images import read_picture
from analyzer.inputs.resampling import resample

Array = NDArray[Any]


def array_of(path: str) -> Array:
    """The numbers of a file, float64.

    Raises
    ------
    UsageError
        ``target.file``, ``target.nonfinite``.
    """
    if not path:
        raise UsageError("target.file", "the target names no file", "write weights:FILE.npy")
    try:
        values = read_array(path).values
    except AnalyzerError as problem:
        raise UsageError("target.file", problem.message, problem.hint or "save it with np.save") from None
    return numbers(values, path)


def numbers(values: Array, where: str) -> Array:
    """An array as float64.

    Raises
    ------
    UsageError
        ``target.file`` for text, ``target.nonfinite``.
    """
    if values.dtype.kind not in "biuf":
        raise UsageError("target.file", f"{where} holds {values.dtype}, no numbers", "save an array of floats")
    found = np.asarray(values, np.float64)
    if not (np.abs(found) <= np.finfo(np.float32).max).all():
        what = f"{where} holds NaN, infinite values or some beyond single precision"
        raise UsageError("target.nonfinite", what, "give finite numbers")
    return found


def mask_of(path: str, size: tuple[int, int]) -> Array:
    """A mask of places, (height, width) bool, resampled to ``size`` by the nearest element: what isn't zero belongs to it.

    Raises
    ------
    UsageError
        ``target.file``, ``target.nonfinite``, ``target.bad_shape``, ``target.empty``.
    """
    if path.lower().endswith((".npy", ".npz")):
        values = array_of(path)
        while values.ndim > 2 and values.shape[0] == 1:
            values = values[0]
        if values.ndim != 2 or not values.size:
            raise UsageError(
                "target.bad_shape", f"mask {path} has shape {list(values.shape)}", "give one of shape (height, width)"
            )
    else:
        try:
            values = read_picture(path).pixels.max(axis=-1)
        except AnalyzerError as problem:
            raise UsageError("target.file", problem.message, problem.hint or "give a .png or .npy") from None
    mask = np.asarray(resample((values != 0).astype(np.uint8)[None, None], size, "nearest")[0, 0] != 0)
    if not mask.any():
        raise UsageError(
            "target.empty", f"mask {path} selects nothing of a map of {list(size)}", "give one that isn't zero"
        )
    return mask
