"""Judging explanations of many inputs: several methods, several metrics, a value for each input.

Belongs here: running methods and metrics over a data set. Not here: metrics, judging one explanation (``evaluate``), choosing by
the values (``selection``), the intervals of their means (``statistics``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analyzer.data.batches import Batch, batches
from analyzer.data.dataset import Dataset
from analyzer.errors import AnalyzerError, InconclusiveError, InputError, UsageError
from analyzer.evaluation import registry as metrics
from analyzer.evaluation.candidates import Candidate
from analyzer.evaluation.evaluate import evaluate
from analyzer.evaluation.measure import Array, Curve, Evaluation
from analyzer.evaluation.other_models import OtherModels
from analyzer.explanation import Explanation
from analyzer.model import Model

Progress = Callable[[float, float], None]
_FIGURES = re.compile(r"\d[\d.,]*(e[+-]?\d+)?")
#: Why a sample has no value of a metric that needs a mask.
NO_MASK = "no mask"


@dataclass
class Cell:
    """One candidate under one metric.

    Attributes
    ----------
    params
        The metric's, defaults included.
    values
        (inputs,) float64; NaN where there is none.
    reasons
        Input -> why it has none.
    curves
        Name -> a curve for each input that has one.
    evaluations, explanations
        What it took, of one sample each.
    """

    params: Mapping[str, Any]
    values: Array
    reasons: dict[int, str] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    evaluations: int = 0
    explanations: int = 0

    @property
    def known(self) -> Array:
        """The values that there are."""
        return self.values[np.isfinite(self.values)]

    @property
    def why_none(self) -> dict[str, int]:
        """Reason -> how many inputs have no value for it, the most frequent first."""
        texts = list(self.reasons.values())
        return {text: texts.count(text) for text in sorted(set(texts), key=lambda text: (-texts.count(text), text))}


@dataclass
class Judgement:
    """All candidates under all metrics.

    Attributes
    ----------
    ids
        The inputs, in the order of the values.
    targets
        What was explained of each; empty for one that couldn't be read.
    cells
        (candidate's number, metric) -> its values.
    unreadable
        Input -> what is wrong with it.
    refused
        Candidate's number -> why it can't be used here.
    notes
        (note, the candidate or the first input that it is about) pairs.
    """

    candidates: tuple[Candidate, ...]
    metrics: tuple[str, ...]
    ids: tuple[str, ...]
    targets: list[str]
    cells: dict[tuple[int, str], Cell]
    unreadable: dict[int, InputError] = field(default_factory=dict)
    refused: dict[int, AnalyzerError] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def usable(self) -> list[int]:
        """Numbers of the candidates that could be used."""
        return [at for at in range(len(self.candidates)) if at not in self.refused]


def judge(
    model: Model,
    dataset: Dataset,
    candidates: Sequence[Candidate],
    chosen: Mapping[str, Mapping[str, Any]],
    *,
    at: Sequence[int] | None = None,
    tolerant: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Judgement:
    """Explain every input with every candidate, and judge the explanations by every metric.

    Parameters
    ----------
    chosen
        Metric -> its parameters.
    at
        Positions of the inputs in the data set; None for all.
    tolerant
        Whether a candidate that can't be used is recorded, as long as another can; else its error is raised.
    seed
        Of every random choice.
    progress
        Called with (done, total) in steps of one input under one method or metric.
    options
        As of :meth:`analyzer.Model.explain`: ``target``, ``score``, ``backend``, ``inputs``.

    Raises
    ------
    UsageError
        ``metric.unknown``, ``metric.mask`` where a metric needs masks and the data has none; as methods and metrics do.
    InconclusiveError
        ``data.unreadable`` where no input could be read.
    """
    checked = {name: metrics.get(name).check(params) for name, params in chosen.items()}
    positions = list(range(len(dataset)) if at is None else at)
    _require_masks(dataset, positions, checked)
    with OtherModels() as others:
        run = _Run(model, dataset, candidates, checked, positions, tolerant, seed, progress, others, options)
        for batch in batches(model, dataset, run.failed, positions):
            run.add(batch)
        return run.result()


class _Run:
    """A judgement while its inputs come in."""

    def __init__(
        self, model: Model, dataset: Dataset, candidates: Sequence[Candidate], chosen: Mapping[str, Mapping[str, Any]],
        positions: Sequence[int], tolerant: bool, seed: int, progress: Progress | None, others: OtherModels,
        options: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.failed: dict[int, InputError] = {}
        self._model, self._dataset, self._chosen = model, dataset, chosen
        self._tolerant, self._seed, self._progress, self._options = tolerant, seed, progress, options
        self._others = others
        self._row_of = {position: row for row, position in enumerate(positions)}
        self._done, self._total = 0.0, float(len(positions) * len(candidates) * (1 + len(chosen)))
        count = len(positions)
        cells = {
            (number, name): Cell(params, np.full(count, np.nan))
            for number in range(len(candidates))
            for name, params in chosen.items()
        }
        ids = tuple(dataset.ids[position] for position in positions)
        self._found = Judgement(tuple(candidates), tuple(chosen), ids, [""] * count, cells)
        self._noted: set[tuple[str, str]] = set()
        self._curves: dict[tuple[int, str, str], list[Curve]] = {}

    def add(self, batch: Batch) -> None:
        """Judge a batch."""
        rows = [self._row_of[position] for position in batch.at]
        for sample in batch.samples:
            noted = (note for note in sample.notes if not note.startswith("picture shown"))
            self._found.notes += [(note, sample.id) for note in noted if self._is_new("", note)]
        for number, candidate in enumerate(self._found.candidates):
            if number in self._found.refused:
                self._advance(len(batch) * (1 + len(self._chosen)))
                continue
            try:
                self._judge(batch, rows, number, candidate)
            except AnalyzerError as problem:
                if not self._tolerant:
                    raise
                self._found.refused[number] = problem

    def _judge(self, batch: Batch, rows: list[int], number: int, candidate: Candidate) -> None:
        explanation = self._model.explain(
            batch.feed, candidate.method, seed=self._seed, progress=self._inner(len(batch)), **self._options,
            **candidate.params,
        )  # fmt: skip
        self._advance(len(batch))
        self._note(candidate.name, explanation.record.get("notes", ()))
        for row, target in zip(rows, explanation.target, strict=False):
            self._found.targets[row] = self._found.targets[row] or target
        for name in self._chosen:
            self._measure(batch, rows, number, name, explanation)
            self._advance(len(batch))

    def _measure(self, batch: Batch, rows: list[int], number: int, name: str, explanation: Explanation) -> None:
        """One metric of a batch's explanation, put into its cell."""
        cell, mask = self._found.cells[number, name], None
        without: list[int] = []
        if metrics.get(name).needs == "mask":
            without = [at for at, sample in enumerate(batch.samples) if sample.mask is None]
            cell.reasons |= {rows[at]: NO_MASK for at in without}
            if len(without) == len(batch):
                return
            mask = {self._dataset.masked: _stacked(batch)}
        found = evaluate(
            self._model, batch.feed, explanation, name, mask=mask, seed=self._seed, start=rows[0],
            progress=self._inner(len(batch)), others=self._others, **cell.params,
        )  # fmt: skip
        for at, row in enumerate(rows):
            if at not in without:
                cell.values[row] = found.values[at]
                if at in found.reasons:
                    cell.reasons[row] = found.reasons[at]
        cell.evaluations += found.n_evaluations
        cell.explanations += found.n_explanations
        cell.notes += [note for note in found.notes if self._is_new(f"{number} {name}", note)]
        self._keep_curves(number, found, len(batch))

    def _note(self, owner: str, notes: Sequence[str]) -> None:
        self._found.notes += [(note, owner) for note in notes if self._is_new(owner, note)]

    def _is_new(self, owner: str, note: str) -> bool:
        """Whether nothing like it has been noted: of two notes that differ in figures alone, as of two batches, one is enough."""
        key = owner, _FIGURES.sub("", note)
        new = key not in self._noted
        self._noted.add(key)
        return new

    def _keep_curves(self, number: int, found: Evaluation, count: int) -> None:
        for name, curve in found.curves.items():
            x = curve.x if np.ndim(curve.x) == 1 else curve.x[:count]
            kept = self._curves.setdefault((number, found.metric, name), [])
            kept.append(Curve(x, curve.y[:count], curve.x_label, curve.y_label))

    def result(self) -> Judgement:
        """What was found, once all inputs have come in."""
        found = self._found
        found.unreadable = {self._row_of[position]: problem for position, problem in self.failed.items()}
        count = len(found.ids)
        if len(self.failed) == count:
            first = next(iter(self.failed.values()))
            if count == 1:
                raise first
            message = f"none of {count} inputs could be read; the first: {first.message}"
            raise InconclusiveError("data.unreadable", message, first.hint)
        if found.refused and not found.usable:
            raise next(iter(found.refused.values()))
        for number, metric in found.cells:
            cell = found.cells[number, metric]
            cell.reasons |= {row: f"it can't be read [{problem.code}]" for row, problem in found.unreadable.items()}
            own = {name: parts for (of, by, name), parts in self._curves.items() if (of, by) == (number, metric)}
            for name, parts in own.items():
                if len({part.y.shape[1] for part in parts}) == 1:
                    cell.curves[name] = Curve.joined(parts)
                else:
                    cell.notes.append(f"curves {name!r} have different numbers of points: left out")
        return found

    def _advance(self, steps: int) -> None:
        self._done += steps
        if self._progress is not None:
            self._progress(self._done, self._total)

    def _inner(self, steps: int) -> Callable[[int, int], None] | None:
        """The progress of something that is so many steps in all."""
        report, done, total = self._progress, self._done, self._total
        if report is None:
            return None
        return lambda part, of: report(done + steps * min(part / max(of, 1), 1), total)


def _require_masks(dataset: Dataset, positions: Sequence[int], chosen: Mapping[str, Any]) -> None:
    needing = next((name for name in chosen if metrics.get(name).needs == "mask"), None)
    if needing is not None and not any(dataset.masks[position] for position in positions):
        raise UsageError(
            "metric.mask", f"{needing} needs to know where the truth lies, and no input has a mask",
            "give masks: a folder of pictures called as the inputs are, or one for all",
        )  # fmt: skip


def _stacked(batch: Batch) -> Array:
    """The masks of a batch; an empty one where there is none, and for repetitions."""
    known = next(sample.mask for sample in batch.samples if sample.mask is not None)
    masks = [np.zeros_like(known) if sample.mask is None else sample.mask for sample in batch.samples]
    count = max((len(value) for value in batch.feed.values()), default=len(masks))
    return np.stack(masks + masks[-1:] * (count - len(masks)))
