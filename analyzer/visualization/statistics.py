"""Figures of a layer's values, gathered part by part: mean, spread, range, zeros, dead channels.

Belongs here: what a table of activations shows. Not here: running the model (``activations``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.onnx_model import OnnxModel
from analyzer.visualization.activations import Stream
from analyzer.visualization.channels import channel_axis
from analyzer.visualization.layers import Layer

Array = NDArray[Any]


@dataclass
class Moments:
    """What is known of the numbers seen so far; those that aren't finite are counted and left out.

    Attributes
    ----------
    count, nonfinite, zeros
        How many there were, how many of them aren't finite, how many are exactly zero.
    mean, squares
        The mean, and the sum of squared distances from it (Chan, Golub, LeVeque 1983, for joining parts).
    low, high
        The smallest and the largest.
    """

    count: int = 0
    nonfinite: int = 0
    zeros: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf

    @property
    def finite(self) -> int:
        """How many are finite."""
        return self.count - self.nonfinite

    @property
    def std(self) -> float:
        """The standard deviation of all finite numbers; NaN where there are none."""
        return float(np.sqrt(self.squares / self.finite)) if self.finite else float("nan")

    def add(self, values: Array) -> None:
        """Take in more numbers."""
        numbers = values.astype(np.float64).ravel()
        finite = numbers[np.isfinite(numbers)]
        self.zeros += int(np.count_nonzero(numbers == 0))
        before, new = self.finite, len(finite)
        self.count, self.nonfinite = self.count + len(numbers), self.nonfinite + len(numbers) - new
        if new:
            mean = float(finite.mean())
            shift = mean - self.mean
            self.squares += float(np.square(finite - mean).sum()) + shift**2 * before * new / (before + new)
            self.mean += shift * new / (before + new)
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))


@dataclass(frozen=True)
class LayerFigures:
    """One layer's figures over all samples; the numbers are None where its values aren't numbers, or there are none.

    Attributes
    ----------
    shape, dtype
        Of the values of all samples together.
    mean, std, low, high
        Over all finite values.
    zeros
        The share of values that are exactly zero.
    nonfinite
        How many values aren't finite.
    channels, dead
        How many channels there are, and how many are zero for every sample at every place.
    """

    layer: Layer
    shape: tuple[int, ...]
    dtype: str
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    zeros: float | None
    nonfinite: int
    channels: int | None
    dead: int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "value": self.layer.value, "node": self.layer.node, "operator": self.layer.operator,
            "shape": list(self.shape), "dtype": self.dtype, "mean": self.mean, "std": self.std, "min": self.low,
            "max": self.high, "share_of_zeros": self.zeros, "nonfinite": self.nonfinite, "channels": self.channels,
            "dead_channels": self.dead,
        }  # fmt: skip


class Figures:
    """Figures of layers, gathered from a stream of their values."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self._moments: dict[str, Moments] = {}
        self._alive: dict[str, Array] = {}
        self._shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}

    def through(self, stream: Stream) -> Iterator[tuple[int, dict[str, Array]]]:
        """The stream's parts, each taken in as it passes."""
        for count, values in stream.parts():
            for name, value in values.items():
                self._add(name, value, stream.axes.get(name))
            yield count, values

    def _add(self, name: str, value: Array, axis: int | None) -> None:
        seen = self._shapes.get(name)
        if seen is None:
            self._shapes[name] = value.shape, value.dtype
        elif axis is None:
            return  # all samples share it
        else:
            shape = list(seen[0])
            shape[axis] += value.shape[axis]
            self._shapes[name] = tuple(shape), value.dtype
        if value.dtype.kind not in "fiub":
            return
        self._moments.setdefault(name, Moments()).add(value)
        channel = channel_axis(self._model, name, value.ndim)
        if channel is not None and channel != axis and value.size and value.dtype.kind == "f":
            alive = (value != 0).any(axis=tuple(a for a in range(value.ndim) if a != channel))
            before = self._alive.get(name)
            if before is None or before.shape == alive.shape:
                self._alive[name] = alive if before is None else before | alive

    def of(self, layer: Layer) -> LayerFigures | None:
        """One layer's figures; None where it gave no array."""
        if layer.value not in self._shapes:
            return None
        shape, dtype = self._shapes[layer.value]
        moments, alive = self._moments.get(layer.value), self._alive.get(layer.value)
        known = moments is not None and moments.finite > 0
        return LayerFigures(
            layer, shape, "string" if dtype.kind in "OUS" else str(dtype),
            mean=moments.mean if known and moments else None, std=moments.std if known and moments else None,
            low=moments.low if known and moments else None, high=moments.high if known and moments else None,
            zeros=moments.zeros / moments.count if moments and moments.count else None,
            nonfinite=moments.nonfinite if moments else 0,
            channels=len(alive) if alive is not None else None,
            dead=int(len(alive) - alive.sum()) if alive is not None else None,
        )  # fmt: skip
