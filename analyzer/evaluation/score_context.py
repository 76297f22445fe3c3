"""What metrics that change inputs work with: the map, its units, scores of the input without some of them.

Belongs here: everything that a metric may ask of a map and of a model's scores, counted. Not here: explaining again
(``context``), metrics.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

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
from analyzer.perturbation.words import words_of
from analyzer.targets.probability import Probability

Feed = Mapping[str, Array]
ScoreKind = Literal["probability", "explained"]
#: Why a map has no value.
NOT_FINITE = "the map holds values that aren't finite"


@dataclass
class Counts:
    """How many model evaluations, and explanations of one sample, have been made."""

    evaluations: int = 0
    explanations: int = 0


@dataclass
class ScoreContext:
    """One explanation that is judged, and scores of changed inputs.

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
    whole
        How many samples that batch has, where this is a part of it.
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
    whole: int = 0
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

    def map(self, sample: int, maps: Feed | None = None) -> dict[str, Array]:
        """One sample's attributions, float64, without the batch axis.

        Parameters
        ----------
        maps
            Input name -> attributions of the same inputs, batch first; None for those that are judged.
        """
        found = self.maps if maps is None else maps
        return {name: np.asarray(found[name][sample], np.float64) for name in self.maps}

    def flat(self, sample: int, maps: Feed | None = None) -> Array:
        """One sample's attributions of all inputs as one vector, float64; see :meth:`map`."""
        return np.concatenate([value.reshape(-1) for value in self.map(sample, maps).values()])

    def generator(self, sample: int, *more: int) -> np.random.Generator:
        """The random numbers of a sample: the same however the batch is cut."""
        return np.random.default_rng([self.seed, self.start + sample, *more])

    def judged(self, one: Callable[[int], float | str]) -> list[float | str]:
        """What ``one`` says of every sample, a value or why there is none; of a map that isn't finite there is none."""
        found: list[float | str] = []
        for sample in range(self.batch):
            found.append(one(sample) if np.isfinite(self.flat(sample)).all() else NOT_FINITE)
            self.advance(self.start + sample + 1, max(self.whole, self.batch))
        return found

    def advance(self, done: int, total: int) -> None:
        """Report progress, in samples or in what a metric takes many of."""
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

    def scored_as(self, score: ScoreKind) -> Self:
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

    def units(self, sample: int, size: int | None = 1, maps: Feed | None = None) -> Units:
        """One sample's units with their relevance; see :meth:`Units.of`.

        Parameters
        ----------
        maps
            In place of the sample's own maps, see :meth:`unit_map`.
        """
        return Units.of(self.evaluator, self.unit_map(sample) if maps is None else maps, size, self.words)

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """The inputs of text whose maps hold relevance for each word."""
        raws = self.explanation.raws
        return tuple(
            name
            for name, value in self.maps.items()
            if _is_text(self.inputs[name]) and raws.get(name, value).ndim > value.ndim
        )

    def unit_map(self, sample: int) -> dict[str, Array]:
        """One sample's attributions as :meth:`map` gives them, but of a text that was cut those of its words."""
        found = self.map(sample)
        for name in self.words:
            count = len(words_of(self.inputs[name][sample, ...]))
            found[name] = np.asarray(self.explanation.raws[name][sample], np.float64).reshape(-1)[:count]
        return found

    def superpixels(self, sample: int, how: Any) -> Units:
        """One sample's segments, cut as a method's ``segments`` says, with the means of their relevance."""
        return Units.on(self._space.segmentation(sample, how), self.unit_map(sample), mean=True)

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
        if self.evaluator.texts:
            return TextSpace(self.evaluator, values, words=self.words)
        return FeatureSpace(self.evaluator, values)

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
            if isinstance(replacement, Inpainting) or name in self.words:
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


def _is_text(value: Array) -> bool:
    return value.dtype.kind in "OUS"
