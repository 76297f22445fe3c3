"""Inputs near a sample, and how its explanation changes on the way to them.

Belongs here: drawing noise of a radius, moving an input by a few elements, explaining what came of it. Not here: one figure of
that (``metrics``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from analyzer.errors import UnsupportedError
from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array
from analyzer.inputs.graph_selection import selecting_inputs
from analyzer.inputs.layout import PLACES
from analyzer.methods.parameters import COUNT, POSITIVE

Noise = Literal["uniform", "normal"]
Scale = Literal["range", "absolute"]

# Parameters that the metrics share.
Samples = Annotated[int, "how many neighbours are drawn", COUNT]
Radius = Annotated[
    float,
    "the most that a value is changed by (uniform), or the standard deviation (normal), in units of scale",
    POSITIVE,
]
RadiusScale = Annotated[
    Scale,
    "range: each sample's max - min, in tables what the file says that the column was fitted on, else its own absolute value; "
    "absolute: the units of the model's input, behind the preprocessing",
]
NoiseKind = Annotated[Noise, "what is added: uniform from -radius to radius, or normal"]
SameClass = Annotated[bool, "leave out neighbours that the model puts into another class"]


@dataclass(frozen=True)
class Neighbours:
    """Some neighbours of a sample with their explanations, for the target that was explained.

    Attributes
    ----------
    map
        (elements,) float64: the sample's own map, of all inputs.
    maps
        (n, elements) float64.
    distances
        (n,) float64: Euclidean distance from the sample, over all inputs that were changed.
    changed
        (n,) bool: whether the model puts it into another class; None where no class is explained.
    """

    map: Array
    maps: Array
    distances: Array
    changed: Array | None

    def changes(self, order: int) -> Array:
        """(n,): the norm of the maps' differences from the sample's, L1 or L2."""
        return np.asarray(np.linalg.norm(self.maps - self.map, ord=order, axis=1))

    def relative_changes(self, order: int) -> Array | str:
        """(n,): those in norms of the sample's map, 0 where both are zero; or why there are none."""
        if not len(self.maps):
            return "the model puts every neighbour into another class"
        if not self.distances.any():
            return "no neighbour differs from the input: give a larger radius, or one in its units by scale='absolute'"
        changes, own = self.changes(order), float(np.linalg.norm(self.map, ord=order))
        if own == 0:
            return "the map is zero everywhere" if changes.any() else changes
        return np.asarray(changes / own)

    def slopes(self, order: int, size: float | None) -> Array | str:
        """(m,): changes of the map over the distances of the neighbours that differ; or why there are none.

        Parameters
        ----------
        size
            The norm of the sample: both changes are taken relative to the sample's; None takes them as they are.
        """
        relative = self.relative_changes(order)
        if isinstance(relative, str):
            return relative
        if size == 0:
            return "the input is zero everywhere: give normalise=false"
        apart = self.distances > 0
        changes = self.changes(order) if size is None else relative * size
        return np.asarray(changes[apart] / self.distances[apart])

    def same_class(self) -> Neighbours:
        """Those that the model puts into the sample's class; all where that isn't known."""
        if self.changed is None:
            return self
        kept = ~self.changed
        return Neighbours(self.map, self.maps[kept], self.distances[kept], self.changed[kept])

    @property
    def changes_of_class(self) -> int | None:
        """How many are in another class; None where no class is explained."""
        return None if self.changed is None else int(self.changed.sum())


def changeable(context: MetricContext) -> list[str]:
    """The explained inputs that can be changed by little: numbers, not what selects words or categories.

    Raises
    ------
    UnsupportedError
        ``metric.discrete`` where there is none.
    """
    selecting = selecting_inputs(context.model.proto.graph)
    found = [name for name in context.maps if context.inputs[name].dtype.kind in "fiu" and name not in selecting]
    if not found:
        raise UnsupportedError(
            "metric.discrete",
            f"all that is explained ({', '.join(map(repr, context.maps))}) is words or categories: no change of it is small",
            "metrics that add to the input are for numbers; those of the other categories take words too",
        )
    return found


def noisy(
    context: MetricContext, sample: int, count: int, radius: float, scale: Scale, noise: Noise
) -> dict[str, Array]:
    """Copies of a sample with noise added, input name -> (n, ...) of the input's type; missing values stay missing."""
    rng = context.generator(sample)
    copies = {}
    for name in changeable(context):
        x = np.asarray(context.inputs[name][sample], np.float64)
        shape = (count, *x.shape)
        drawn = rng.uniform(-1.0, 1.0, shape) if noise == "uniform" else rng.standard_normal(shape)
        spread = 1.0 if scale == "absolute" else _extent(context, name, x)
        copies[name] = _typed(x + radius * spread * drawn, context.inputs[name].dtype)
    return copies


def moved(context: MetricContext, sample: int, most: int) -> dict[tuple[str, str], tuple[Array, dict[str, Array]]]:
    """A sample moved by -most to most elements along each axis of places; what comes in at the border repeats it.

    Returns
    -------
    dict
        Input and axis letter -> the steps without 0, (n,) int64, and the copies by input name, (n, ...); empty for tables.
    """
    found = {}
    for name in changeable(context):
        x = context.inputs[name][sample]
        letters = context.model.axes(name, context.inputs[name].shape).letters[1:]
        for axis, letter in enumerate(letters):
            side = x.shape[axis]
            reach = min(most, side - 1)
            if letter not in PLACES or reach < 1:
                continue
            steps = np.array([step for step in range(-reach, reach + 1) if step], np.int64)
            at = [np.clip(np.arange(side) - step, 0, side - 1) for step in steps]
            found[name, letter] = steps, {name: np.stack([x.take(each, axis) for each in at])}
    return found


def explained(context: MetricContext, sample: int, copies: Mapping[str, Array]) -> Neighbours:
    """Explain changed copies of a sample as it was explained."""
    maps = context.explain_copies(sample, copies)
    count = len(next(iter(copies.values())))
    flat = np.concatenate([maps[name].reshape(count, -1) for name in context.maps], axis=1)
    squares = np.zeros(count)
    for name, copy in copies.items():
        change = copy.astype(np.float64) - np.asarray(context.inputs[name][sample], np.float64)
        squares += np.square(np.nan_to_num(change)).reshape(count, -1).sum(axis=1)
    predicted, own = context.predicted(sample, copies), context.predicted(sample)
    changed = None if predicted is None or own is None else predicted != own
    return Neighbours(context.flat(sample), flat, np.sqrt(squares), changed)


def size_of(context: MetricContext, sample: int) -> float:
    """The Euclidean norm of a sample over all inputs that can be changed by little."""
    values = [np.nan_to_num(np.asarray(context.inputs[name][sample], np.float64)) for name in changeable(context)]
    return float(np.sqrt(sum(np.square(value).sum() for value in values)))


def _extent(context: MetricContext, name: str, x: Array) -> Array | float:
    """The scale of a sample's values, broadcastable to it; 0 where all of them are."""
    letters = context.model.axes(name, context.inputs[name].shape).letters[1:]
    if not set(letters) & set(PLACES):  # columns, each with its own unit
        own = np.nan_to_num(np.abs(x))
        fitted = context.model.fitted_ranges.get(name)
        if fitted is None or x.shape not in ((), fitted.low.shape):
            return own
        width = (fitted.high - fitted.low).reshape(x.shape)
        return np.where(np.isfinite(width), width, own)
    known = x[np.isfinite(x)]
    if not known.size:
        return 0.0
    return float(np.ptp(known)) or float(np.abs(known).max())


def _typed(values: Array, dtype: np.dtype) -> Array:
    """Values as an input's type; of whole numbers the nearest that it holds."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = np.clip(np.rint(values), info.min, info.max)
    return values.astype(dtype)
