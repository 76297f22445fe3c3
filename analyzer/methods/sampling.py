"""What perturbation methods share: what is changed, how it is cut, random masks in blocks and their running moments.

Belongs here: what more than one of these methods needs. Not here: the methods, what replaces a removed element.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analyzer.methods.context import Array, Context, Result
from analyzer.methods.maps import channel_axis, spatial_axes
from analyzer.methods.occlusion import Fill, replaced

if TYPE_CHECKING:
    from analyzer.methods.whitebox import Engine

Kind = Literal["image", "table", "series", "tokens"]
Draw = Callable[[np.random.Generator, int], Array]


@dataclass(frozen=True)
class Field:
    """What a method changes: an input, the embedding that tokens select, or the columns of a table given as inputs.

    Attributes
    ----------
    values
        The unchanged values, batch first.
    embedded
        Whether they are an embedding; its copies run through the trace instead of the runtime.
    joined
        Whether they are a table put together from several inputs, one column from each.
    """

    context: Context
    name: str
    values: Array
    embedded: bool = False
    joined: bool = False

    @classmethod
    def of(cls, context: Context, segments: Any = None) -> Field:
        """The perturbed input or columns; for tokens whose mask has the embedding's rank, the embedding."""
        name = context.perturbed
        if context.columns:
            table = np.stack([context.inputs[column].reshape(-1) for column in context.columns], axis=1)
            return cls(context, name, table.astype(np.float64), joined=True)
        values = context.inputs[name]
        if values.dtype.kind in "iu" and isinstance(segments, list | tuple | np.ndarray):
            shape = list(np.shape(segments))
            while len(shape) > 1 and shape[0] == 1:
                del shape[0]
            if len(shape) >= values.ndim and name in {s.name for s in context.engine.sources if s.tokens}:
                return cls(context, name, context.engine.values()[name], True)
        return cls(context, name, values)

    def replaced(self, how: Fill | Array) -> Array:
        """What removed elements become; of the values' shape and dtype."""
        if not self.embedded and not self.joined:
            return replaced(self.context, self.name, how)
        return replaced(replace(self.context, inputs={self.name: self.values}), self.name, how)

    def segments(self, sample: int, how: Any) -> tuple[Array, tuple[str, ...]]:
        """Segment ids of one sample, see :func:`segments_of`."""
        if not self.embedded:
            return segments_of(self.context, self.values[sample], how)
        from analyzer.inputs import segment_with_notes

        return segment_with_notes(self.values[sample], np.asarray(how), None, self.context.seed)

    def scores(self, sample: int, copies: Iterable[Array]) -> Iterator[float]:
        """Scores of changed copies of one sample, in order, a batch at a time."""
        if not self.embedded:
            yield from self.context.evaluate(sample, copies, joined=self.joined)
            return
        engine = self._alone(sample)
        entry = next(source.node for source in engine.sources if source.name == self.name)
        remaining = iter(copies)
        while block := list(itertools.islice(remaining, engine.batch)):
            padded = block + block[-1:] * (engine.batch - len(block))
            scores = engine.score_with(entry, np.stack(padded).astype(self.values.dtype))
            yield from (float(score) for score in scores[: len(block)])

    def _alone(self, sample: int) -> Engine:
        """The engine on one sample, repeated to a batch."""
        context = self.context
        times = context.model.fixed_batch or min(context.batch_size(), 16)
        axes = {name: context.batch_axis(name) for name in context.inputs}
        inputs = {
            name: value if (axis := axes[name]) is None else np.repeat(value.take([sample], axis), times, axis)
            for name, value in context.inputs.items()
        }
        target = context.resolved.rows(sample, sample + 1)
        target = replace(
            target,
            weights=np.repeat(target.weights, times, axis=0),
            names=target.names * times,
            classes=target.classes * times,
        )
        return replace(context, inputs=inputs, resolved=target).engine

    def result(self, maps: Sequence[Array], **more: Any) -> Result:
        """Maps per sample, of its rank; of an embedding, their sum over its width beside them."""
        stacked = np.stack(maps).astype(np.float32)
        if self.joined:
            names, inputs = self.context.columns, self.context.inputs
            return Result({n: stacked[:, i].reshape(inputs[n].shape) for i, n in enumerate(names)}, **more)
        more["notes"] = [*more.get("notes", []), *self.context.unchanged]
        if not self.embedded:
            return Result({self.name: stacked}, **more)
        more["record"] = {
            **more.get("record", {}),
            "parity": self.context.model.require_parity(self.context.inputs).to_dict(),
        }
        rank = self.context.inputs[self.name].ndim
        wide = np.broadcast_to(stacked, np.broadcast_shapes(stacked.shape, self.values.shape))
        return Result({self.name: wide.reshape(*wide.shape[:rank], -1).sum(axis=-1)}, {self.name: wide}, **more)


def segments_of(context: Context, x: Array, how: Any) -> tuple[Array, tuple[str, ...]]:
    """Segment ids of one sample, of its rank and broadcastable to it, numbered from 0 without gaps; and what was noted."""
    from analyzer.inputs import segment_with_notes

    kind, layout = _kind(context, x)
    count = None
    if isinstance(how, str) and how.isdigit():
        how = int(how)
    if isinstance(how, int):
        count, how = how, None
    ids, notes = segment_with_notes(x, how, count, context.seed, kind=kind, layout=layout)
    return ids.reshape((1,) * (x.ndim - ids.ndim) + ids.shape), notes


def _kind(context: Context, x: Array) -> tuple[Kind, Literal["CHW", "HWC"] | None]:
    """What a sample is and where its channels are."""
    if x.ndim in (2, 3):
        last = channel_axis((1, *x.shape), context.model) == x.ndim
        return "image" if x.ndim == 3 else "series", "HWC" if last else "CHW"
    return "tokens" if x.dtype.kind in "iu" else "table", None


@dataclass
class Moments:
    """Sums over random masks from which means, covariances and their standard errors follow; nothing else is kept.

    Attributes
    ----------
    reference
        Subtracted from every score before it is summed, for the sake of rounding.
    scores
        (3,): sums of 1, g and g², where g = score - reference.
    first, second
        (3, *mask): the same sums with each term times the mask, and times its square.
    """

    reference: float
    scores: Array = field(default_factory=lambda: np.zeros(3))
    first: Array = field(default_factory=lambda: np.zeros(()))
    second: Array = field(default_factory=lambda: np.zeros(()))

    def add(self, masks: Array, scores: Array) -> None:
        """Take up masks (n, *mask) with their scores (n,)."""
        g = scores - self.reference
        powers = np.stack([np.ones_like(g), g, g**2])
        wide = np.ascontiguousarray(masks, np.float64)
        self.scores = self.scores + powers.sum(axis=1)
        self.first = self.first + np.tensordot(powers, wide, axes=1)
        self.second = self.second + np.tensordot(powers, wide**2, axes=1)

    def product(self) -> tuple[Array, Array]:
        """Mean of score times mask, and its standard error."""
        n, c = self.scores[0], self.reference
        mean = (self.first[1] + c * self.first[0]) / n
        square = (self.second[2] + 2 * c * self.second[1] + c**2 * self.second[0]) / n
        return mean, np.sqrt(np.maximum(square - mean**2, 0) / max(n - 1, 1))

    def covariance(self) -> tuple[Array, Array]:
        """Unbiased covariance of score and mask, and its standard error."""
        n, at, mask = self.scores[0], self.scores[1] / self.scores[0], self.first[0] / self.scores[0]
        mean = self.first[1] / n - at * mask
        one, two = (m[2] - 2 * at * m[1] + at**2 * m[0] for m in (self.first, self.second))
        none = self.scores[2] - n * at**2
        square = (two - 2 * mask * one + mask**2 * none) / n
        return mean * n / max(n - 1, 1), np.sqrt(np.maximum(square - mean**2, 0) / max(n - 1, 1))

    def correlation(self) -> tuple[Array, Array]:
        """Pearson's correlation of score and mask, and its standard error; 0 where either doesn't vary."""
        n, at, mask = self.scores[0], self.scores[1] / self.scores[0], self.first[0] / self.scores[0]
        spread = np.maximum(self.scores[2] / n - at**2, 0) * np.maximum(self.second[0] / n - mask**2, 0)
        scale = max(float(self.scores[2] / n), 1e-300) * np.maximum(self.second[0] / n, 1e-300)
        varies = spread > 1e-12 * scale
        found = np.where(varies, (self.first[1] / n - at * mask) / np.sqrt(np.where(varies, spread, 1)), 0.0)
        found = np.clip(found, -1, 1)
        return found, np.sqrt((1 - found**2) / max(n - 2, 1))


def probe(context: Context, fill: Fill, total: int, draw: Draw) -> list[Moments]:
    """Run every sample under the same random masks, 1 where it shows, and sum up what they scored.

    Parameters
    ----------
    total
        Masks per sample: so many evaluations.
    draw
        (generator, n) -> n masks over the place axes; the numbers must not depend on how the total is cut into n.
    """
    name = context.perturbed
    value = context.inputs[name]
    replacement = replaced(context, name, fill)
    axes = spatial_axes(value.shape, context.model)
    block = context.batch_size() * -(-16 // context.batch_size())
    found = []
    for sample, x in enumerate(value):
        rng, moments, gone = (
            np.random.default_rng(context.seed),
            Moments(float(context.score[sample])),
            replacement[sample],
        )
        for start in range(0, total, block):
            masks = draw(rng, min(block, total - start))
            placed = masks if len(axes) == x.ndim else np.expand_dims(masks, channel_axis(value.shape, context.model))
            copies = (mixed(x, gone, mask) for mask in placed)
            moments.add(masks, np.fromiter(context.evaluate(sample, copies), np.float64))
            context.advance(sample * total + start + len(masks), total * len(value))
        found.append(moments)
    return found


def mixed(x: Array, gone: Array, mask: Array) -> Array:
    """``x`` where the mask is 1, its replacement where it is 0; whole numbers are never blended."""
    if x.dtype.kind in "iu":
        return np.where(mask >= 0.5, x, gone)
    return np.asarray(gone + mask.astype(x.dtype) * (x - gone), x.dtype)


def interpolation(cells: int, side: int) -> Array:
    """The (side, cells) matrix of linear interpolation between cell centres, constant beyond the outer ones."""
    at = np.clip((np.arange(side) + 0.5) * cells / side - 0.5, 0, cells - 1)
    low = np.minimum(at.astype(int), max(cells - 2, 0))
    matrix = np.zeros((side, cells))
    rows = np.arange(side)
    matrix[rows, low] = 1 - (at - low)
    if cells > 1:
        matrix[rows, low + 1] = at - low
    return matrix


def means(values: Sequence[Array]) -> list[float]:
    """The mean of every array, for the record."""
    return [float(np.mean(value)) for value in values]
