"""Masks of an input in two forms: as ONNX operators put before a model, and as arrays made on the host.

Each kind of mask turns a few numbers per evaluation (its rows) into a mask of what is left of an input. Inside the graph only
the rows cross to the device; where a masked model can't be built, the same masks are made in numpy.

Belongs here: which rows become which mask. Not here: joining the operators to a model (``masked_model``), drawing the rows
(``analyzer.perturbation``), running anything.

All rows have the batch first. A mask is broadcastable to the input: channels and other axes that share it have size 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from analyzer.inputs.resampling import interpolation_matrix

Array = NDArray[Any]
Rows = Mapping[str, Array]


class Builder:
    """Nodes written one after the other; a call adds one and gives the name of its result.

    Parameters
    ----------
    prefix
        Begins every name, so that none is a name of the model's.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []

    def __call__(self, kind: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        name = result or f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [name], name=f"{self.prefix}node{len(self.nodes)}", **attributes)
        )
        return name

    def constant(self, value: Any) -> str:
        """A constant array."""
        return self("Constant", value=numpy_helper.from_array(np.array(value, order="C")))

    def shaped(self, value: str, shape: Sequence[int]) -> str:
        """A value (batch, …) with the given sizes behind the batch."""
        return self("Reshape", value, self.constant(np.array([-1, *shape], np.int64)))


class MaskOps(Protocol):
    """A kind of mask; instances are hashable and hold everything that its operators depend on."""

    @property
    def rows(self) -> Mapping[str, tuple[Any, tuple[int | None, ...]]]:
        """Name -> dtype and shape of one evaluation's numbers; None for a free dimension."""
        ...

    @property
    def fixed(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """The same for arrays that all evaluations share."""
        ...

    def nodes(self, build: Builder, names: Mapping[str, str]) -> str:
        """Write the mask's operators; ``names`` says what the rows and fixed arrays are called in the graph.

        Returns
        -------
        str
            The mask's name: bool, or float32 from 0 to 1; true and 1 keep the input.
        """
        ...

    def masks(self, rows: Rows, fixed: Rows) -> Array:
        """The same masks in numpy, (n, …)."""
        ...

    @property
    def binary(self) -> bool:
        """Whether masks are bool, so that every element is either present or replaced."""
        ...


@dataclass(frozen=True)
class Windows:
    """Everything outside a box of elements is present; the box is given by its bounds.

    Attributes
    ----------
    shape
        The sample's.
    axes
        Axes of the sample that bounds are given for, without the batch.

    Notes
    -----
    Row ``bounds``: (axes, 2) int64, the first element and the one behind the last.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    binary = True

    @property
    def rows(self) -> Mapping[str, tuple[Any, tuple[int | None, ...]]]:
        return {"bounds": (np.int64, (len(self.axes), 2))}

    @property
    def fixed(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        return {}

    def nodes(self, build: Builder, names: Mapping[str, str]) -> str:
        bounds = build("Cast", names["bounds"], to=onnx.TensorProto.FLOAT)  # Less takes no integers before opset 9
        inside = ""
        for at, axis in enumerate(self.axes):
            pair = build("Gather", bounds, build.constant(np.int64(at)), axis=1)
            ends = [build("Gather", pair, build.constant(np.int64(end)), axis=1) for end in (0, 1)]
            low, high = (build.shaped(end, [1] * len(self.shape)) for end in ends)
            positions = build.constant(self._positions(axis).astype(np.float32))
            here = build("And", build("Not", build("Less", positions, low)), build("Less", positions, high))
            inside = build("And", inside, here) if inside else here
        return build("Not", inside)

    def masks(self, rows: Rows, fixed: Rows) -> Array:
        bounds = rows["bounds"].reshape(-1, len(self.axes), 2, *[1] * len(self.shape))
        inside: Array = np.ones((), bool)
        for at, axis in enumerate(self.axes):
            positions = self._positions(axis)
            inside = inside & (positions >= bounds[:, at, 0]) & (positions < bounds[:, at, 1])
        return ~inside

    def _positions(self, axis: int) -> Array:
        shape = [1] * (len(self.shape) + 1)
        shape[axis + 1] = -1
        return np.arange(self.shape[axis]).reshape(shape)


@dataclass(frozen=True)
class Segments:
    """Segments that are each present or replaced.

    Attributes
    ----------
    shape
        Of the segment ids: the sample's rank, 1 along axes that share them.

    Notes
    -----
    Row ``present``: (segments,) bool; their number is a free dimension, so that one graph serves every picture's superpixels.
    Fixed ``ids``: int64, from 0.
    """

    shape: tuple[int, ...]
    binary = True

    @property
    def rows(self) -> Mapping[str, tuple[Any, tuple[int | None, ...]]]:
        return {"present": (np.bool_, (None,))}

    @property
    def fixed(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        return {"ids": (np.int64, (math.prod(self.shape),))}

    def nodes(self, build: Builder, names: Mapping[str, str]) -> str:
        return build.shaped(build("Gather", names["present"], names["ids"], axis=1), self.shape)

    def masks(self, rows: Rows, fixed: Rows) -> Array:
        masks: Array = rows["present"][:, fixed["ids"]]
        return masks.reshape(-1, *self.shape)


@dataclass(frozen=True)
class Masks:
    """Masks given in full.

    Attributes
    ----------
    sides
        Sizes of the axes that a mask has.
    shape
        The same with 1 for each axis of the sample that shares it.

    Notes
    -----
    Row ``mask``: ``sides``, float32 from 0 to 1.
    """

    sides: tuple[int, ...]
    shape: tuple[int, ...]
    binary = False

    @property
    def rows(self) -> Mapping[str, tuple[Any, tuple[int | None, ...]]]:
        return {"mask": (np.float32, self.sides)}

    @property
    def fixed(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        return {}

    def nodes(self, build: Builder, names: Mapping[str, str]) -> str:
        return build.shaped(names["mask"], self.shape)

    def masks(self, rows: Rows, fixed: Rows) -> Array:
        return rows["mask"].reshape(-1, *self.shape)


@dataclass(frozen=True)
class Grid:
    """Coarse grids enlarged linearly and cut out at a shift (Petsiuk, Das, Saenko 2018, section 3.2).

    Attributes
    ----------
    counts, sides
        Cells of the grid and elements of the mask per axis.
    shape
        ``sides`` with 1 for each axis of the sample that shares a mask.

    Notes
    -----
    Rows ``cells``: ``counts``, float32; ``shift``: (axes,) int64 from 0 to below :attr:`steps`. A grid of c cells is
    enlarged to (c + 1) * step elements, of which the mask is those from the shift on.
    """

    counts: tuple[int, ...]
    sides: tuple[int, ...]
    shape: tuple[int, ...]
    binary = False

    @property
    def steps(self) -> tuple[int, ...]:
        """Elements per cell and axis."""
        return tuple(math.ceil(side / count) for side, count in zip(self.sides, self.counts, strict=True))

    @property
    def rows(self) -> Mapping[str, tuple[Any, tuple[int | None, ...]]]:
        return {"cells": (np.float32, self.counts), "shift": (np.int64, (len(self.sides),))}

    @property
    def fixed(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        return {}

    def enlarging(self, axis: int) -> Array:
        """The matrix ((c + 1) * step, c) that enlarges an axis, float64."""
        return interpolation_matrix(self.counts[axis], (self.counts[axis] + 1) * self.steps[axis])

    def nodes(self, build: Builder, names: Mapping[str, str]) -> str:
        mask, last = names["cells"], len(self.sides) - 1
        for axis, (count, side) in enumerate(zip(self.counts, self.sides, strict=True)):
            rest = math.prod(self.counts[axis + 1 :]) * math.prod(self.sides[:axis])
            shift = build("Gather", names["shift"], build.constant(np.int64(axis)), axis=1)
            at = build("Add", build.shaped(shift, [1]), build.constant(np.arange(side)[None]))
            matrix = build("Gather", build.constant(self.enlarging(axis).astype(np.float32)), at, axis=0)
            mask = build.shaped(mask, [count, rest])
            if axis < last:
                mask = build("Transpose", build("MatMul", matrix, mask), perm=[0, 2, 1])
            else:  # the small factors are transposed, not the large product
                mask = build("MatMul", *[build("Transpose", part, perm=[0, 2, 1]) for part in (mask, matrix)])
        return build.shaped(mask, self.shape)

    def masks(self, rows: Rows, fixed: Rows) -> Array:
        masks, n = rows["cells"], len(rows["cells"])
        for axis, side in enumerate(self.sides):
            at = rows["shift"][:, axis, None] + np.arange(side)
            matrix = self.enlarging(axis).astype(np.float32)[at]
            masks = (matrix @ masks.reshape(n, self.counts[axis], -1)).transpose(0, 2, 1)
        return masks.reshape(n, *self.shape)


def mixed(x: Array, replacement: Array, mask: Array) -> Array:
    """``x`` where the mask is 1 or true, its replacement where it is 0; integers are never blended."""
    if mask.dtype == bool:
        return np.where(mask, x, replacement)
    if x.dtype.kind in "iu":
        return np.where(mask >= 0.5, x, replacement)
    work = np.result_type(x.dtype, np.float32)
    x_, replacement_ = x.astype(work, copy=False), replacement.astype(work, copy=False)
    return np.asarray(replacement_ + mask.astype(work) * (x_ - replacement_), x.dtype)
