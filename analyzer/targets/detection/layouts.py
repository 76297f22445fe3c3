"""Output tensors as rows, one for each box, and the grid cell and anchor of each row.

Belongs here: reshaping, and the order of grid cells; it works on any element type, so that indices can be laid out like the
numbers. Not here: what the numbers of a row mean (``proposals``).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.inputs.decode import CODE, Decode

Array = NDArray[Any]


def rows_of(output: Array, layout: str, anchors: int) -> Array:
    """One level's output (batch, …) as rows (batch, boxes, numbers).

    Parameters
    ----------
    layout
        See `Decode`. A tensor of rank 2 (boxes, numbers) is taken for a batch of one.
    anchors
        Boxes of each grid cell, for ``ACHW`` and ``HWAC`` of rank 4.

    Raises
    ------
    UsageError
        ``config.decode`` where the rank or the number of channels doesn't fit.
    """
    if output.ndim == 2 and layout in ("NC", "CN"):
        output = output[None]
    rank = output.ndim
    if rank < 3 or (layout == "ACHW" and rank != 4) or (layout == "HWAC" and rank > 5):
        raise misfit(f"layout {layout} doesn't fit an output of shape {list(output.shape)}")
    batch, channels = len(output), output.shape[-1 if layout in ("NC", "HWAC") else 1]
    if not channels:
        raise misfit(f"an output of shape {list(output.shape)} holds no numbers")
    if rank == 4 and layout in ("ACHW", "HWAC") and channels % anchors:
        raise misfit(f"{channels} channels aren't the same for each of {anchors} anchors")
    if layout == "CN":
        return output.reshape(batch, output.shape[1], math.prod(output.shape[2:])).swapaxes(1, 2)
    if layout == "ACHW":
        split = output.reshape(batch, anchors, channels // anchors, *output.shape[2:])
        numbers = channels // anchors
        return split.transpose(0, 1, 3, 4, 2).reshape(batch, anchors * math.prod(output.shape[2:]), numbers)
    numbers = channels // anchors if layout == "HWAC" and rank == 4 else channels
    return output.reshape(batch, math.prod(output.shape[1:-1]) * (channels // max(numbers, 1)), numbers)


def columns_of(rows: Array, spec: Decode) -> dict[str, Array]:
    """The columns of rows (…, numbers) by name: (…,), and (…, width) for ``classes`` and ``distances``.

    Raises
    ------
    UsageError
        ``config.decode`` where the row is shorter or longer than in the spec.
    """
    have = rows.shape[-1]
    known = sum(width for _, width in spec.columns if width is not None)
    rest = have - known
    open_ended = any(width is None for _, width in spec.columns)
    if rest < (1 if open_ended else 0) or (rest and not open_ended):
        least = f"at least {known + 1}" if open_ended else str(known)
        raise misfit(f"a row of the boxes output has {have} numbers, the spec's row {least}")
    found, start = {}, 0
    for name, width in spec.columns:
        stop = start + (rest if width is None else width)
        found[name] = rows[..., start:stop] if name in ("classes", "distances") else rows[..., start]
        start = stop
    return found


def anchors_at(spec: Decode, level: int, channels: int | None) -> int:
    """How many boxes a grid cell of a level has; ``channels`` are those of the boxes output, for a row of fixed length."""
    if spec.anchors:
        return len(spec.anchors[min(level, len(spec.anchors) - 1)])
    widths = [width for _, width in spec.columns]
    if channels is None or None in widths:
        return 1
    return max(1, channels // sum(width for width in widths if width is not None))


@lru_cache(maxsize=16)
def anchor_table(spec: Decode, shapes: tuple[tuple[int, ...], ...], size: tuple[int, int], count: int) -> Array:
    """The grid cell and anchor of each row: (boxes, 5) of x, y, stride, anchor width, anchor height, level by level.

    Parameters
    ----------
    shapes
        Of the boxes outputs, one for each level or one for all.
    size
        Height and width of the model's input, in pixels.
    count
        Number of rows.

    Raises
    ------
    UsageError
        ``config.decode`` where strides and anchors give another number of boxes; checked before anything large is allocated.
    """
    levels = [
        (
            *_grid(spec.layout, shapes[level if len(shapes) > 1 else 0], len(spec.strides) > len(shapes), size, stride),
            stride,
        )
        for level, stride in enumerate(spec.strides)
    ]
    anchors_of_levels = [np.asarray(each) for each in spec.anchors] or [np.ones((1, 2))] * len(levels)
    total = sum(height * width * len(each) for (height, width, _), each in zip(levels, anchors_of_levels, strict=True))
    if total != count:
        raise misfit(
            f"strides {list(spec.strides)} make {total} boxes of a picture of {size[0]}x{size[1]}, the output has {count}"
        )
    tables = []
    for (height, width, stride), anchors in zip(levels, anchors_of_levels, strict=True):
        y, x, a = (axis.reshape(-1) for axis in np.indices((height, width, len(anchors))))
        if spec.layout != "HWAC":
            a, y, x = (axis.reshape(-1) for axis in np.indices((len(anchors), height, width)))
        tables.append(np.column_stack([x, y, np.full(len(x), stride), anchors[a]]))
    table = np.concatenate(tables).astype(np.float64)
    table.flags.writeable = False
    return table


def _grid(layout: str, shape: tuple[int, ...], shared: bool, size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width of a level's grid: the tensor's own where it has them, else the input's size over the stride."""
    if not shared and len(shape) > 3:
        if layout == "ACHW" or (layout == "NC" and len(shape) == 5):
            return shape[-3 if layout == "NC" else -2], shape[-2 if layout == "NC" else -1]
        if layout == "HWAC":
            return shape[1], shape[2]
    return -(-size[0] // stride), -(-size[1] // stride)


def misfit(message: str) -> UsageError:
    """The error for outputs that a spec doesn't fit."""
    return UsageError(
        CODE, f"the decode spec doesn't fit the model: {message}", "`onnxplain inspect` shows the outputs"
    )
