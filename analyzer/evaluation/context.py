"""What a metric works with: the explanation, scores of changed inputs, and explanations of changed inputs or models.

Belongs here: explaining again for a metric, counted; an explanation of some of its samples. Not here: the map and scores
(``score_context``), metrics, cutting a request into parts (``evaluate``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analyzer.errors import InputError
from analyzer.evaluation.measure import Array
from analyzer.evaluation.other_models import OtherModels
from analyzer.evaluation.score_context import Feed, ScoreContext
from analyzer.explanation import Explanation
from analyzer.model import Model
from analyzer.targets.language import TargetLike, is_detection
from analyzer.targets.resolve import scored_value
from analyzer.targets.target import Resolved

#: Entries of an explanation's record that have one value for each sample.
_PER_SAMPLE = ("detection", "features", "r2")
#: Copies of a sample that are explained at once, at most.
_AT_ONCE = 16


@dataclass
class MetricContext(ScoreContext):
    """One explanation that is judged.

    Attributes
    ----------
    others
        Models that are made of this one, shared by the parts of one evaluation.
    """

    others: OtherModels = field(default_factory=OtherModels)

    def target_of(self, sample: int) -> TargetLike:
        """What is explained of a sample, held fixed: a class by its index where the target named it by its rank."""
        asked: Any = self.explanation.options.get("target", "top1")
        target: TargetLike = asked
        if isinstance(asked, list | tuple) or (isinstance(asked, np.ndarray) and asked.dtype.kind not in "f"):
            target = asked[sample]
        resolved = self.evaluator.target
        ranked = isinstance(target, str) and target.startswith("top")
        if not ranked or is_detection(target) or not isinstance(resolved, Resolved):
            return target
        if resolved.weights.ndim == 2 and resolved.classes[sample] >= 0:
            return int(resolved.classes[sample])
        weights = np.asarray(resolved.weights[sample], np.float64)
        shape = self._output_shape
        return weights.reshape(shape) if weights.size == math.prod(shape) else weights

    @functools.cached_property
    def _output_shape(self) -> tuple[int, ...]:
        """Of one sample's output, which what is explained may lie before a reshaping of."""
        output = scored_value(self.model).output
        part = {name: self.evaluator.repeated(name, 0, self.model.fixed_batch or 1) for name in self.inputs}
        self.counts.evaluations += 1
        return np.shape(self.model.predict(part)[output])[1:]

    def explain_copies(
        self, sample: int, copies: Feed, target: TargetLike | None = None, model: Model | None = None
    ) -> dict[str, Array]:
        """Explain changed copies of one sample as it was explained.

        Parameters
        ----------
        copies
            Input name -> (n, ...); inputs that aren't named are as they were.
        target
            None for what was explained of the sample.
        model
            Another model with the same inputs and outputs; None for this one.

        Returns
        -------
        dict
            Input name -> maps (n, ...), float64.
        """
        model = self.model if model is None else model
        count = len(next(iter(copies.values())))
        target = self.target_of(sample) if target is None else target
        parts: list[Feed] = []
        for feed, rows, kept in self._feeds(sample, copies):
            options = {**self._options_in(model), "target": _each(target, rows)}
            found = model.explain(feed, self.explanation.method, **options)
            parts.append({name: np.asarray(value[:kept], np.float64) for name, value in found.attributions.items()})
        self.counts.explanations += count
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def predicted(self, sample: int, copies: Feed | None = None) -> Array | None:
        """Which class the model ranks first for changed copies of a sample; None where no class is explained.

        Of one score for two classes it is class 1 where the score is above a half, or its logit above zero.

        Parameters
        ----------
        copies
            Input name -> (n, ...); None for the sample as it is.

        Returns
        -------
        ndarray
            (n,) int64; (1,) for the sample as it is.
        """
        target = self.evaluator.target
        inner = self.explanation.options.get("layer") is not None and "layer" not in self.explanation.params
        if inner or not isinstance(target, Resolved) or target.weights.ndim != 2 or target.classes[sample] < 0:
            return None
        found = [self.evaluator.output[sample : sample + 1]]
        if copies is not None:
            found = [
                self.evaluator.model.values(feed, [target.value])[target.value][:kept]
                for feed, _, kept in self._feeds(sample, copies)
            ]
        scores = np.concatenate(found)
        self.counts.evaluations += 0 if copies is None else len(scores)
        if scores.shape[1] > 1:
            return np.asarray(scores.argmax(axis=1), np.int64)
        bound = {"logit": 0.0, "probability": 0.5}.get(self.explanation.score_kind)
        return None if bound is None else np.asarray(scores[:, 0] > bound, np.int64)

    def _feeds(self, sample: int, copies: Feed) -> Iterator[tuple[dict[str, Array], int, int]]:
        """The model's inputs for changed copies of a sample, a batch at a time: how many rows, and how many of them count."""
        count = len(next(iter(copies.values())))
        fixed = self.model.fixed_batch
        size = fixed or min(_AT_ONCE, self.evaluator.batch_size())
        for start in range(0, count, size):
            kept = min(size, count - start)
            rows = [min(start + at, count - 1) for at in range(fixed or kept)]
            feed = {
                name: np.ascontiguousarray(copies[name][rows], self.inputs[name].dtype)
                if name in copies
                else self.evaluator.repeated(name, sample, len(rows))
                for name in self.inputs
            }
            yield feed, len(rows), kept

    def explain_in(
        self, model: Model, targets: list[TargetLike] | None = None, inputs: Feed | None = None
    ) -> Explanation:
        """Explain the same inputs in another model with the same inputs and outputs, or for other targets.

        Parameters
        ----------
        targets
            One for each sample; None for what was explained.
        inputs
            All inputs in place of those that were explained.
        """
        own = [self.target_of(sample) for sample in range(self.batch)] if targets is None else targets
        self.counts.explanations += self.batch
        options = {**self._options_in(model), "target": together(own)}
        return model.explain(self.inputs if inputs is None else inputs, self.explanation.method, **options)

    def explain_made(
        self,
        what: str,
        key: Hashable,
        make: Callable[[], Model],
        inputs: Feed | None = None,
    ) -> Explanation | str:
        """Explain in a model that is made of this one, see :meth:`explain_in`; or why it can't be: it may overflow.

        Parameters
        ----------
        what
            What kind of model it is, in a word.
        key, make
            See :meth:`OtherModels.one`.
        """
        with self.others.one((what, key), make) as other:
            try:
                return self.explain_in(other, inputs=inputs)
            except InputError as problem:
                return f"the {what} model can't be explained: {problem.message}"

    def _options_in(self, model: Model) -> dict[str, Any]:
        """What the explanation was asked for with; another model's sweeps aren't worth compiling unless that was asked for."""
        options = {**self.explanation.options, "inputs": tuple(self.maps)}
        if model is not self.model and options.get("backend") == "auto":
            options["backend"] = "torch"
        return options

    def part(self, rows: slice) -> MetricContext:
        """The same for some of the samples; inputs that all samples share stay as they are."""
        axes = self.model.batch_axes(self.inputs, self.batch)
        inputs = {
            name: value if (axis := axes[name]) is None else value[(slice(None),) * axis + (rows,)]
            for name, value in self.inputs.items()
        }
        masks = {name: value[rows] for name, value in self.masks.items()}
        start = self.start + (rows.start or 0)
        return MetricContext(
            self.model, rows_of_explanation(self.explanation, rows), inputs, masks, self.seed, self.progress, start, self.batch,
            others=self.others,
        )  # fmt: skip


def _each(target: TargetLike, count: int) -> Any:
    """A sample's target for so many copies of it."""
    if isinstance(target, np.ndarray):
        return np.stack([target] * count)
    return [target] * count if isinstance(target, int | np.integer) else target


def together(targets: list[TargetLike]) -> Any:
    """Targets of the samples as one."""
    if all(isinstance(target, np.ndarray) for target in targets):
        return np.stack([np.asarray(target) for target in targets])
    first = targets[0]
    return first if isinstance(first, str) and all(isinstance(t, str) and t == first for t in targets) else targets


def rows_of_explanation(e: Explanation, rows: slice | Sequence[int] | Array) -> Explanation:
    """An explanation of some of its samples, in the order given."""
    options = dict(e.options)
    target, count = options.get("target"), len(e.target)
    chosen = np.arange(count)[rows]
    if isinstance(target, list | tuple) and len(target) == count:
        options["target"] = [target[row] for row in chosen]
    elif isinstance(target, np.ndarray) and target.ndim and len(target) == count:
        options["target"] = target[chosen]
    complete = e.completeness
    if complete is not None and len(complete.total) == count:
        complete = replace(complete, total=complete.total[chosen], expected=complete.expected[chosen])

    def taken(arrays: Feed) -> dict[str, Array]:
        return {name: value[chosen] if value.ndim and len(value) == count else value for name, value in arrays.items()}

    return replace(
        e, attributions=taken(e.attributions), raws=taken(e.raws), inputs=taken(e.inputs),
        standard_errors=taken(e.standard_errors), target=tuple(e.target[row] for row in chosen),
        classes=tuple(e.classes[row] for row in chosen), score=e.score[chosen], completeness=complete, options=options,
        record=_record_of(e.record, chosen, count),
    )  # fmt: skip


def _record_of(record: Mapping[str, Any], chosen: Array, count: int) -> dict[str, Any]:
    """A record whose entries for each sample are those of some."""
    own = dict(record)
    for key in _PER_SAMPLE:
        if isinstance(own.get(key), list) and len(own[key]) == count:
            own[key] = [own[key][row] for row in chosen]
    if own.get("prediction"):
        top = own["prediction"]["top"]
        own["prediction"] = {**own["prediction"], "top": [top[row] for row in chosen]}
    return own
