"""What perturbation methods share: what is changed, how it is cut, its scores with some segments replaced.

Belongs here: what more than one of these methods needs. Not here: the methods, what replaces a removed element
(``replacement``), random masks (``random_masks``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analyzer.executor.batched_runs import Source, count_of
from analyzer.explanation import Result
from analyzer.inputs.layout import channel_axis
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.replacement import BackgroundRows, Fill, Replacement, replaced
from analyzer.targets.target import Resolved

if TYPE_CHECKING:
    from analyzer.engines.protocol import Engine

Kind = Literal["image", "table", "series", "tokens"]


@dataclass(frozen=True)
class FeatureSpace:
    """What a method changes: an input, the embedding that tokens select, or the columns of a table given as inputs.

    Attributes
    ----------
    values
        The unchanged values, batch first.
    engine
        Where they are an embedding, the engine on the unchanged inputs: its copies run through the trace instead of the
        runtime.
    joined
        Whether they are a table put together from several inputs, one column from each.
    """

    evaluator: Evaluator
    name: str
    values: Array
    engine: Engine | None = None
    joined: bool = False

    @property
    def embedded(self) -> bool:
        """Whether the values are an embedding."""
        return self.engine is not None

    @classmethod
    def of(cls, evaluator: Evaluator, segments: Any = None) -> FeatureSpace:
        """The perturbed input or columns; for tokens whose mask has the embedding's rank, the embedding."""
        name = evaluator.perturbed
        if evaluator.columns:
            table = np.stack([evaluator.inputs[column].reshape(-1) for column in evaluator.columns], axis=1)
            return cls(evaluator, name, table.astype(np.float64), joined=True)
        values = evaluator.inputs[name]
        if values.dtype.kind in "iu" and isinstance(segments, list | tuple | np.ndarray):
            shape = list(np.shape(segments))
            while len(shape) > 1 and shape[0] == 1:
                del shape[0]
            if len(shape) >= values.ndim and isinstance(evaluator.target, Resolved):
                engine = evaluator.engine_on(evaluator.inputs, evaluator.target.weights)
                if name in {entry.name for entry in engine.explained if entry.tokens}:
                    return cls(evaluator, name, engine.values()[name], engine)
        return cls(evaluator, name, values)

    def replaced(self, how: Fill | list[Any], background: int = 100) -> Any:
        """What removed elements become, by sample; see :func:`~analyzer.perturbation.replacement.replaced`."""
        given, columns = self.values if self.embedded or self.joined else None, self.evaluator.columns
        return replaced(
            self.evaluator, self.name, how, values=given, columns=columns if self.joined else (), background=background
        )

    def segments(self, sample: int, how: Any) -> tuple[Array, tuple[str, ...]]:
        """Segment ids of one sample, see :func:`segments_of`."""
        if not self.embedded:
            return segments_of(self.evaluator, self.values[sample], how)
        from analyzer.inputs import segment_with_notes

        return segment_with_notes(self.values[sample], np.asarray(how), None, self.evaluator.seed)

    def scores(self, sample: int, copies: Iterable[Array]) -> Iterator[float]:
        """Scores of changed copies of one sample, in order, a batch at a time."""
        if not self.embedded:
            yield from self.evaluator.evaluate(sample, copies, joined=self.joined)
            return
        engine, times = self._repeated(sample)
        remaining = iter(copies)
        while block := list(itertools.islice(remaining, times)):
            padded = block + block[-1:] * (times - len(block))
            scores = engine.scores_with_inputs({self.name: np.stack(padded).astype(self.values.dtype)})
            yield from (float(score) for score in scores[: len(block)])

    def kept_scores(self, sample: int, ids: Array, source: Source, gone: Replacement) -> Iterator[float]:
        """Scores of one sample with some of its segments replaced, in order.

        Parameters
        ----------
        ids
            Of :meth:`segments`.
        source
            Gives rows ``kept``: (n, segments) bool, false for what is replaced.
        gone
            What replaces it; an array is of the sample's shape.
        """
        if not self.embedded and not self.joined:
            yield from self.evaluator.segments(sample, ids, source, gone)
            return
        x, masks = self.values[sample], (row[ids] for row in _one_by_one(source))
        if isinstance(gone, BackgroundRows):
            yield from gone.averages(lambda copies: self.scores(sample, copies), x, masks)
        else:
            assert isinstance(gone, np.ndarray), "columns and embeddings have no surroundings"
            yield from self.scores(sample, (np.where(mask, x, gone) for mask in masks))

    def _repeated(self, sample: int) -> tuple[Engine, int]:
        """The engine on one sample repeated to a batch, and how often it is."""
        evaluator = self.evaluator
        times = evaluator.model.fixed_batch or min(evaluator.batch_size(), 16)
        axes = {name: evaluator.batch_axis(name) for name in evaluator.inputs}
        inputs = {
            name: value if (axis := axes[name]) is None else np.repeat(value.take([sample], axis), times, axis)
            for name, value in evaluator.inputs.items()
        }
        assert isinstance(evaluator.target, Resolved)
        weights = np.repeat(evaluator.target.weights[sample : sample + 1], times, axis=0)
        return evaluator.engine_on(inputs, weights), times

    def result(self, maps: Sequence[Array], **more: Any) -> Result:
        """Maps per sample, of its rank; of an embedding, their sum over its width beside them."""
        stacked = np.stack(maps).astype(np.float32)
        if self.joined:
            names, inputs = self.evaluator.columns, self.evaluator.inputs
            return Result({n: stacked[:, i].reshape(inputs[n].shape) for i, n in enumerate(names)}, **more)
        more["notes"] = [*more.get("notes", []), *self.evaluator.unchanged]
        if self.engine is None:
            return Result({self.name: stacked}, **more)
        more["record"] = {
            **more.get("record", {}),
            "parity": self.engine.record()["parity"],
        }
        rank = self.evaluator.inputs[self.name].ndim
        wide = np.broadcast_to(stacked, np.broadcast_shapes(stacked.shape, self.values.shape))
        return Result({self.name: wide.reshape(*wide.shape[:rank], -1).sum(axis=-1)}, {self.name: wide}, **more)


def _one_by_one(source: Source) -> Iterator[Array]:
    """The ``kept`` of a source's rows."""
    while count_of(rows := source(1)):
        yield rows["kept"][0]


def segments_of(evaluator: Evaluator, x: Array, how: Any) -> tuple[Array, tuple[str, ...]]:
    """Segment ids of one sample, of its rank and broadcastable to it, numbered from 0 without gaps; and what was noted."""
    from analyzer.inputs import segment_with_notes

    kind, layout = _kind(evaluator, x)
    count = None
    if isinstance(how, str) and how.isdigit():
        how = int(how)
    if isinstance(how, int):
        count, how = how, None
    ids, notes = segment_with_notes(x, how, count, evaluator.seed, kind=kind, layout=layout)
    return ids.reshape((1,) * (x.ndim - ids.ndim) + ids.shape), notes


def _kind(evaluator: Evaluator, x: Array) -> tuple[Kind, Literal["CHW", "HWC"] | None]:
    """What a sample is and where its channels are."""
    if x.ndim in (2, 3):
        last = channel_axis((1, *x.shape), evaluator.model.preprocess) == x.ndim
        return "image" if x.ndim == 3 else "series", "HWC" if last else "CHW"
    return "tokens" if x.dtype.kind in "iu" else "table", None
