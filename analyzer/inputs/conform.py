"""Holding an array against a model input's shape and type.

Belongs here: missing axes, mismatches and their explanation, lossless casts, finiteness. Not here: files, pictures.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError
from analyzer.inputs.shapes import Dims, fixed, show


def conform(
    values: NDArray[Any], shape: Dims, name: str, where: str, rows: bool = False
) -> tuple[NDArray[Any], list[str]]:
    """The array with the axes that the model takes, and notes on what was added.

    Parameters
    ----------
    values
        With or without batch axis (and without axes that the model fixes at 1).
    shape
        The model input's dimensions, batch first.
    name, where
        The input and the file, for messages.
    rows
        Whether the first axis holds the rows of a table: a row may then be reshaped to the model's sample.

    Raises
    ------
    InputError
        ``data.bad_shape`` with both shapes; ``data.empty``.
    """
    given, notes = values.shape, []
    if values.size == 0:
        raise InputError("data.empty", f"{where} has shape {given}: no values", "give at least one sample")
    sample = [fixed(dim) for dim in shape[1:]]
    if rows and len(shape) == 1 and given[1:] == (1,):
        values, given = values[:, 0], given[:1]
    if rows and len(shape) != values.ndim and len(shape) > 1:
        values = _reshape_rows(values, sample)
        if values.shape != given:
            notes.append(f"rows of {given[1]} reshaped to {values.shape[1:]}")
    while values.ndim < len(shape):
        axis = len(shape) - values.ndim - 1  # the model's axis that the array's first must follow
        if axis > 0 and fixed(shape[axis]) != 1:
            break
        values = values[None]
    if not notes and values.shape != given:
        notes.append("batch axis added" if values.ndim == len(given) + 1 else f"{given} taken as {values.shape}")
    if values.ndim != len(shape) or any(
        want is not None and want != got for want, got in zip(sample, values.shape[1:], strict=False)
    ):
        raise _mismatch(given, shape, name, where)
    batch = fixed(shape[0]) if shape else None
    if batch is not None and values.shape[0] != batch:
        if batch > 1 or (len(shape) == 1 and not rows):
            raise _mismatch(values.shape, shape, name, where)
        notes.append(f"{values.shape[0]} samples for a model that takes one at a time")
    return values, notes


def _reshape_rows(values: NDArray[Any], sample: list[int | None]) -> NDArray[Any]:
    """(rows, F) as (rows, *sample) where the sizes leave one way to do so."""
    free = [axis for axis, dim in enumerate(sample) if dim is None]
    known = math.prod(dim for dim in sample if dim is not None)
    if len(free) > 1 or values.shape[1] % known or (not free and known != values.shape[1]):
        return values
    return values.reshape(values.shape[0], *(values.shape[1] // known if dim is None else dim for dim in sample))


def _mismatch(given: tuple[int, ...], shape: Dims, name: str, where: str) -> InputError:
    sample = [fixed(dim) for dim in shape[1:]]
    unbatched = given[1:] if len(given) == len(shape) else given
    hint = "give an array of that shape"
    if len(unbatched) == len(sample) == 3 and _fits((unbatched[2], *unbatched[:2]), sample):
        hint = "the channels are last, the model wants them first: transpose it"
    elif len(unbatched) == len(sample) == 3 and _fits((*unbatched[1:], unbatched[0]), sample):
        hint = "the channels are first, the model wants them last: transpose it"
    elif None not in sample and len(given) > 1 and math.prod(given[1:]) == math.prod(d or 1 for d in sample):
        hint = f"reshape it to ({given[0]}, {', '.join(str(d) for d in sample)})"
    elif len(sample) == len(unbatched) == 1 and sample[0] is not None and unbatched[0] == sample[0] + 1:
        hint = "it has one column more than the model takes: leave out the label column"
    return InputError(
        "data.bad_shape", f"{where}: input {name!r} takes {show(shape)}, the file has {tuple(given)}", hint
    )


def _fits(dims: tuple[int, ...], sample: list[int | None]) -> bool:
    return all(want in (None, got) for want, got in zip(sample, dims, strict=True))


def to_dtype(
    values: NDArray[Any], dtype: np.dtype[Any], where: str, *, missing: bool = False
) -> tuple[NDArray[Any], list[str]]:
    """The array in the model's type, and notes; nothing is rounded to integers or wrapped around.

    Text is an array of Python strings. With ``missing``, NaN may stand for a value that is missing.

    Raises
    ------
    InputError
        ``data.bad_dtype`` where the values don't fit the type; ``data.nonfinite`` for NaN and infinities, also those
        that arise because the model's floating-point type is too small.
    """
    if dtype.kind in "USO":
        if values.dtype.kind == "S":
            values = _decoded(values, where)
        if values.dtype.kind not in "UO":
            raise InputError("data.bad_dtype", f"{where} holds {values.dtype}, the model takes text", "save strings")
        return values.astype(object), []
    if values.dtype.kind in "USO":
        raise InputError("data.bad_dtype", f"{where} holds text, the model takes {dtype}", "save numbers")
    if values.dtype.kind == "f":
        _check_finite(values, where, "", missing and dtype.kind == "f")
    if dtype.kind in "iub" and dtype != values.dtype:
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
            raise InputError(
                "data.bad_dtype", f"{where} holds fractions, the model takes {dtype}", "give whole numbers"
            )
        if values.dtype.kind != "b" and (int(values.min()) < low or int(values.max()) > high):
            raise InputError(
                "data.bad_dtype", f"{where} holds values outside {dtype} ({low}..{high})", "give values the model takes"
            )
    if values.dtype == dtype:
        return np.ascontiguousarray(values).reshape(values.shape), []
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(values.astype(dtype)).reshape(values.shape)
    if dtype.kind == "f":
        _check_finite(cast, where, f" as {dtype}", missing)
    usual = (
        values.dtype.kind in "iuf" and dtype.kind == "f" and dtype.itemsize >= 4
    )  # nothing that a reader would ask about
    return cast, [] if usual else [f"{values.dtype} converted to {dtype}"]


def _decoded(values: NDArray[Any], where: str) -> NDArray[Any]:
    """Byte strings as text."""
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError:
        raise InputError("data.bad_dtype", f"{where} holds bytes that aren't UTF-8", "save strings") from None


def _check_finite(values: NDArray[Any], where: str, how: str, missing: bool) -> None:
    bad = np.isinf(values) if missing else ~np.isfinite(values)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            "data.nonfinite",
            f"{where}: {int(bad.sum())} value(s){how} are NaN or infinite, the first at {first}",
            "replace them by finite numbers",
        )
