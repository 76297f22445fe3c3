"""The features that LIME, SHAP and ablation work with: segments of the input, and scores where some are replaced.

Belongs here: what is changed, how it is cut into segments, from values per segment to a map. Not here: the methods, what
replaces a segment (``replacement``), random masks (``random_masks``).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analyzer.executor.batched_runs import Source, count_of, rows_of
from analyzer.explanation import Result
from analyzer.perturbation.budget import Progress
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.fill_parameter import Fill, replacement_for
from analyzer.perturbation.replacement import BackgroundRows, Replacement, notes_of
from analyzer.targets.target import Resolved

if TYPE_CHECKING:
    from analyzer.engines.protocol import Engine

Kind = Literal["image", "table", "series", "tokens"]


@dataclass(frozen=True)
class Segmentation:
    """One sample cut into segments.

    Attributes
    ----------
    ids
        Of the sample's rank and broadcastable to it, numbered from 0 without gaps.
    notes
        What the user should know.
    """

    ids: Array
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def count(self) -> int:
        """How many there are."""
        return int(self.ids.max()) + 1

    def spread(self, values: Array) -> Array:
        """Every element with its segment's value."""
        return np.asarray(values[self.ids])


def feature_notes(replacement: Replacement, segmentations: Iterable[Segmentation]) -> list[str]:
    """What the user should know of a replacement and of how the samples were cut, each note once."""
    return list(dict.fromkeys([*notes_of(replacement), *(note for each in segmentations for note in each.notes)]))


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

    def replacement(self, fill: Fill | list[Any], background: int = 100) -> Replacement:
        """What replaced segments become; see :func:`~analyzer.perturbation.fill_parameter.replacement_for`."""
        values = self.values if self.embedded or self.joined else None
        columns = self.evaluator.columns if self.joined else ()
        return replacement_for(self.evaluator, self.name, fill, values=values, columns=columns, background=background)

    def segmentation(self, sample: int, how: Any) -> Segmentation:
        """One sample cut as a method's ``segments`` says; None suits the input."""
        from analyzer.inputs import segment_with_notes

        x, seed = self.values[sample], self.evaluator.seed
        if self.embedded:
            return Segmentation(*segment_with_notes(x, np.asarray(how), None, seed))
        kind, layout = _kind(self.evaluator, self.name, x)
        if isinstance(how, str) and how.isdigit():
            how = int(how)
        count, how = (how, None) if isinstance(how, int) else (None, how)
        ids, notes = segment_with_notes(x, how, count, seed, kind=kind, layout=layout)
        return Segmentation(ids.reshape((1,) * (x.ndim - ids.ndim) + ids.shape), notes)

    def segmentations(self, how: Any) -> list[Segmentation]:
        """Every sample cut as a method's ``segments`` says."""
        return [self.segmentation(sample, how) for sample in range(len(self.values))]

    def scores(self, sample: int, copies: Iterable[Array]) -> Iterator[float]:
        """Scores of perturbed copies of one sample, in order, a batch at a time."""
        if not self.embedded:
            yield from self.evaluator.evaluate(sample, copies, joined=self.joined)
            return
        engine, times = self._repeated(sample)
        remaining = iter(copies)
        while block := list(itertools.islice(remaining, times)):
            padded = block + block[-1:] * (times - len(block))
            scores = engine.scores_with_inputs({self.name: np.stack(padded).astype(self.values.dtype)})
            yield from (float(score) for score in scores[: len(block)])

    def masked_scores(
        self, sample: int, segmentation: Segmentation, source: Source, replacement: Replacement
    ) -> Iterator[float]:
        """Scores of one sample with some of its segments replaced, in order.

        Parameters
        ----------
        source
            Gives rows ``present``: (n, segments) bool, false for what is replaced.
        replacement
            The sample's; an array is of its shape.
        """
        ids = segmentation.ids
        if not self.embedded and not self.joined:
            yield from self.evaluator.segments(sample, ids, source, replacement)
            return
        x, masks = self.values[sample], (row[ids] for row in _one_by_one(source))
        if isinstance(replacement, BackgroundRows):
            yield from replacement.averages(lambda copies: self.scores(sample, copies), x, masks)
        else:
            assert isinstance(replacement, np.ndarray), "columns and embeddings have no surroundings"
            yield from self.scores(sample, (np.where(mask, x, replacement) for mask in masks))

    def scorer(
        self, sample: int, segmentation: Segmentation, replacement: Replacement, progress: Progress
    ) -> Callable[[Array], Iterator[float]]:
        """A function from ``present`` (n, segments) to the scores of one sample, each counted by the progress."""

        def scores(present: Array) -> Iterator[float]:
            source = rows_of(present=present)
            return progress.counted(self.masked_scores(sample, segmentation, source, replacement[sample]))

        return scores

    def _repeated(self, sample: int) -> tuple[Engine, int]:
        """The engine on one sample repeated to a batch, and how often it is."""
        evaluator = self.evaluator
        times = evaluator.model.fixed_batch or min(evaluator.batch_size(), 16)
        inputs = {name: evaluator.repeated(name, sample, times) for name in evaluator.inputs}
        assert isinstance(evaluator.target, Resolved)
        weights = np.repeat(evaluator.target.weights[sample : sample + 1], times, axis=0)
        return evaluator.engine_on(inputs, weights), times

    def result(self, maps: Sequence[Array], notes: Sequence[str], record: dict[str, Any]) -> Result:
        """Maps per sample, of its rank; of an embedding, their sum over its width beside them."""
        stacked = np.stack(maps).astype(np.float32)
        if self.joined:
            columns, inputs = self.evaluator.columns, self.evaluator.inputs
            by_column = {name: stacked[:, at].reshape(inputs[name].shape) for at, name in enumerate(columns)}
            return Result(by_column, notes=list(notes), record=record)
        notes = [*notes, *self.evaluator.unchanged]
        if self.engine is None:
            return Result({self.name: stacked}, notes=notes, record=record)
        record = {**record, "parity": self.engine.record()["parity"]}
        rank = self.evaluator.inputs[self.name].ndim
        wide = np.broadcast_to(stacked, np.broadcast_shapes(stacked.shape, self.values.shape))
        summed = wide.reshape(*wide.shape[:rank], -1).sum(axis=-1)
        return Result({self.name: summed}, {self.name: wide}, notes=notes, record=record)


def _one_by_one(source: Source) -> Iterator[Array]:
    """The ``present`` of a source's rows."""
    while count_of(rows := source(1)):
        yield rows["present"][0]


def _kind(evaluator: Evaluator, name: str, x: Array) -> tuple[Kind, Literal["CHW", "HWC"] | None]:
    """What a sample is and where its channels are."""
    if x.ndim in (2, 3):
        last = evaluator.model.channel_axis(name, (1, *x.shape)) == x.ndim
        return "image" if x.ndim == 3 else "series", "HWC" if last else "CHW"
    return "tokens" if x.dtype.kind in "iu" else "table", None
