"""Insertion: how fast the probability rises as the most relevant units are put into the fill."""

from __future__ import annotations

from typing import Annotated

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Most, Ordered, Scored, Steps, flipping_curves
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric
from analyzer.methods.parameters import CELLS


@metric(
    "insertion", "faithfulness", needs="scores", higher_is_better=True,
    range="[0, 1] of probabilities; else in units of the score", cost="steps + 1 evaluations",
    blind_spot="What inputs of mostly fill mean to the model: they are least like those that it was trained on.",
    source="Petsiuk, Das, Saenko 2018, RISE: randomized input sampling for explanation, sec. 4.2", quick={"steps": 4},
)  # fmt: skip
def insertion(
    context: MetricContext,
    *,
    steps: Steps = 32,
    order: Ordered = "morf",
    fill: Filled = "mean",
    score: Scored = "probability",
    size: Annotated[int, "side of a unit of a picture or length of a piece of a series, in elements", CELLS] = 1,
    most: Most = 1.0,
) -> Measure:
    """Mean probability while units are put back into an input of nothing but the fill, the most relevant first."""
    scored = context.scored_as(score)
    curves = flipping_curves(scored, lambda sample: scored.units(sample, size), fill, order, steps, most, insert=True)
    return curves.measure(order)
