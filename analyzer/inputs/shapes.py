"""What a model input's declared shape and type mean: which axis holds channels, which dimensions are free.

Belongs here: reading of ``(shape, dtype)`` pairs. Not here: arrays, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analyzer.errors import InputError

Layout = Literal["NCHW", "NHWC"]
Dims = Sequence[Any]
"""Dimensions of a model input, batch first: a positive int is fixed; None, a name, 0 or -1 is free."""

_ONNX_NAMES = {"float": "float32", "double": "float64", "string": "str"}


def fixed(dim: Any) -> int | None:
    """The dimension where the model fixes it, None where it is free."""
    return int(dim) if isinstance(dim, int | np.integer) and not isinstance(dim, bool) and dim > 0 else None


def show(shape: Dims) -> str:
    """A shape for messages: free dimensions by their name, or as ``?``."""
    return "(" + ", ".join(str(d) if fixed(d) or (isinstance(d, str) and d) else "?" for d in shape) + ")"


def numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """numpy's dtype of ``tensor(float)``, ``FLOAT``, ``float32``, ``np.float32``; ``float`` is ONNX's 32-bit.

    Raises
    ------
    InputError
        ``data.bad_dtype`` where numpy has no such type (bfloat16, float8, int4).
    """
    name: Any = dtype
    if isinstance(dtype, str):
        name = dtype.strip().lower()
        name = name[7:-1] if name.startswith("tensor(") and name.endswith(")") else name
        name = _ONNX_NAMES.get(name, name)
    try:
        found: np.dtype[Any] = np.dtype(name)
    except TypeError:
        found = np.dtype(np.void)
    if found.kind == "V":  # also where another package has taught numpy the name
        raise InputError("data.bad_dtype", f"input type {dtype!s} can't be read from a file", "pass an array") from None
    return found


@dataclass(frozen=True)
class ImageShape:
    """A model input seen as a picture; None marks a free dimension."""

    layout: Layout
    channels: int | None
    height: int | None
    width: int | None


def image_shape(shape: Dims, layout: Layout | None = None) -> ImageShape | None:
    """The picture that a model input of this shape takes, or None where it takes none.

    A rank-4 input is a picture where its second axis (NCHW) or its last (NHWC) has 1 or 3 channels; where both could
    be, NCHW. A free channel axis counts as channels only if no other axis does. ``layout`` settles it instead.
    """
    if len(shape) != 4:
        return None
    first, last = fixed(shape[1]), fixed(shape[3])
    if layout is None:
        if first in (1, 3):
            layout = "NCHW"
        elif last in (1, 3):
            layout = "NHWC"
        elif first is None:
            layout = "NCHW"
        else:
            return None
    if layout == "NCHW":
        return ImageShape(layout, first, fixed(shape[2]), last)
    return ImageShape(layout, last, first, fixed(shape[2]))
