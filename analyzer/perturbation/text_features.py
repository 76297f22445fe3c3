"""The features of models that take text: columns as they are, and the words of a text.

Belongs here: choosing between these and features of numbers alone (``features``), from values to maps and a list of columns
and words. Not here: words under masks (``words``), what replaces text (``text_fill``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzer.errors import InputError, UsageError
from analyzer.executor.batched_runs import Source
from analyzer.executor.mask_ops import Segments
from analyzer.explanation import Result
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.features import FeatureSpace, Segmentation
from analyzer.perturbation.fill_parameter import Fill
from analyzer.perturbation.replacement import MaskedInput, Replacement, Replacements
from analyzer.perturbation.text_fill import TextFill
from analyzer.perturbation.words import WAYS, MaskedWords, cut_into_words, words_of


def features_of(evaluator: Evaluator, segments: Any = None) -> FeatureSpace:
    """What a method changes, text among it or not; see :meth:`FeatureSpace.of`."""
    return TextSpace.of(evaluator, segments) if evaluator.texts else FeatureSpace.of(evaluator, segments)


@dataclass(frozen=True)
class TextSpace(FeatureSpace):
    """Inputs of which some hold text.

    Attributes
    ----------
    words
        Those whose texts are cut into words.
    """

    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, evaluator: Evaluator, segments: Any = None) -> TextSpace:
        """The changed inputs, cut as ``segments`` says; see :func:`~analyzer.perturbation.words.cut_into_words`."""
        values = {name: evaluator.inputs[name] for name in evaluator.changed}
        return cls(evaluator, values, words=cut_into_words(evaluator, segments))

    @property
    def as_row(self) -> bool:
        """Whether the inputs are cut together, as the columns of one row."""
        return super().as_row and not self.words

    def replacements(
        self, fill: Fill | list[Any], background: int = 100, channelless: Fill | None = None
    ) -> Replacements:
        """What replaced segments become; see :meth:`TextFill.read`."""
        return TextFill(self.evaluator, self.words, background).read(fill, channelless)

    def segmentation(self, sample: int, how: Any) -> Segmentation:
        """One sample cut as a method's ``segments`` says; ``words`` and ``columns`` have been taken up."""
        return super().segmentation(sample, None if isinstance(how, str) and how in WAYS else how)

    def cut(self, name: str, x: Array, how: Any) -> tuple[Array, tuple[str, ...]]:
        """The ids of one input of one sample, of its rank; of a text that is cut one for each word.

        Raises
        ------
        UsageError
            ``segments.bad_count`` for a text without words, where there is nothing else.
        """
        if name not in self.words:
            return super().cut(name, x, how)
        from analyzer.inputs import segment_with_notes

        words = words_of(x)
        if len(self.values) == 1 and not words[0].strip():
            raise UsageError("segments.bad_count", f"a text of input {name!r} has no words", "give a text with words")
        count, how = (how, None) if isinstance(how, int) else (None, how)
        places = np.arange(len(words), dtype=np.float64)
        return segment_with_notes(places, how, count, self.evaluator.seed, kind="table")

    def masked_input(self, name: str, ids: Array, replacement: Replacement) -> MaskedInput:
        """An input of one sample under masks of its segments, or words."""
        kind = MaskedWords if name in self.words else MaskedInput
        return kind(Segments(ids.shape), replacement, {"ids": ids.reshape(-1).astype(np.int64)})

    def masked_scores(
        self, sample: int, segmentation: Segmentation, source: Source, replacements: Mapping[str, Replacement]
    ) -> Iterator[float]:
        """As :meth:`FeatureSpace.masked_scores`.

        Raises
        ------
        InputError
            ``fill.not_known`` where an encoder refuses what it hasn't learnt.
        """
        try:
            yield from super().masked_scores(sample, segmentation, source, replacements)
        except InputError as problem:
            if problem.code != "runtime.op_failed":
                raise
            raise InputError(
                "fill.not_known",
                f"the model doesn't run with what replaces the text of {', '.join(map(repr, self.evaluator.texts))}: "
                f"{problem.message}",
                "let samples:FILE, or a text that the model knows, replace it",
            ) from None

    def result(self, maps: Sequence[Mapping[str, Array]], notes: Sequence[str], record: dict[str, Any]) -> Result:
        """Maps of every input; of a text that is cut the sum over its words, which ``raws`` holds one by one."""
        attributions: dict[str, Array] = {}
        raws: dict[str, Array] = {}
        for name, value in self.values.items():
            parts = [each[name] for each in maps]
            if name in self.words:
                wide = np.zeros((len(parts), max(map(len, parts))), np.float32)
                for sample, part in enumerate(parts):
                    wide[sample, : len(part)] = part
                raws[name] = wide.reshape(*value.shape, -1)
                attributions[name] = raws[name].sum(axis=-1)
            else:
                attributions[name] = np.stack(parts).astype(np.float32)
        return Result(attributions, raws, notes=list(notes), record={**record, "features": self._listed(maps)})

    def _listed(self, maps: Sequence[Mapping[str, Array]]) -> list[list[dict[str, Any]]]:
        """Per sample every column and word: its input, what it is called, its value, and its attribution."""
        return [
            [entry for name in self.values if self._is_cells(name) for entry in self._entries(name, sample, each[name])]
            for sample, each in enumerate(maps)
        ]

    def _is_cells(self, name: str) -> bool:
        """Whether an input is columns or words: no picture, no series."""
        return self.values[name].ndim <= 2 or name in self.evaluator.texts

    def _entries(self, name: str, sample: int, values: Array) -> Iterator[dict[str, Any]]:
        x = self.values[name][sample, ...]
        if name in self.words:
            for at, (word, value) in enumerate(zip(words_of(x), values, strict=True)):
                yield {"input": name, "word": at, "value": word, "attribution": float(value)}
            return
        labels = self.evaluator.model.column_input(name).labels(x.size)
        cells = np.asarray(x, object).reshape(-1).tolist()
        for label, cell, value in zip(labels, cells, np.broadcast_to(values, x.shape).reshape(-1), strict=True):
            yield {"input": name, "column": label, "value": cell, "attribution": float(value)}
