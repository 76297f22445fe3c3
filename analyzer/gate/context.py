"""What a check may ask: the inputs, their explanations, metrics on them.

Belongs here: everything that checks share, computed once. Not here: the checks, deciding, the inputs as such (``inputs``).
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analyzer.errors import AnalyzerError, UsageError
from analyzer.evaluation.context import rows_of_explanation
from analyzer.evaluation.evaluate import evaluate
from analyzer.evaluation.measure import Evaluation
from analyzer.evaluation.other_models import OtherModels
from analyzer.explanation import Explanation
from analyzer.gate.inputs import Batch
from analyzer.gate.outcome import Array
from analyzer.gate.statements import StatedInputs
from analyzer.model import Model

#: Bytes of explanations that are kept for the next check.
_KEPT_BYTES = 512 * 2**20
#: Errors about what isn't finite that are one input's, and what they say of it.
_NOT_FINITE = {
    "score.nonfinite": "its score isn't finite", "result.nonfinite": "its map isn't finite",
    "data.nonfinite": "it holds NaN or infinite values",
}  # fmt: skip


@dataclass
class GateContext(StatedInputs):
    """One run of a gate, as its checks see it; attributes as of :class:`~analyzer.gate.inputs.GateInputs`."""

    _kept: dict[Any, list[Explanation]] = field(default_factory=dict, repr=False)

    @functools.cached_property
    def method(self) -> tuple[str, dict[str, Any]]:
        """The policy's method and its parameters."""
        section = self.policy.explain
        params = dict(section.params)
        if section.preset is not None:
            params["composite"] = section.preset
        return section.method, params

    def targets(self, at: Sequence[int]) -> Any:
        """What is explained of inputs at some positions."""
        target = self.policy.explain.target
        if target == "predicted":
            classes = [self.predicted[each] for each in at]
            return "top1" if -1 in classes else classes
        if target == "label":
            labels = [self.labels[each] for each in at]
            if None in labels:
                raise UsageError("config.gate", 'explain.target = "label", and an input has no label', "label the data")
            return labels
        return target

    def explain(
        self, batch: Batch, *, model: Model | None = None, method: str | None = None,
        params: Mapping[str, Any] | None = None, targets: Any = None, seed: int | None = None,
    ) -> Explanation:  # fmt: skip
        """Explain a batch as the policy says, but for what is given; the explanation has no repetitions."""
        own, own_params = self.method
        at = batch.at
        wanted = self.targets(at) if targets is None else targets
        count = len(next(iter(batch.feed.values())))
        if isinstance(wanted, list):
            wanted = wanted + wanted[-1:] * (count - len(wanted))
        model = self.model if model is None else model
        e = model.explain(
            self.feed_for(model, batch.feed), method or own, wanted, score=self.policy.explain.output,
            seed=self.seed if seed is None else seed,
            **(own_params if params is None and method is None else dict(params or {})),
        )  # fmt: skip
        self.explanations += len(at)
        return e if len(e.target) == len(at) else rows_of_explanation(e, batch.rows)

    def explanations_of(
        self, at: Sequence[int] | None = None, *, model: Model | None = None, unexplained: dict[int, str] | None = None
    ) -> Iterator[tuple[Batch, Explanation]]:
        """The inputs' explanations as the policy says, batch by batch; kept for the next check where they aren't too large.

        Parameters
        ----------
        unexplained
            Is given the positions of inputs that have no explanation because something isn't finite, and why; those are left
            out. None doesn't let that pass.
        """
        key = (None if model is None else id(model), None if at is None else tuple(at))
        kept = self._kept.get(key)
        found: list[Explanation] | None = []
        for number, batch in enumerate(self.batches(at)):
            if kept is not None:
                yield batch, kept[number]
                continue
            for part, e in self._explained(batch, model, unexplained):
                if found is not None:
                    found.append(e)
                    room = _KEPT_BYTES - sum(map(_bytes, (one for each in self._kept.values() for one in each)))
                    found = found if part is batch and sum(map(_bytes, found)) <= room else None
                yield part, e
        if kept is None and found is not None and not unexplained:
            self._kept[key] = found

    def _explained(
        self, batch: Batch, model: Model | None, unexplained: dict[int, str] | None
    ) -> list[tuple[Batch, Explanation]]:
        """A batch with its explanation; input by input, without those that have none, where that fails."""
        try:
            return [(batch, self.explain(batch, model=model))]
        except AnalyzerError as problem:
            if unexplained is None or problem.code not in _NOT_FINITE:
                raise
            if len(batch.at) == 1:
                unexplained[batch.at[0]] = _NOT_FINITE[problem.code]
                return []
        alone = (each for at in batch.at for each in self.batches([at]))
        return [found for each in alone for found in self._explained(each, model, unexplained)]

    def explanation(self, at: int, **how: Any) -> Explanation:
        """One input's explanation, a batch of one."""
        batch = next(iter(self.batches([at])))
        e = self.explain(batch, **how)
        return rows_of_explanation(e, slice(0, 1))

    def evaluate(
        self, metric: str, *, at: Sequence[int] | None = None, masks: Callable[[int], Array | None] | None = None,
        change: Callable[[Batch, Explanation], Explanation] | None = None,
        judged: Callable[[Batch, Evaluation], None] | None = None, seed: int | None = None, **params: Any,
    ) -> tuple[Array, dict[str, int]]:  # fmt: skip
        """A metric of every input's explanation.

        Parameters
        ----------
        at
            Positions of the inputs; None for all.
        masks
            Position -> where the truth lies; inputs without are left out.
        change
            Judges another explanation in place of each: the control's, for one.
        judged
            Is shown each batch's evaluation, which may have rows of repetitions at its end.
        seed
            Of the metric's random choices; None for the run's.

        Returns
        -------
        tuple
            (values, reasons): (inputs,) float64 with NaN where there is none, and reason -> how many have none for it.
        """
        with OtherModels() as others:
            return self._evaluated(at, masks, change, judged, {
                "metric": metric, "seed": self.seed if seed is None else seed, "others": others, **params,
            })  # fmt: skip

    def _evaluated(
        self, at: Sequence[int] | None, masks: Callable[[int], Array | None] | None,
        change: Callable[[Batch, Explanation], Explanation] | None, judged: Callable[[Batch, Evaluation], None] | None,
        how: Mapping[str, Any],
    ) -> tuple[Array, dict[str, int]]:  # fmt: skip
        """A metric of every input's explanation, as :meth:`evaluate` gives it; ``how`` is what the metric is called with."""
        values, reasons, unexplained = np.full(self.count, np.nan), dict[str, int](), dict[int, str]()
        for batch, e in self.explanations_of(at, unexplained=unexplained):
            rows, mask = list(range(len(batch.at))), None
            if masks is not None:
                known = {row: found for row in rows if (found := masks(batch.at[row])) is not None}
                for _ in range(len(rows) - len(known)):
                    reasons["no mask"] = reasons.get("no mask", 0) + 1
                if not known:
                    continue
                filled = [known.get(row, np.zeros_like(next(iter(known.values())))) for row in rows]
                mask, rows = np.stack(filled), list(known)
            about = e if change is None else change(batch, e)
            for own, judgement in self._judged(about, mask, list(range(len(batch.at))), {**how, "start": batch.at[0]}):
                if isinstance(judgement, str):
                    unexplained[batch.at[own[0]]] = judgement
                    continue
                self.evaluations += judgement.n_evaluations
                self.explanations += judgement.n_explanations
                if judged is not None:
                    judged(Batch(tuple(batch.at[row] for row in own), batch.feed), judgement)
                for place, row in enumerate(own):
                    if row in rows:
                        values[batch.at[row]] = judgement.values[place]
                        if (reason := judgement.reasons.get(place)) is not None:
                            reasons[reason] = reasons.get(reason, 0) + 1
        return values, counted(unexplained.values(), reasons)

    def _judged(
        self, e: Explanation, mask: Array | None, rows: list[int], how: Mapping[str, Any]
    ) -> list[tuple[list[int], Evaluation | str]]:
        """Some rows of an explanation judged together; where a score isn't finite one by one, and then why one isn't judged."""
        padded = self._padded(e if len(rows) == len(e.target) else rows_of_explanation(e, rows))
        if mask is not None:
            mask = mask[rows]
            mask = np.concatenate([mask, np.repeat(mask[-1:], len(padded.target) - len(mask), 0)])
        try:
            own = {**how, "start": how["start"] + rows[0]}  # each input's random numbers are its own
            return [(rows, evaluate(self.model, padded.inputs, padded, mask=mask, **own))]
        except AnalyzerError as problem:
            if problem.code not in _NOT_FINITE:
                raise
            if len(rows) == 1:
                return [(rows, "a score of a changed copy isn't finite")]
        return [found for row in rows for found in self._judged(e, mask, [row], how)]

    def _padded(self, e: Explanation) -> Explanation:
        """An explanation filled up to the model's fixed batch by repeating its last sample."""
        missing = -len(e.target) % (self.model.fixed_batch or 1)
        if not missing:
            return e
        return rows_of_explanation(e, np.minimum(np.arange(len(e.target) + missing), len(e.target) - 1))

    @contextlib.contextmanager
    def setting(self, key: str) -> Iterator[None]:
        """Whatever is wrong with a value of the policy only shows inside: told as the check's and the key's fault.

        Raises
        ------
        UsageError
            ``config.gate``.
        """
        try:
            yield
        except UsageError as problem:
            raise UsageError("config.gate", f"check {self.check!r}: {key}: {problem.message}", problem.hint) from None


def counted(reasons: Iterable[str], more: Mapping[str, int] | None = None) -> dict[str, int]:
    """Reason -> how many inputs have no value for it."""
    return dict(Counter(reasons) + Counter(more or {}))


def _bytes(e: Explanation) -> int:
    return sum(value.nbytes for each in (e.attributions, e.raws, e.inputs) for value in each.values())
