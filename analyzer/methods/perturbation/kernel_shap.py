"""Kernel SHAP: Shapley values of segments, exact where all coalitions fit the budget, else from paired samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from analyzer.explanation import Result
from analyzer.methods.parameters import COUNT, MOST, SHARE, Bounds
from analyzer.methods.registry import ANY_ROWS, method
from analyzer.perturbation.budget import BUDGET_HELP, STANDARD_ERROR_HELP, Budget, SequentialSampling
from analyzer.perturbation.coalitions import CoalitionScores, Design, design_of
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.features import feature_notes
from analyzer.perturbation.fill_parameter import BACKGROUND_HELP, FILL_HELP
from analyzer.perturbation.text_features import features_of

_TOO_FEW = "fewer pairs of coalitions than segments: the values are the smallest ones that fit; raise samples"


@method(
    "kernel-shap", "perturbation", quick={"samples": 40}, headline=("samples",), needs="runtime", modalities=ANY_ROWS,
    source="Lundberg, Lee 2017, A unified approach to interpreting model predictions, theorem 2; pairs and errors as in "
    "Covert, Lee 2021, Improving KernelSHAP",
)  # fmt: skip
def kernel_shap(
    evaluator: Evaluator,
    *,
    samples: Annotated[
        int,
        "coalitions, each a model evaluation (or one per background sample), at least 2; 2**segments make it exact",
        Bounds(2, MOST),
    ] = 1024,
    segments: Annotated[
        Any,
        "count, slic, grid:8, words or columns (of text), or a mask of integers (of tokens or their embedding); None: what suits",
    ] = None,
    baseline: Annotated[Any, f"what replaces a segment: {FILL_HELP}"] = 0.0,
    background: Annotated[int, BACKGROUND_HELP, COUNT] = 100,
    budget: Annotated[int | None, BUDGET_HELP, COUNT] = None,
    standard_error: Annotated[float | None, STANDARD_ERROR_HELP, SHARE] = None,
) -> Result:
    """Shapley values of superpixels, columns, words or pieces of a series; every element carries its segment's.

    Notes
    -----
    The segments' values sum to the score less the baseline's score, as the record's ``sum`` and ``baseline_score`` show;
    its ``standard_error`` has one number per segment. With background samples these are the interventional Shapley
    values: what a coalition leaves out takes their values, and its score is the mean over them.
    """
    space = features_of(evaluator, segments)
    replacements = space.replacements(baseline, background)
    limits = Budget.of(samples, budget, standard_error, cost=replacements.cost)
    segmentations = space.segmentations(segments)
    designs = [design_of(segmentation.count, limits.draws, evaluator.seed) for segmentation in segmentations]
    sampling = SequentialSampling(limits, [len(design.present) for design in designs], evaluator.advance)
    maps, exact, baseline_scores = [], [], []
    for sample, (segmentation, design) in enumerate(zip(segmentations, designs, strict=True)):
        scores = CoalitionScores(space.scorer(sample, segmentation, replacements, sampling.progress))
        game = _Game(design, limits.draws, evaluator.seed, scores)
        maps.append(segmentation.spread(sampling.estimate(game.after, first=8 * segmentation.count)))
        exact.append(game.design.complete)
        baseline_scores.append(game.baseline_score)
    notes = feature_notes(replacements, segmentations)
    if any(estimate.errors is None for estimate in sampling.estimates):
        notes.append(_TOO_FEW)
    record = {
        "segments": [segmentation.count for segmentation in segmentations],
        **sampling.record(),
        "exact": exact,
        "sum": [float(estimate.values.sum()) for estimate in sampling.estimates],
        "baseline_score": baseline_scores,
    }
    errors = [estimate.errors for estimate in sampling.estimates]
    return space.with_standard_errors(space.result(maps, notes, record), segmentations, errors)


@dataclass
class _Game:
    """The game of one sample: a coalition of segments is worth the score with all other segments replaced.

    Attributes
    ----------
    full
        The design of all draws.
    draws
        How many those are.
    design, baseline_score
        The latest design, and the score with every segment replaced.
    """

    full: Design
    draws: int
    seed: int
    scores: CoalitionScores
    design: Design = field(init=False)
    baseline_score: float = field(init=False)

    def after(self, draws: int) -> tuple[Array, Array | None]:
        """Shapley values and their standard errors from so many coalitions."""
        count = self.full.present.shape[1]
        self.design = self.full if draws == self.draws else design_of(count, draws, self.seed, self.full)
        scores = self.scores.of(self.design.present)
        self.baseline_score = float(scores[0])
        return self.design.exact(scores) if self.design.complete else self.design.fit(scores)
