"""Top inputs: the samples of a data set that drive a unit most and least, with what it sees of them and relevance.

Belongs here: one pass over the data with bounded memory, and explaining what it found. Not here: what is measured (``units``),
files and pages (``analyzer.jobs``).

This shows the data, not the feature: what the samples have in common may be something else than what the unit responds to.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.data.batches import batches
from analyzer.data.dataset import Dataset
from analyzer.errors import InconclusiveError, InputError, UnsupportedError, UsageError
from analyzer.explain.backends import Backends
from analyzer.explain.pipeline import explain
from analyzer.explain.request import Request
from analyzer.explanation import Explanation
from analyzer.inputs import LoadedInput
from analyzer.methods import registry
from analyzer.onnx_model import OnnxModel
from analyzer.visualization.ledger import Ledger
from analyzer.visualization.receptive_fields import ReceptiveField, receptive_fields
from analyzer.visualization.units import Index, Probe, Unit

#: What must be said wherever top inputs are shown.
CAUTION = (
    "These are samples of this data set, not the feature itself: what they have in common may be something else than what the "
    "unit responds to, and what the data doesn't hold can't be seen here."
)
Progress = Callable[[float, float], None]


@dataclass(frozen=True, eq=False)
class Found:
    """One sample.

    Attributes
    ----------
    id, at
        What it is called, and its position in the data set.
    score
        How strongly it drives the unit.
    index
        Where it does so most, an index into the layer's value without the batch axis; None along axes that count as a whole.
    label
        Its class, where known.
    box
        What the unit sees of the input there: a slice for each axis of places; None where that is everything, or unknown.
    explanation
        Relevance of the unit; None where no method was asked for, or it can't be used.
    source
        The input as it was read, with its picture.
    """

    id: str
    at: int
    score: float
    index: Index
    label: int | None = None
    box: tuple[slice, ...] | None = None
    explanation: Explanation | None = None
    source: LoadedInput | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        box = None if self.box is None else [[part.start, part.stop] for part in self.box]
        return {
            "id": self.id, "position": self.at, "score": self.score, "index": list(self.index), "label": self.label,
            "crop": box,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class TopInputs:
    """What was found.

    Attributes
    ----------
    unit
        What was looked at.
    value
        The ONNX value that it is read from.
    top, bottom
        The samples with the largest and the smallest scores, the most extreme first; of equal ones the earlier.
    count
        How many samples have a score.
    unreadable, nonfinite
        Sample -> what is wrong with its file; samples whose score isn't finite.
    notes
        What a reader should know.
    """

    unit: Unit
    value: str
    top: list[Found]
    bottom: list[Found]
    count: int
    unreadable: dict[str, str]
    nonfinite: list[str]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "unit": self.unit.to_dict(), "value": self.value, "samples": self.count, "unreadable": self.unreadable,
            "nonfinite": self.nonfinite, "top": [each.to_dict() for each in self.top],
            "bottom": [each.to_dict() for each in self.bottom], "caution": CAUTION, "notes": self.notes,
        }  # fmt: skip


@dataclass
class _State:
    """How far the pass is; positions up to ``done`` are in it. Heaps hold the least extreme sample first."""

    k: int
    done: int = 0
    count: int = 0
    top: list[tuple[float, int, list[int | None]]] = field(default_factory=list)
    bottom: list[tuple[float, int, list[int | None]]] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    nonfinite: list[int] = field(default_factory=list)

    def add(self, at: int, score: float, index: Index) -> None:
        """Take in one sample."""
        if not np.isfinite(score):
            self.nonfinite.append(at)
            return
        self.count += 1
        for heap, key in ((self.top, score), (self.bottom, -score)):
            entry = (key, -at, list(index))
            if len(heap) < self.k:
                heapq.heappush(heap, entry)
            else:
                heapq.heappushpop(heap, entry)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"done": self.done, "count": self.count, "top": self.top, "bottom": self.bottom,
                "unreadable": list(self.unreadable.items()), "nonfinite": self.nonfinite}  # fmt: skip

    @classmethod
    def of(cls, k: int, noted: Mapping[str, Any]) -> _State:
        """As it was noted."""
        top, bottom = ([(each[0], each[1], each[2]) for each in noted[name]] for name in ("top", "bottom"))
        return cls(
            k, noted["done"], noted["count"], top, bottom, dict(map(tuple, noted["unreadable"])), noted["nonfinite"]
        )

    def best(self, heap: list[tuple[float, int, list[int | None]]], sign: int) -> list[tuple[float, int, Index]]:
        """(score, position, index), the most extreme first."""
        return [(sign * key, -behind, tuple(index)) for key, behind, index in sorted(heap, reverse=True)]


def top_inputs(
    backends: Backends,
    dataset: Dataset,
    unit: Unit,
    *,
    k: int = 9,
    method: str | None = "gradient-x-input",
    seed: int = 0,
    ledger: Path | None = None,
    progress: Progress | None = None,
    **params: Any,
) -> TopInputs:
    """The samples that drive a unit most and least.

    Parameters
    ----------
    k
        So many of each.
    method
        Of the relevance on the samples found; None for none.
    ledger
        A file that notes how far the run is; a later call with the same model, data and parameters goes on from there.
    progress
        Called with (samples done, samples).
    params
        The method's parameters.

    Raises
    ------
    UsageError
        ``params.*``, ``layer.unknown``, ``unit.*``, ``ledger.*``.
    UnsupportedError
        ``layer.no_samples``, ``layer.not_numeric``.
    InconclusiveError
        ``data.nothing_usable`` where no sample has a score.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= 1000:
        raise UsageError("params.invalid", f"k={k!r} is no whole number from 1 to 1000", "as in k=9")
    if method is not None:
        info = registry.get(method)
        info.check(params)
        if unit.layer is not None and "layer" in info.parameters:
            message = f"{method} explains outputs through a layer of its own, not a unit inside"
            raise UsageError("params.invalid", message, "use gradient-x-input, lrp or another method without a layer")
    model = backends.model
    probe = Probe(model, unit)
    state = _passed(model, dataset, probe, int(k), Ledger(ledger, _about(model, dataset, unit, int(k))), progress)
    if not state.count:
        why = next(iter(state.unreadable.values()), "no score is finite")
        raise InconclusiveError(
            "data.nothing_usable", f"none of {len(dataset)} samples can be used: {why}", "see the data"
        )
    looking = _Looking(backends, dataset, probe, method, seed, params)
    top = [looking.at(*each) for each in state.best(state.top, 1)]
    bottom = [looking.at(*each) for each in state.best(state.bottom, -1)]
    ids = dataset.ids
    unreadable = {ids[at]: why for at, why in sorted(state.unreadable.items())}
    return TopInputs(unit, probe.value, top, bottom, state.count, unreadable, [ids[at] for at in state.nonfinite],
                     looking.notes)  # fmt: skip


def _about(model: OnnxModel, dataset: Dataset, unit: Unit, k: int) -> dict[str, Any]:
    """What the pass depends on."""
    preprocess = model.preprocess.model_dump(mode="json") if model.preprocess is not None else None
    layouts = {name: axes.letters for name, axes in model.layouts.items()}
    reading = {"preprocessing": preprocess, "layout": layouts}
    return {"model": model.sha256, "data set": dataset.digest, **reading, "unit": unit.to_dict(), "k": k}


def _passed(
    model: OnnxModel, dataset: Dataset, probe: Probe, k: int, ledger: Ledger, progress: Progress | None
) -> _State:
    """Go over the data once; a run that was cut off goes on with the batches that it would have had."""
    state = _State(k) if ledger.noted is None else _State.of(k, ledger.noted)
    failed: dict[int, InputError] = {}
    try:
        for batch in batches(model, dataset, failed, range(state.done, len(dataset))):
            values = model.values(model.feed(batch.feed), probe.names)
            scores, indices = probe.measure(values, model.batch_of(batch.feed))
            for at, score, index in zip(batch.at, scores[batch.rows].tolist(), indices[batch.rows], strict=True):
                state.add(at, score, index)
            state.done = batch.at[-1] + 1
            state.unreadable |= {at: str(problem) for at, problem in failed.items() if at < state.done}
            ledger.note(state.to_dict())
            if progress is not None:
                progress(state.done, len(dataset))
        state.done = len(dataset)
        state.unreadable |= {at: str(problem) for at, problem in failed.items()}
    finally:
        if state.done:
            ledger.note(state.to_dict(), now=True)
    return state


class _Looking:
    """Reads the samples found once more: for relevance, and what the unit sees of them."""

    def __init__(
        self,
        backends: Backends,
        dataset: Dataset,
        probe: Probe,
        method: str | None,
        seed: int,
        params: Mapping[str, Any],
    ) -> None:
        self._backends, self._dataset, self._probe = backends, dataset, probe
        self._method, self._seed, self._params = method, seed, params
        self._fields: dict[Any, ReceptiveField | None] = {}
        self.notes: list[str] = []

    def at(self, score: float, position: int, index: Index) -> Found:
        """One sample, with all that is known of it."""
        model = self._backends.model
        batch = next(iter(batches(model, self._dataset, {}, [position])))
        feed, sample = model.feed(batch.feed), batch.samples[0]
        explanation = self._explained(feed, index) if self._method is not None else None
        return Found(
            sample.id, position, score, index, sample.label, self._box(feed, index), explanation, sample.source
        )

    def _explained(self, feed: dict[str, Any], index: Index) -> Explanation | None:
        target, layer = self._probe.target(index)
        request = Request.of(str(self._method), target=target, layer=layer, seed=self._seed, **self._params)
        try:
            return explain(self._backends, feed, request)
        except InputError as problem:  # the model, or this sample
            note = f"no relevance by {self._method}: {problem.message}"
            self.notes += [note] if note not in self.notes else []
            return None

    def _box(self, feed: dict[str, Any], index: Index) -> tuple[slice, ...] | None:
        """What the unit sees at an index."""
        shapes = {name: value.shape for name, value in feed.items()}
        key = tuple(sorted(shapes.items()))
        if key not in self._fields:
            self._fields[key] = _field(self._backends.model, shapes, self._probe.value)
        seen = self._fields[key]
        if seen is None or seen.whole:
            return None
        position = [index[axis - 1] if axis > 0 else None for axis in seen.layout]
        if any(at is None for at in position) or len(index) < max(seen.layout, default=0):
            return None
        box = seen.box([at for at in position if at is not None])
        return box if all(part.stop > part.start for part in box) else None


def _field(model: OnnxModel, shapes: Mapping[str, Any], value: str) -> ReceptiveField | None:
    try:
        return receptive_fields(model, shapes, value).get(value)
    except UnsupportedError:
        return None
