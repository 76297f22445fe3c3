"""What a metric works with: the explanation, scores of changed inputs, and explanations of changed inputs or models.

Belongs here: explaining again for a metric, counted; an explanation of some of its samples. Not here: the map and scores
(``score_context``), metrics, cutting a request into parts (``evaluate``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyzer.evaluation.measure import Array
from analyzer.evaluation.score_context import Feed, ScoreContext
from analyzer.explanation import Explanation
from analyzer.model import Model
from analyzer.targets.language import TargetLike, is_detection
from analyzer.targets.target import Resolved

#: Copies of a sample that are explained at once, at most.
_AT_ONCE = 16


@dataclass
class MetricContext(ScoreContext):
    """One explanation that is judged."""

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
        return np.asarray(resolved.weights[sample], np.float64)

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
        size = model.fixed_batch or min(_AT_ONCE, self.evaluator.batch_size())
        parts: list[Feed] = []
        for start in range(0, count, size):
            rows = [min(start + at, count - 1) for at in range(size if model.fixed_batch else min(size, count - start))]
            feed = {
                name: np.ascontiguousarray(copies[name][rows], self.inputs[name].dtype)
                if name in copies
                else self.evaluator.repeated(name, sample, len(rows))
                for name in self.inputs
            }
            found = model.explain(
                feed, self.explanation.method, **{**self._options, "target": _each(target, len(rows))}
            )
            kept = min(size, count - start)
            parts.append({name: np.asarray(value[:kept], np.float64) for name, value in found.attributions.items()})
        self.counts.explanations += count
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def explain_in(self, model: Model, targets: list[TargetLike] | None = None) -> Explanation:
        """Explain the same inputs in another model with the same inputs and outputs, or for other targets.

        Parameters
        ----------
        targets
            One for each sample; None for what was explained.
        """
        own = [self.target_of(sample) for sample in range(self.batch)] if targets is None else targets
        self.counts.explanations += self.batch
        return model.explain(self.inputs, self.explanation.method, **{**self._options, "target": _together(own)})

    @property
    def _options(self) -> dict[str, Any]:
        return {**self.explanation.options, "inputs": tuple(self.maps)}

    def part(self, rows: slice) -> MetricContext:
        """The same for some of the samples."""
        inputs = {name: value[rows] for name, value in self.inputs.items()}
        masks = {name: value[rows] for name, value in self.masks.items()}
        start = self.start + (rows.start or 0)
        return MetricContext(
            self.model, rows_of_explanation(self.explanation, rows), inputs, masks, self.seed, self.progress, start
        )


def _each(target: TargetLike, count: int) -> Any:
    """A sample's target for so many copies of it."""
    if isinstance(target, np.ndarray):
        return np.stack([target] * count)
    return [target] * count if isinstance(target, int | np.integer) else target


def _together(targets: list[TargetLike]) -> Any:
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
        return {name: value[chosen] if len(value) == count else value for name, value in arrays.items()}

    return replace(
        e, attributions=taken(e.attributions), raws=taken(e.raws), inputs=taken(e.inputs),
        standard_errors=taken(e.standard_errors), target=tuple(e.target[row] for row in chosen),
        classes=tuple(e.classes[row] for row in chosen), score=e.score[chosen], completeness=complete, options=options,
    )  # fmt: skip
