"""What is looked at over a data set: a class, a unit, a channel, a layer; how strongly an input drives it, and where.

Belongs here: from values of a layer to one number for each sample. Not here: running over data (``top_inputs``).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UnsupportedError, UsageError
from analyzer.onnx_model import OnnxModel
from analyzer.targets.inner import value_named
from analyzer.targets.values import scored_value
from analyzer.visualization.channels import channel_axis

Array = NDArray[Any]
#: An index into one sample's value, without the batch axis; None where all along an axis count.
Index = tuple[int | None, ...]


@dataclass(frozen=True)
class Unit:
    """What is looked at.

    Attributes
    ----------
    layer
        Name of a node, value or module; None for the scores of classes.
    channel
        One channel of the layer, over its places.
    unit
        One element of the layer's value: an index without the batch axis.
    of_class
        A class, by its number or label; then no layer is named.
    reduce
        How a channel's places become one number: ``max`` or ``mean``. A whole layer counts by its mean.
    """

    layer: str | None = None
    channel: int | None = None
    unit: tuple[int, ...] | None = None
    of_class: int | str | None = None
    reduce: Literal["max", "mean"] = "max"

    def __post_init__(self) -> None:
        if self.reduce not in ("max", "mean"):
            raise UsageError("unit.reduce", f"unknown reduction {self.reduce!r}", "use max or mean")
        if (self.layer is None) == (self.of_class is None):
            raise UsageError("unit.unclear", "name either a layer or a class", "as in layer='Conv_4', channel=7")
        if self.of_class is not None and (self.channel is not None or self.unit is not None):
            raise UsageError("unit.unclear", "a class has no channels or units", "name a layer for those")
        if self.channel is not None and self.unit is not None:
            raise UsageError("unit.unclear", "name a channel or a unit, not both")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "unit": list(self.unit) if self.unit is not None else None}

    def __str__(self) -> str:
        over = "its largest place" if self.reduce == "max" else "the mean of its places"
        if self.of_class is not None:
            return f"class {self.of_class}"
        if self.channel is not None:
            return f"channel {self.channel} of {self.layer} ({over})"
        if self.unit is not None:
            return f"unit {','.join(map(str, self.unit))} of {self.layer}"
        return f"layer {self.layer} (its mean)"


class Probe:
    """A unit of one model: which values it needs and what it makes of them.

    Raises
    ------
    UsageError
        ``layer.unknown``; ``unit.out_of_range`` where the model has no such class.
    """

    def __init__(self, model: OnnxModel, unit: Unit) -> None:
        self._model, self.unit = model, unit
        self.value: str
        self._class: int | None = None
        if unit.layer is not None:
            self.value = value_named(model.graph, unit.layer)
        else:
            self.value = scored_value(model).value
            self._class = self._class_index(unit.of_class)

    @functools.cached_property
    def names(self) -> list[str]:
        """The values that it reads."""
        return (
            [self.value] if self._class is None else list(dict.fromkeys([self.value, scored_value(self._model).output]))
        )

    def measure(self, values: Mapping[str, Array], samples: int) -> tuple[Array, list[Index]]:
        """How strongly each sample drives it, (samples,) float64, and where.

        Parameters
        ----------
        values
            By the names above.
        samples
            How many rows the values have.

        Raises
        ------
        UsageError
            ``unit.out_of_range``.
        UnsupportedError
            ``layer.no_samples`` where the value's first axis doesn't count samples, ``layer.not_numeric``.
        """
        value = values[self.value]
        axis = None
        if self._class is not None:
            scored = scored_value(self._model)
            output = values[scored.output]
            laid_out = scored.laid_out(value, output)
            value, axis = (output if laid_out is None else laid_out), 1
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            raise UnsupportedError("layer.not_numeric", f"{self.value!r} holds no numbers", "name another layer")
        if value.shape[:1] != (samples,):
            raise UnsupportedError(
                "layer.no_samples",
                f"the first axis of {self.value!r}, of shape {list(value.shape)}, doesn't count the {samples} samples",
                "name another layer",
            )
        return self._reduced(np.asarray(value, np.float64), axis)

    def _reduced(self, value: Array, axis: int | None) -> tuple[Array, list[Index]]:
        rank = value.ndim
        if self.unit.unit is not None:
            index = self._element(value)
            own: Array = value.reshape(len(value), -1)[:, int(np.ravel_multi_index(index, value.shape[1:]))]
            return own, [index] * len(value)
        chosen = self._class if self._class is not None else self.unit.channel
        if chosen is None:
            return value.reshape(len(value), -1).mean(axis=1), [(None,) * (rank - 1)] * len(value)
        axis = channel_axis(self._model, self.value, rank) if axis is None else axis
        if axis is None or axis == 0 or rank < 2:
            if self._class is not None and chosen == 0 and rank == 1:
                return value, [()] * len(value)
            raise UsageError("unit.out_of_range", f"{self.value!r} of shape {list(value.shape)} has no channels")
        if not 0 <= chosen < value.shape[axis]:
            what = "class" if self._class is not None else "channel"
            raise self._out_of_range(f"{what} {chosen}", f"0 to {value.shape[axis] - 1}")
        own = np.take(value, chosen, axis)
        flat = own.reshape(len(own), -1)
        if self.unit.reduce == "mean" and flat.shape[1] > 1:
            places: list[list[int | None]] = [[None] * (rank - 2)] * len(own)
            scores = flat.mean(axis=1)
        else:
            best = np.argmax(np.nan_to_num(flat, nan=np.inf), axis=1)  # a NaN is found, and then counted as such
            scores = flat[np.arange(len(flat)), best]
            places = [[int(at) for at in np.unravel_index(one, own.shape[1:])] for one in best]
        return scores, [(*place[: axis - 1], chosen, *place[axis - 1 :]) for place in places]

    def _element(self, value: Array) -> tuple[int, ...]:
        index = self.unit.unit or ()
        sides = value.shape[1:]
        if len(index) != len(sides):
            raise UsageError(
                "unit.out_of_range",
                f"unit {','.join(map(str, index))}: {self.value!r} has {len(sides)} axes beside the samples, {list(sides)}",
                "give an index for each, or a channel",
            )
        if not all(0 <= at < side for at, side in zip(index, sides, strict=True)):
            raise self._out_of_range(f"unit {','.join(map(str, index))}", f"indices below {list(sides)}")
        return index

    def _out_of_range(self, what: str, known: str) -> UsageError:
        return UsageError("unit.out_of_range", f"{self.value!r} has no {what}", f"give {known}")

    def _class_index(self, given: int | str | None) -> int:
        if isinstance(given, int | np.integer) and not isinstance(given, bool):
            return int(given)
        text = str(given)
        if text.isascii() and text.isdigit():
            return int(text)
        if self._model.labels is None:
            raise UsageError("target.unknown_label", f"no labels are known, so {text[:80]!r} can't be found",
                             "give --labels, or a class index")  # fmt: skip
        return self._model.labels.index(text)

    def target(self, index: Index) -> tuple[Any, str | None]:
        """What is explained for a sample that drives the unit at an index: a target, and the layer that it is about."""
        if self._class is not None:
            if len(index) < 2:
                return self._class, None
            return f"{scored_value(self._model).output}[:,{_text(index)}]", None
        return f"[{','.join([':', *_text(index).split(',')]) if index else ':'}]", self.value


def _text(index: Index) -> str:
    return ",".join(":" if at is None else str(at) for at in index)
