"""Pixel-flipping: how the score falls as the most relevant units are taken away, one after the other."""

from __future__ import annotations

from typing import Annotated

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Most, Ordered, Steps, flipping_curves
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric
from analyzer.methods.parameters import CELLS


@metric(
    "pixel-flipping", "faithfulness", needs="scores", higher_is_better=False,
    range="unbounded, in units of the score", cost="steps + 1 evaluations",
    blind_spot="The fill is judged with the map: a model may answer anything to inputs unlike those that it was trained on.",
    source="Bach et al. 2015, sec. Evaluating heatmaps; Samek et al. 2017, eq. 12 (AOPC)", quick={"steps": 4},
)  # fmt: skip
def pixel_flipping(
    context: MetricContext,
    *,
    steps: Steps = 32,
    order: Ordered = "morf",
    fill: Filled = "mean",
    size: Annotated[int, "side of a unit of a picture or length of a piece of a series, in elements", CELLS] = 1,
    most: Most = 1.0,
) -> Measure:
    """Mean score while units are replaced, the most relevant first: the area under the curve over the share replaced."""
    return flipping_curves(context, lambda sample: context.units(sample, size), fill, order, steps, most).measure(order)
