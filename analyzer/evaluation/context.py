"""What a metric works with: the explanation, scores of changed inputs, and explanations of changed inputs or models.

Belongs here: everything that a metric may ask of a model, counted. Not here: metrics, cutting a request into parts
(``evaluate``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from analyzer.evaluation.measure import Array
from analyzer.evaluation.units import Units
from analyzer.executor.batched_runs import rows_of
from analyzer.explain.request import Request
from analyzer.explain.scoring import evaluator_of
from analyzer.explanation import Explanation
from analyzer.model import Model
from analyzer.perturbation.evaluator import Evaluator
from analyzer.perturbation.features import FeatureSpace
from analyzer.perturbation.replacement import BackgroundRows, Inpainting, Replacements
from analyzer.perturbation.text_features import TextSpace
from analyzer.targets.language import TargetLike, is_detection
from analyzer.targets.probability import Probability
from analyzer.targets.target import Resolved

Feed = Mapping[str, Array]
ScoreKind = Literal["probability", "explained"]
#: Why a map has no value.
NOT_FINITE = "the map holds values that aren't finite"
#: Copies of a sample that are explained at once, at most.
_AT_ONCE = 16


@dataclass
class Counts:
    """How many model evaluations, and explanations of one sample, have been made."""

    evaluations: int = 0
    explanations: int = 0


@dataclass
class MetricContext:
    """One explanation that is judged.

    Attributes
    ----------
    inputs
        The model's inputs that were explained, batch first.
    masks
        Input name -> where the truth lies, bool (samples, ...) broadcastable to the input; empty where it isn't known.
    seed
        Of every random choice.
    start
        Number of the first sample in the batch that was given.
    probability
        Whether scores are probabilities where that can be; see :meth:`scored_as`.
    counts
        What has been run.
    """

    model: Model
    explanation: Explanation
    inputs: dict[str, Array]
    masks: Feed
    seed: int
    progress: Callable[[int, int], None] | None = None
    start: int = 0
    probability: bool = False
    counts: Counts = field(default_factory=Counts)

    @property
    def batch(self) -> int:
        """How many samples were explained."""
        return len(self.explanation.target)

    @property
    def maps(self) -> Feed:
        """Input name -> its attributions, batch first."""
        return self.explanation.attributions

    def map(self, sample: int) -> dict[str, Array]:
        """One sample's attributions, float64, without the batch axis."""
        return {name: np.asarray(value[sample], np.float64) for name, value in self.maps.items()}

    def flat(self, sample: int) -> Array:
        """One sample's attributions of all inputs as one vector, float64."""
        return np.concatenate([value.reshape(-1) for value in self.map(sample).values()])

    def generator(self, sample: int, *more: int) -> np.random.Generator:
        """The random numbers of a sample: the same however the batch is cut."""
        return np.random.default_rng([self.seed, self.start + sample, *more])

    def judged(self, one: Callable[[int], float | str]) -> list[float | str]:
        """What ``one`` says of every sample, a value or why there is none; of a map that isn't finite there is none."""
        found: list[float | str] = []
        for sample in range(self.batch):
            found.append(one(sample) if np.isfinite(self.flat(sample)).all() else NOT_FINITE)
            self.advance(sample + 1, self.batch)
        return found

    def advance(self, done: int, total: int) -> None:
        """Report progress in model evaluations or explanations."""
        if self.progress is not None:
            self.progress(done, total)

    # scores of changed inputs -------------------------------------------------------------------------------------------

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """Scores of changed copies, for what is explained; it changes the inputs that have a map."""
        options = {**self.explanation.options, "inputs": tuple(self.maps), "seed": self.seed}
        request = Request.of(self.explanation.method, **options)
        self.counts.evaluations += self.batch
        return evaluator_of(self.model.backends, self.inputs, request, probability=self.probability)

    @property
    def score(self) -> Array:
        """The explained score of every sample, (samples,) float64."""
        return self.evaluator.score

    def scored_as(self, score: ScoreKind) -> MetricContext:
        """The same with other scores, counted together.

        Parameters
        ----------
        score
            ``probability``: of the explained class, where its logit is explained; other scores stay as they are.
            ``explained``: what was explained.
        """
        return replace(self, probability=score == "probability")

    @property
    def score_kind(self) -> str:
        """What the scores are: ``probability``, ``logit`` or ``value``."""
        taken = isinstance(self.evaluator.target, Probability)
        return "probability" if taken else self.explanation.score_kind

    @property
    def score_notes(self) -> list[str]:
        """What the user should know of scores that were to be probabilities."""
        target = self.evaluator.target
        if isinstance(target, Probability):
            return [] if target.own else ["the model ends in logits: probabilities are their softmax"]
        if self.probability and self.explanation.score_kind != "probability":
            return ["what is explained is no logit of one class: the score is taken as it is, not a probability"]
        return []

    def rounding(self, sample: int, drops: Array) -> float:
        """How much of the drops of a sample's score, (n,), may be rounding: what differs by no more is the same."""
        precision = self.evaluator.output.dtype
        epsilon = np.finfo(precision).eps if precision.kind == "f" else 0.0
        score = float(self.score[sample])
        return float(8 * epsilon * max(abs(score), np.abs(score - drops).max(initial=0)))

    def units(self, sample: int, size: int | None = 1) -> Units:
        """One sample's units with their relevance; see :meth:`Units.of`."""
        return Units.of(self.evaluator, self.map(sample), size)

    def superpixels(self, sample: int, how: Any) -> Units:
        """One sample's segments, cut as a method's ``segments`` says, with the means of their relevance."""
        return Units.on(self._space.segmentation(sample, how), self.map(sample), mean=True)

    def replacements(self, fill: Any, background: int = 100) -> Replacements:
        """What units become that are taken away: a method's ``fill``; ``mean`` is 0 where an input has no channels.

        Raises
        ------
        UsageError, InputError
            ``fill.*``, ``data.*``.
        """
        return self._space.replacements(fill, background, channelless=0.0)

    @functools.cached_property
    def _space(self) -> FeatureSpace:
        values = {name: self.inputs[name] for name in self.evaluator.changed}
        return (TextSpace if self.evaluator.texts else FeatureSpace)(self.evaluator, values)

    def scores(self, sample: int, units: Units, present: Array, replacements: Replacements) -> Array:
        """Scores of one sample without some of its units.

        Parameters
        ----------
        present
            (n, units) bool, false for what is replaced.

        Returns
        -------
        ndarray
            (n,) float64.
        """
        source = rows_of(present=np.asarray(present, bool))
        found = self._space.masked_scores(sample, units.segmentation, source, replacements[sample])
        self.counts.evaluations += len(present) * replacements.cost
        return np.fromiter(found, np.float64, len(present))

    def copies(self, sample: int, units: Units, present: Array, replacements: Replacements) -> dict[str, Array]:
        """The copies that :meth:`scores` scores, to be looked at: input name -> (n, ...).

        Of background samples the first stands for all.
        """
        found = {}
        for name, ids in units.segmentation.ids.items():
            replacement = replacements[sample][name]
            if isinstance(replacement, BackgroundRows):
                replacement = replacement.rows[0]
            part = self._space.masked_input(name, ids, replacement)
            found[name] = part.copies(self.inputs[name][sample], {"present": np.asarray(present, bool)})
        return found

    def drops(self, sample: int, units: Units, present: Array, replacements: Replacements) -> Array:
        """By how much the score falls without some of a sample's units, (n,) float64; see :meth:`scores`."""
        return np.asarray(self.score[sample] - self.scores(sample, units, present, replacements))

    def altered(self, sample: int, units: Units, replacements: Replacements) -> Array:
        """Which of a sample's units differ from what replaces them, (units,) bool; all where that depends on the others."""
        found = np.zeros(units.count, bool)
        for name, replacement in replacements[sample].items():
            x, ids = self.inputs[name][sample], units.segmentation.ids[name]
            if isinstance(replacement, Inpainting):
                found[ids] = True
                continue
            rows = replacement.rows if isinstance(replacement, BackgroundRows) else replacement[None]
            found[np.broadcast_to(ids, x.shape)[(rows != x).any(axis=0)]] = True
        return found

    def scores_of(self, sample: int, copies: Iterable[Array], name: str | None = None) -> Array:
        """Scores of changed copies of one input of a sample, (n,) float64.

        Parameters
        ----------
        copies
            Each of the input's shape without the batch axis.
        name
            Which input; None for the first that has a map.
        """
        evaluator = self.evaluator if name is None else self.evaluator.changing(name)
        found = np.array(list(evaluator.evaluate(sample, copies)), np.float64)
        self.counts.evaluations += len(found)
        return found

    # explanations of changed inputs -------------------------------------------------------------------------------------

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
