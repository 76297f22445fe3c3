"""Selectivity: pixel-flipping by patches."""

from __future__ import annotations

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Most, Ordered, Size, Steps, flipping_curves
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric


@metric(
    "selectivity", "faithfulness", needs="scores", higher_is_better=False,
    range="unbounded, in units of the score", cost="steps + 1 evaluations",
    blind_spot="How relevance is spread inside a patch; and the fill is judged with the map.",
    source="Montavon, Samek, Müller 2018, Methods for interpreting and understanding deep neural networks, sec. 5.2",
    quick={"steps": 4},
)  # fmt: skip
def selectivity(
    context: MetricContext,
    *,
    steps: Steps = 32,
    order: Ordered = "morf",
    fill: Filled = "mean",
    size: Size = None,
    most: Most = 1.0,
) -> Measure:
    """Mean score while patches are replaced, the most relevant first: the area under the curve over the share replaced."""
    return flipping_curves(context, lambda sample: context.units(sample, size), fill, order, steps, most).measure(order)
