"""Region perturbation: the mean drop of the score while regions are taken away (AOPC)."""

from __future__ import annotations

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Most, Ordered, Size, Steps, flipping_curves
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric


@metric(
    "region-perturbation", "faithfulness", needs="scores", higher_is_better=True,
    range="unbounded, in units of the score", cost="steps + 1 evaluations",
    blind_spot="How relevance is spread inside a region; and the fill is judged with the map.",
    source="Samek et al. 2017, Evaluating the visualization of what a deep neural network has learned, eq. 12",
    quick={"steps": 4},
)  # fmt: skip
def region_perturbation(
    context: MetricContext,
    *,
    steps: Steps = 32,
    order: Ordered = "morf",
    fill: Filled = "mean",
    size: Size = None,
    most: Most = 1.0,
) -> Measure:
    """Mean drop of the score over all steps while regions are replaced, the most relevant first (AOPC)."""
    curves = flipping_curves(context, lambda sample: context.units(sample, size), fill, order, steps, most)
    return curves.measure(order, curves.aopc)
