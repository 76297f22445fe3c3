"""Deletion: how fast the probability falls as the most relevant units are taken away."""

from __future__ import annotations

from typing import Annotated

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Most, Ordered, Scored, Steps, flipping_curves
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric
from analyzer.methods.parameters import CELLS


@metric(
    "deletion", "faithfulness", needs="scores", higher_is_better=False,
    range="[0, 1] of probabilities; else in units of the score", cost="steps + 1 evaluations",
    blind_spot="The fill is judged with the map; a saturated probability hides what the first units did.",
    source="Petsiuk, Das, Saenko 2018, RISE: randomized input sampling for explanation, sec. 4.2", quick={"steps": 4},
)  # fmt: skip
def deletion(
    context: MetricContext,
    *,
    steps: Steps = 32,
    order: Ordered = "morf",
    fill: Filled = "mean",
    score: Scored = "probability",
    size: Annotated[int, "side of a unit of a picture or length of a piece of a series, in elements", CELLS] = 1,
    most: Most = 1.0,
) -> Measure:
    """Mean probability while units are replaced, the most relevant first."""
    scored = context.scored_as(score)
    curves = flipping_curves(scored, lambda sample: scored.units(sample, size), fill, order, steps, most)
    return curves.measure(order)
