"""Two models on the same inputs: how far their outputs and their explanations agree, and on which inputs they drift apart.

Belongs here: explaining inputs in both models, and putting the similarities together. Not here: similarities of two maps
(``similarity``), matching inputs (``paired_inputs``), which node is to blame (``drift_by_node``), what is reported
(``agreement``).

What is explained is the same in both: the class of the first model. An input on which the class changes is counted and kept
apart: what its maps differ by is not drift of one explanation.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analyzer.errors import InconclusiveError, InputError, ParityError, UsageError
from analyzer.evaluation import similarity
from analyzer.evaluation.agreement import Comparison, InputDrift, Shown
from analyzer.evaluation.context import MetricContext, rows_of_explanation, together
from analyzer.evaluation.drift_by_node import DriftMeter
from analyzer.evaluation.measure import Array
from analyzer.evaluation.paired_inputs import Batch, InputMatch, batches, samples_of
from analyzer.explain.request import Request
from analyzer.explanation import Explanation
from analyzer.model import Model
from analyzer.targets.resolve import scored_value

OTHER_SHAPE = "the maps have different shapes"


def compare(
    first: Model,
    second: Model,
    data: Any,
    method: str = "lrp",
    *,
    nodes: bool = False,
    share: float = 0.1,
    k: float = 0.1,
    shown: int = 6,
    confidence: float = 0.95,
    **options: Any,
) -> Comparison:
    """Compare the outputs and the explanations of two models, input by input.

    Two versions of a network, float and quantised, before and after optimisation. Inputs are taken one batch at a time; besides
    a few figures for each, only the ``shown`` that drift most are held.

    Parameters
    ----------
    data
        An array or a mapping of arrays, batch first, for the first model; or an iterable of such feeds, or of samples (objects
        with ``feed``, ``id`` and ``label``); or a data set.
    method
        A name of :func:`analyzer.methods`.
    nodes
        Whether to find out which nodes of the first model make explanations move; needs its gradient.
    share
        How many nodes may be proposed to be kept as they are, as a share of those that the score depends on.
    k
        Share of the elements that count as the most relevant ones in ``top_k_overlap``.
    shown
        How many of the inputs that drift most are kept with their maps.
    confidence
        Of all intervals.
    options
        As of :meth:`analyzer.Model.explain`: ``target``, ``score``, ``seed``, … and the method's parameters. A target that names
        a class by its rank is the first model's.

    Raises
    ------
    UsageError
        ``compare.inputs`` where the models don't take the same, ``compare.share``; as of an explanation.
    InconclusiveError
        ``compare.no_data`` where there is no input.
    ParityError
        Where no input can be explained in the second model, unless nodes are asked for. An input for which its trace disagrees
        with onnxruntime is counted, and has no similarity.
    """
    _check_share("share", share)
    _check_share("k", k)
    _check_share("confidence", confidence, below=1)
    run = _Run(first, second, InputMatch.of(first, second), method, options, k, shown, nodes)
    failed: dict[str, InputError] = {}
    for batch in batches(samples_of(data, first, failed), (first, second), run.match):
        run.add(batch)
    if not run.rows:
        why = f": {next(iter(failed.values())).message}" if failed else ""
        raise InconclusiveError(
            "compare.no_data", f"there is no input to compare the models on{why}", "give at least one"
        )
    if failed:
        name, problem = next(iter(failed.items()))
        run.notes.append(
            f"{len(failed)} inputs couldn't be read and aren't compared, {name} among them: {problem.message}"
        )
    if run.refused is not None:
        if not run.explained and run.meter is None:
            raise run.refused
        lost = len(run.rows) - run.explained
        run.notes.append(
            f"{lost} of {len(run.rows)} inputs have no explanation in the second model: {run.refused.message}"
        )
    drift = run.meter.result(share) if run.meter is not None else None
    return Comparison(
        first=_name(first), second=_name(second), sha256=(first.sha256, second.sha256), method=method,
        options=options, k=k, confidence=confidence, rows=tuple(run.rows), shown=run.worst,
        class_names=tuple(first.labels.names) if first.labels is not None else (),
        nodes=drift, notes=tuple(dict.fromkeys(run.notes)),
    )  # fmt: skip


def _check_share(name: str, value: Any, below: float = np.inf) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 < value <= 1 or value >= below:
        raise UsageError("compare.share", f"{name}={value!r} is no share of all", "give a number between 0 and 1")


def _name(model: Model) -> str:
    return model.path.name if model.path is not None else model.sha256[:12]


@dataclass
class _Run:
    """A comparison while its inputs come in."""

    first: Model
    second: Model
    match: InputMatch
    method: str
    options: Mapping[str, Any]
    k: float
    most_shown: int
    nodes: bool
    rows: list[InputDrift] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    meter: DriftMeter | None = None
    refused: ParityError | None = None
    explained: int = 0
    _heap: list[tuple[float, int, Shown]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.notes += self.match.notes
        if self.nodes:
            self.meter = DriftMeter(self.first, self.second)

    @property
    def worst(self) -> tuple[Shown, ...]:
        """The inputs that drift most, the worst first."""
        return tuple(shown for _, _, shown in sorted(self._heap, key=lambda each: (-each[0], -each[1])))

    def add(self, batch: Batch) -> None:
        """Compare the models on one batch."""
        other = self.match.feed(batch.feed)
        one = self.first.explain(batch.feed, self.method, **self.options)
        batch = batch.named(len(one.target))
        target = _held_target(self.first, one, batch.feed)
        own = {**one.options, "target": target}
        if own.get("at") is None:
            own["inputs"] = tuple(one.attributions)
        there = own.get("inputs")
        theirs = there if there is None else tuple(self.match.names.get(name, name) for name in there)
        two = self._second(other, {**own, "inputs": theirs})
        if isinstance(two, ParityError) and len(batch.ids) > 1 and (rows := batch.rows()):
            for single in rows:  # it may be one input alone
                self.add(single)
            return
        if self.meter is not None:
            self.meter.add(batch.feed, other, Request.of(self.method, **own), len(batch.ids))
        if not self.rows:
            self._note_of_explanations(one, two, len(batch.ids))
        got = self.first.predict(batch.feed), self.second.predict(other)
        outputs = _outputs(*got)
        if not outputs:
            self.notes.append("the models have no output of the same shape in common: outputs aren't compared")
        classes = _classes(self.first, got[0]), _classes(self.second, got[1])
        self.explained += 0 if isinstance(two, ParityError) else len(batch.ids)
        for at, name in enumerate(batch.ids):
            figures, reasons = self._similarities(one, two, at)
            row = InputDrift(
                name, batch.labels[at], one.target[at], _at(classes[0], at), _at(classes[1], at),
                *_difference(outputs, at), figures, reasons,
            )  # fmt: skip
            self.rows.append(row)
            if isinstance(two, Explanation):
                self._show(row, one, two, at, batch.sources[at])

    def _note_of_explanations(self, one: Explanation, two: Explanation | ParityError, count: int) -> None:
        """What the first explanations say; those of later inputs say much the same."""
        for model, each in ((self.first, one), (self.second, two)):
            found = each.record.get("notes", ()) if isinstance(each, Explanation) else ()
            self.notes += [f"{_name(model)}, first {count} inputs: {note}" for note in found]

    def _second(self, feed: dict[str, Array], options: Mapping[str, Any]) -> Explanation | ParityError:
        """The second model's explanation, or why it was refused on this input."""
        try:
            return self.second.explain(feed, self.method, **options)
        except ParityError as problem:
            self.refused = problem
            return problem

    def _similarities(
        self, one: Explanation, two: Explanation | ParityError, at: int
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Name -> similarity of the maps of one sample, NaN where there is none; name -> why."""
        if isinstance(two, ParityError):
            reason = f"no explanation of the second model: {two.message}"
            return dict.fromkeys(similarity.SIMILARITIES, np.nan), dict.fromkeys(similarity.SIMILARITIES, reason)
        maps = [_sample_maps(each, at) for each in (one, two)]
        found: dict[str, similarity.Found] = {}
        if [value.shape for value in maps[0]] != [value.shape for value in maps[1]]:
            found = dict.fromkeys(similarity.SIMILARITIES, OTHER_SHAPE)
        else:
            a, b = (np.concatenate([value.reshape(-1) for value in each]) for each in maps)
            for name, measure in similarity.SIMILARITIES.items():
                found[name] = measure(a, b) if name != "top_k_overlap" else similarity.top_k_overlap(a, b, self.k)
            pictures = self._pictures(one, maps)
            if pictures is not None:
                found["ssim"] = similarity.ssim(*pictures)
        figures = {name: np.nan if isinstance(value, str) else value for name, value in found.items()}
        return figures, {name: value for name, value in found.items() if isinstance(value, str)}

    def _pictures(self, one: Explanation, maps: Sequence[Sequence[Array]]) -> tuple[Array, Array] | None:
        """The first input's maps as pictures, where it is one."""
        name, whole = next(iter(one.attributions.items()))
        if name not in self.first.inputs or whole.ndim < 3:
            return None
        places = [axis - 1 for axis in self.first.axes(name, whole.shape).places]
        found = [similarity.picture(each[0], places) for each in maps]
        return None if found[0] is None or found[1] is None else (found[0], found[1])

    def _show(self, row: InputDrift, one: Explanation, two: Explanation, at: int, source: Any) -> None:
        """Keep what drifts most; a map without a rank correlation counts as the worst."""
        drift = row.drift
        if self.most_shown < 1 or (len(self._heap) == self.most_shown and drift <= self._heap[0][0]):
            return
        pair = [rows_of_explanation(each, slice(at, at + 1)) for each in (one, two)]
        entry = drift, -len(self.rows), Shown(row, pair[0], pair[1], source)
        (heapq.heappush if len(self._heap) < self.most_shown else heapq.heapreplace)(self._heap, entry)


def _held_target(model: Model, explanation: Explanation, feed: dict[str, Array]) -> Any:
    """What was explained of each sample, a class by its index, for another model to explain."""
    context, size = MetricContext(model, explanation, feed, {}, 0), model.part_size(feed)
    count = context.batch
    parts = [context] if size is None else [context.part(slice(at, at + size)) for at in range(0, count, size)]
    return together([part.target_of(sample) for part in parts for sample in range(part.batch)])


def _sample_maps(explanation: Explanation, at: int) -> list[Array]:
    return [np.asarray(value[at] if value.ndim else value) for value in explanation.attributions.values()]


def _outputs(first: Mapping[str, Array], second: Mapping[str, Array]) -> list[tuple[Array, Array]]:
    """Floating-point outputs of both models that have the same shape, matched by name or else by place."""
    others = [second[name] for name in first] if set(first) == set(second) else list(second.values())
    arrays = [(np.asarray(a), np.asarray(b)) for a, b in zip(first.values(), others, strict=False)]
    return [(a, b) for a, b in arrays if a.shape == b.shape and a.ndim and a.dtype.kind == "f" and b.dtype.kind == "f"]


def _difference(outputs: Sequence[tuple[Array, Array]], at: int) -> tuple[float, float]:
    """The largest difference of a sample's outputs, and the largest in units of the largest finite value.

    Infinite where one is not finite and the other is another; NaN without outputs.
    """
    largest, relative = np.nan, np.nan
    for a, b in outputs:
        if at >= len(a):
            continue
        one, two = np.asarray(a[at], np.float64), np.asarray(b[at], np.float64)
        same = (one == two) | (np.isnan(one) & np.isnan(two))
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0.0, np.nan_to_num(np.abs(one - two), nan=np.inf, posinf=np.inf))
        off = float(apart.max(initial=0.0))
        scale = float(np.abs(one[np.isfinite(one)]).max(initial=0.0))
        largest = np.fmax(largest, off)
        relative = np.fmax(relative, off / scale if scale else (0.0 if off == 0 else np.inf))
    return float(largest), float(relative)


def _classes(model: Model, outputs: Mapping[str, Array]) -> Array | None:
    """The class of each sample, where the explained output holds classes; else None."""
    scores = np.asarray(outputs.get(scored_value(model).output, 0))
    rows_of_classes = scores.dtype.kind == "f" and scores.ndim >= 2 and scores.shape[1] >= 2
    if not rows_of_classes or any(side != 1 for side in scores.shape[2:]):
        return None
    return np.asarray(scores.reshape(len(scores), -1).argmax(axis=1))


def _at(classes: Array | None, at: int) -> int | None:
    return None if classes is None or at >= len(classes) else int(classes[at])
