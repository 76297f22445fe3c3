"""The inputs among which one is looked for: shape, what the axes count, the valid range.

Belongs here: reading that from a model, and the way to the form in which everything is computed (samples, channels, places) and
back. Not here: how an input is parametrised (``parametrisation``), data (``survey``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UnsupportedError, UsageError
from analyzer.inputs.preprocess import default_for
from analyzer.inputs.shapes import image_shape
from analyzer.nearest import did_you_mean
from analyzer.onnx_model import OnnxModel

if TYPE_CHECKING:
    from torch import Tensor

    from analyzer.inputs import Preprocess

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Domain:
    """The inputs among which one is looked for.

    Attributes
    ----------
    name
        Of the model's input.
    shape
        Of one sample, without the axis that counts samples.
    order
        Axes of a sample that count channels, first, and places; a sample without channels has one that is added.
    channels
        Whether a sample has an axis of channels.
    low, high
        The valid range, broadcastable to (1, channels, *places), float64; -inf and inf where it has no end.
    preprocess
        How pictures become inputs; None where it takes none.
    dtype
        Of the input.
    notes
        What a reader should know of the range.
    """

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    channels: bool
    low: Array
    high: Array
    preprocess: Preprocess | None
    dtype: np.dtype[Any]
    notes: tuple[str, ...] = ()

    @property
    def canonical(self) -> tuple[int, ...]:
        """(channels, *places) of one sample."""
        sizes = tuple(self.shape[axis] for axis in self.order)
        return sizes if self.channels else (1, *sizes)

    @property
    def middle(self) -> Array:
        """The middle of the range; 0 where it has no end."""
        finite = np.isfinite(self.low) & np.isfinite(self.high)
        with np.errstate(invalid="ignore"):
            return np.where(finite, (self.low + self.high) / 2, np.clip(0, self.low, self.high))

    @property
    def half(self) -> Array:
        """Half of the range's width; 1 where it has no end."""
        with np.errstate(invalid="ignore"):
            width = (self.high - self.low) / 2
        return np.where(np.isfinite(width) & (width > 0), width, 1.0)

    def to_model(self, value: Tensor) -> Tensor:
        """(samples, channels, *places) as the model takes it."""
        value = value if self.channels else value[:, 0]
        return value.permute(0, *(1 + int(axis) for axis in np.argsort(self.order)))

    def from_model(self, value: Array) -> Array:
        """The model's (samples, …) as (samples, channels, *places)."""
        moved = np.transpose(value, (0, *(1 + axis for axis in self.order)))
        return moved if self.channels else moved[:, None]


def domain_of(
    model: OnnxModel,
    name: str | None = None,
    example: Mapping[str, Array] | None = None,
    bounds: tuple[float, float] | None = None,
) -> Domain:
    """The inputs of a model.

    Parameters
    ----------
    name
        Of the input; None for the first with floating-point numbers.
    example
        An input whose shape is taken where the model leaves it open.
    bounds
        The valid range; None for that of the preprocessing, or of the columns that the model was fitted on.

    Raises
    ------
    UnsupportedError
        ``maximize.tokens`` where it holds no floating-point numbers, ``maximize.batch_axis``.
    UsageError
        ``data.unknown_input``, ``input.size_unknown``, ``params.invalid``.
    """
    model.require_inputs()
    name = _named(model, name)
    spec = model.inputs[name]
    shape = _sample_shape(model, name, example)
    axes = model.axes(name, (1, *shape))
    if axes.batch not in (0, None):
        message = f"input {name!r} counts its samples along axis {axes.batch}, not the first"
        raise UnsupportedError("maximize.batch_axis", message, "export the model with the batch first")
    channels = None if axes.channels in (0, None) else int(axes.channels or 0) - 1
    places = [axis for axis in range(len(shape)) if axis != channels]
    order = (channels, *places) if channels is not None else tuple(places)
    low, high, how, notes = _range(model, name, shape, bounds, channels)
    return Domain(name, shape, order, channels is not None, low, high, how, np.dtype(spec.dtype), notes)


def _named(model: OnnxModel, name: str | None) -> str:
    if name is not None and name not in model.inputs:
        message = f"the model has no input {name!r}{did_you_mean(name, model.inputs)}"
        raise UsageError("data.unknown_input", message, f"its inputs: {', '.join(model.inputs)}")
    floating = [each for each, spec in model.inputs.items() if spec.dtype in ("float32", "float64", "float16")]
    if (name is None and not floating) or (name is not None and name not in floating):
        which = name or next(iter(model.inputs))
        raise UnsupportedError(
            "maximize.tokens",
            f"input {which!r} holds {model.inputs[which].dtype}, which can't be changed by small steps",
            "`onnxplain dataset MODEL DATA top-inputs` finds the inputs that a unit likes",
        )
    return name or floating[0]


def _sample_shape(model: OnnxModel, name: str, example: Mapping[str, Array] | None) -> tuple[int, ...]:
    if example is not None and name in example:
        return tuple(int(size) for size in np.shape(example[name])[1:])
    declared: list[Any] = list(model.inputs[name].shape[1:])
    picture = image_shape(model.inputs[name].shape)
    if picture is not None and model.preprocess is not None:
        fixed = model.preprocess.fit(model.inputs[name].shape, model.inputs[name].dtype)
        size = fixed.crop or fixed.letterbox or fixed.resize
        rows = 1 if picture.layout == "NCHW" else 0
        if size is not None:
            declared[rows : rows + 2] = (size, size) if isinstance(size, int) else size
        declared[0 if picture.layout == "NCHW" else 2] = fixed.channels
    if not model.inputs[name].ranked or not all(isinstance(size, int) and size > 0 for size in declared):
        raise UsageError(
            "input.size_unknown",
            f"input {name!r} is of any size: {model.inputs[name]}",
            "give a start of the size wanted",
        )
    return tuple(int(size) for size in declared)


def _range(
    model: OnnxModel, name: str, shape: Sequence[int], bounds: tuple[float, float] | None, channels: int | None
) -> tuple[Array, Array, Preprocess | None, tuple[str, ...]]:
    rank = len(shape) + (channels is None)
    spec = model.inputs[name]
    how, notes = _preprocess(model, name, shape)
    if bounds is not None:
        if not bounds[0] < bounds[1]:
            raise UsageError("params.invalid", f"bounds={bounds!r}: low must be below high", "as in bounds=(0, 1)")
        return np.full((1,) * (rank + 1), bounds[0]), np.full((1,) * (rank + 1), bounds[1]), how, ()
    if how is not None:
        low, high = (np.asarray(each, np.float64).reshape(1, -1, *(1,) * (rank - 1)) for each in how.low_high())
        return low, high, how, notes
    fitted = model.fitted_ranges.get(name)
    if fitted is not None and len(shape) == 1:
        return fitted.low[None], fitted.high[None], None, (f"columns stay within what {fitted.source} says",)
    free = np.full((1,) * (rank + 1), np.inf)
    note = f"nothing tells the valid range of input {name!r} ({spec}): bounds sets one"
    return -free, free, None, (note,)


def _preprocess(model: OnnxModel, name: str, shape: Sequence[int]) -> tuple[Preprocess | None, tuple[str, ...]]:
    """How a picture becomes this input, at its size; None where it is none."""
    from analyzer.inputs.reading import shown_by

    dims, dtype = (1, *shape), model.inputs[name].dtype
    if image_shape(dims) is None:
        return None, ()
    try:
        given = model.preprocess or default_for(dims, dtype)
        how = shown_by(given, dims, dtype)
    except UsageError:
        return None, ()
    note = given.note if model.preprocess is None else None
    return how, (note,) if note else ()
