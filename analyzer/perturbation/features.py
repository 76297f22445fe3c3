"""The features that LIME, SHAP and ablation work with: segments of the input, and scores where some are replaced.

Belongs here: what is changed, how it is cut into segments, from values per segment to maps. Not here: the methods, what
replaces a segment (``replacement``), random masks (``random_masks``).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analyzer.errors import UsageError
from analyzer.executor.batched_runs import Source, count_of, rows_of
from analyzer.executor.mask_ops import Segments
from analyzer.explanation import Result
from analyzer.inputs.segments import blocks
from analyzer.perturbation.budget import Progress
from analyzer.perturbation.evaluator import Array, Evaluator, one_by_one
from analyzer.perturbation.fill_parameter import Fill, column_replacements, replacement_for
from analyzer.perturbation.replacement import BackgroundRows, MaskedInput, Replacement, Replacements
from analyzer.targets.target import Resolved

if TYPE_CHECKING:
    from analyzer.engines.protocol import Engine

Kind = Literal["image", "table", "series", "tokens"]


@dataclass(frozen=True)
class Segmentation:
    """One sample cut into segments, which all changed inputs share the numbers of.

    Attributes
    ----------
    ids
        Input name -> ids of the sample's rank and broadcastable to it; over all inputs numbered from 0 without gaps.
    notes
        What the user should know.
    """

    ids: Mapping[str, Array]
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def count(self) -> int:
        """How many there are."""
        return 1 + max(int(each.max()) for each in self.ids.values())

    def spread(self, values: Array) -> dict[str, Array]:
        """Every element of every input with its segment's value."""
        return {name: np.asarray(values[ids]) for name, ids in self.ids.items()}


def feature_notes(replacements: Replacements, segmentations: Iterable[Segmentation]) -> list[str]:
    """What the user should know of replacements and of how the samples were cut, each note once."""
    return list(dict.fromkeys([*replacements.notes, *(note for each in segmentations for note in each.notes)]))


@dataclass(frozen=True)
class FeatureSpace:
    """What a method changes: inputs, or the embedding that tokens select.

    Attributes
    ----------
    values
        Input name -> the unchanged values, batch first.
    engine
        Where they are an embedding, the engine on the unchanged inputs: its copies run through the trace instead of the
        runtime.
    """

    evaluator: Evaluator
    values: Mapping[str, Array]
    engine: Engine | None = None

    @property
    def embedded(self) -> bool:
        """Whether the values are an embedding."""
        return self.engine is not None

    @property
    def as_row(self) -> bool:
        """Whether the inputs are cut together, as the columns of one row."""
        return bool(self.evaluator.columns)

    @classmethod
    def of(cls, evaluator: Evaluator, segments: Any = None) -> FeatureSpace:
        """The changed inputs; for tokens whose mask has the embedding's rank, the embedding."""
        values = {name: evaluator.inputs[name] for name in evaluator.changed}
        name, only = next(iter(values.items()))
        if len(values) == 1 and only.dtype.kind in "iu" and isinstance(segments, list | tuple | np.ndarray):
            shape = list(np.shape(segments))
            while len(shape) > 1 and shape[0] == 1:
                del shape[0]
            if len(shape) >= only.ndim and isinstance(evaluator.target, Resolved):
                engine = evaluator.engine_on(evaluator.inputs, evaluator.target.weights)
                if name in {entry.name for entry in engine.explained if entry.tokens}:
                    return cls(evaluator, {name: engine.values()[name]}, engine)
        return cls(evaluator, values)

    def replacements(
        self, fill: Fill | list[Any], background: int = 100, channelless: Fill | None = None
    ) -> Replacements:
        """What replaced segments become; see :func:`~analyzer.perturbation.fill_parameter.replacement_for`.

        Parameters
        ----------
        channelless
            Stands in for the fill ``mean`` where an input has no channels to take a mean of; None takes the mean of all.
        """
        evaluator = self.evaluator
        fills: dict[str, Any]
        if channelless is not None and isinstance(fill, str) and fill == "mean":
            fills = {name: fill if self._has_channels(value) else channelless for name, value in self.values.items()}
        else:
            fills = dict.fromkeys(self.values, fill)
        if evaluator.columns:
            return Replacements(column_replacements(evaluator, next(iter(fills.values())), background))
        return Replacements(
            {
                name: replacement_for(
                    evaluator, name, fills[name], values=value if self.embedded else None, background=background
                )
                for name, value in self.values.items()
            }
        )

    def _has_channels(self, values: Array) -> bool:
        return not self.embedded and values.ndim > 2 and values.dtype.kind not in "iu"

    def segmentation(self, sample: int, how: Any) -> Segmentation:
        """One sample cut as a method's ``segments`` says; None suits each input.

        A number of segments is shared by the inputs in proportion to those that suit them.

        Raises
        ------
        UsageError
            ``params.invalid`` for a mask of segments where several inputs are changed.
        """
        if isinstance(how, str) and how.isdigit():
            how = int(how)
        if self.as_row:
            return self._columns(sample, how)
        if len(self.values) == 1:
            name, value = next(iter(self.values.items()))
            ids, notes = self.cut(name, value[sample, ...], how)
            return Segmentation({name: ids}, notes)
        if isinstance(how, list | tuple | np.ndarray):
            raise UsageError(
                "params.invalid",
                f"a mask of segments is for one input, and {', '.join(map(repr, self.values))} are changed",
                "name the input that it is for with inputs=",
            )
        named = how if isinstance(how, str) else None
        cut = {
            name: self.cut(name, value[sample, ...], self._suiting(name, named)) for name, value in self.values.items()
        }
        if isinstance(how, int):
            counts = {name: int(ids.max()) + 1 for name, (ids, _) in cut.items()}
            each = {name: max(1, round(how * count / sum(counts.values()))) for name, count in counts.items()}
            cut = {name: self.cut(name, value[sample, ...], each[name]) for name, value in self.values.items()}
        starts = itertools.accumulate((int(ids.max()) + 1 for ids, _ in cut.values()), initial=0)
        numbered = {name: ids + start for (name, (ids, _)), start in zip(cut.items(), starts, strict=False)}
        return Segmentation(numbered, tuple(dict.fromkeys(note for _, notes in cut.values() for note in notes)))

    def segmentations(self, how: Any) -> list[Segmentation]:
        """Every sample cut as a method's ``segments`` says."""
        return [self.segmentation(sample, how) for sample in range(self.evaluator.batch)]

    def masked_scores(
        self, sample: int, segmentation: Segmentation, source: Source, replacements: Mapping[str, Replacement]
    ) -> Iterator[float]:
        """Scores of one sample with some of its segments replaced, in order.

        Parameters
        ----------
        source
            Gives rows ``present``: (n, segments) bool, false for what is replaced.
        replacements
            The sample's; an array is of its shape.
        """
        if self.embedded:
            yield from self._embedded_scores(sample, segmentation, source, replacements)
            return
        parts = {name: self.masked_input(name, ids, replacements[name]) for name, ids in segmentation.ids.items()}
        yield from one_by_one(self.evaluator.masked(sample, parts, source))

    def masked_input(self, name: str, ids: Array, replacement: Replacement) -> MaskedInput:
        """An input of one sample under masks of its segments."""
        return MaskedInput(Segments(ids.shape), replacement, {"ids": ids.reshape(-1).astype(np.int64)})

    def scorer(
        self, sample: int, segmentation: Segmentation, replacements: Replacements, progress: Progress
    ) -> Callable[[Array], Iterator[float]]:
        """A function from ``present`` (n, segments) to the scores of one sample, each counted by the progress."""

        def scores(present: Array) -> Iterator[float]:
            source = rows_of(present=present)
            return progress.counted(self.masked_scores(sample, segmentation, source, replacements[sample]))

        return scores

    def result(self, maps: Sequence[Mapping[str, Array]], notes: Sequence[str], record: dict[str, Any]) -> Result:
        """Maps per sample, of its rank; of an embedding, their sum over its width beside them."""
        stacked = {name: np.stack([each[name] for each in maps]).astype(np.float32) for name in self.values}
        if self.engine is None:
            return Result(stacked, notes=list(notes), record=record)
        record = {**record, "parity": self.engine.record()["parity"]}
        name, values = next(iter(self.values.items()))
        rank = self.evaluator.inputs[name].ndim
        wide = np.broadcast_to(stacked[name], np.broadcast_shapes(stacked[name].shape, values.shape))
        summed = wide.reshape(*wide.shape[:rank], -1).sum(axis=-1)
        return Result({name: summed}, {name: wide}, notes=list(notes), record=record)

    def with_standard_errors(
        self, result: Result, segmentations: Sequence[Segmentation], errors: Sequence[Array | None]
    ) -> Result:
        """A result with each segment's standard error on all its elements; NaN for a sample without.

        Of an embedding or a text, segments' errors say nothing of the map, a sum over them: there they stay in the record.
        """
        if not (self.embedded or self.evaluator.texts) and any(each is not None for each in errors):
            known = [np.full(s.count, np.nan) if e is None else e for s, e in zip(segmentations, errors, strict=True)]
            maps = [s.spread(each) for s, each in zip(segmentations, known, strict=True)]
            result.standard_errors = self.result(maps, (), {}).attributions
        return result

    def cut(self, name: str, x: Array, how: Any) -> tuple[Array, tuple[str, ...]]:
        """The ids of one input of one sample, from 0, of its rank; and what the user should know."""
        from analyzer.inputs import segment_with_notes

        seed = self.evaluator.seed
        if self.embedded:
            return segment_with_notes(x, np.asarray(how), None, seed)
        kind, layout = _kind(self.evaluator, name, x)
        count, how = (how, None) if isinstance(how, int) else (None, how)
        if x.ndim > 3 and not isinstance(how, list | tuple | np.ndarray):
            spatial = self.evaluator.changing(name).layout
            return blocks(spatial.sides, how, count).reshape(spatial.mask_shape), ()
        ids, notes = segment_with_notes(x, how, count, seed, kind=kind, layout=layout)
        return ids.reshape((1,) * (x.ndim - ids.ndim) + ids.shape), notes

    def _suiting(self, name: str, how: str | None) -> str | None:
        """A named way to cut, for the inputs that it is for: pictures."""
        return how if _kind(self.evaluator, name, self.values[name][0, ...])[0] == "image" else None

    def _columns(self, sample: int, how: Any) -> Segmentation:
        """A table whose columns are inputs of their own, cut as one row."""
        from analyzer.inputs import segment_with_notes

        row = np.arange(len(self.values), dtype=np.float64)  # cut by its length alone
        count, how = (how, None) if isinstance(how, int) else (None, how)
        ids, notes = segment_with_notes(row, how, count, self.evaluator.seed, kind="table", layout=None)
        each = zip(self.values.items(), ids.reshape(-1), strict=True)
        return Segmentation({name: np.full((1,) * (value.ndim - 1), at) for (name, value), at in each}, notes)

    def _embedded_scores(
        self, sample: int, segmentation: Segmentation, source: Source, replacements: Mapping[str, Replacement]
    ) -> Iterator[float]:
        name, values = next(iter(self.values.items()))
        replacement, masks = replacements[name], (row[segmentation.ids[name]] for row in _one_by_one(source))
        if isinstance(replacement, BackgroundRows):
            yield from replacement.averages(lambda copies: self._scores(sample, copies), values[sample], masks)
            return
        assert isinstance(replacement, np.ndarray), "embeddings have no surroundings"
        yield from self._scores(sample, (np.where(mask, values[sample], replacement) for mask in masks))

    def _scores(self, sample: int, copies: Iterable[Array]) -> Iterator[float]:
        """Scores of perturbed embeddings of one sample, in order, a batch at a time."""
        name, values = next(iter(self.values.items()))
        engine, times = self._repeated(sample)
        remaining = iter(copies)
        while block := list(itertools.islice(remaining, times)):
            padded = block + block[-1:] * (times - len(block))
            scores = engine.scores_with_inputs({name: np.stack(padded).astype(values.dtype)})
            self.evaluator.require_scores(sample, scores[: len(block)])
            yield from (float(score) for score in scores[: len(block)])

    def _repeated(self, sample: int) -> tuple[Engine, int]:
        """The engine on one sample repeated to a batch, and how often it is."""
        evaluator = self.evaluator
        times = evaluator.model.fixed_batch or min(evaluator.batch_size(), 16)
        inputs = {name: evaluator.repeated(name, sample, times) for name in evaluator.inputs}
        assert isinstance(evaluator.target, Resolved)
        weights = np.repeat(evaluator.target.weights[sample : sample + 1], times, axis=0)
        return evaluator.engine_on(inputs, weights), times


def _one_by_one(source: Source) -> Iterator[Array]:
    """The ``present`` of a source's rows."""
    while count_of(rows := source(1)):
        yield rows["present"][0]


def _kind(evaluator: Evaluator, name: str, x: Array) -> tuple[Kind, Literal["CHW", "HWC"] | None]:
    """What a sample is and where its channels are."""
    if x.ndim in (2, 3):
        last = evaluator.changing(name).layout.channels == x.ndim
        return "image" if x.ndim == 3 else "series", "HWC" if last else "CHW"
    return "tokens" if x.dtype.kind in "iu" else "table", None
