"""IROF: how fast the probability falls, as a share of what it was, while superpixels are taken away."""

from __future__ import annotations

from typing import Annotated, Any

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Most, Ordered, Scored, Steps, flipping_curves
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric

NOT_POSITIVE = "the score of the unchanged input is next to nothing or below, so that a share of it means nothing"
#: A probability below it is next to nothing.
_LEAST = 1e-3


@metric(
    "irof", "faithfulness", needs="scores", higher_is_better=True,
    range="up to 1: the probability is gone at once; below 0 where it rises", cost="steps + 1 evaluations",
    blind_spot="How relevance is spread inside a superpixel; shares of a small probability are huge.",
    source="Rieger, Hansen 2020, IROF: a low resource evaluation metric for explanation methods, eq. 1 to 3",
    quick={"steps": 4},
)  # fmt: skip
def irof(
    context: MetricContext,
    *,
    steps: Steps = 32,
    order: Ordered = "morf",
    fill: Filled = "mean",
    score: Scored = "probability",
    segments: Annotated[
        Any, "how the sample is cut: count, slic, grid:8, or an integer mask; None: what suits the input"
    ] = None,
    most: Most = 1.0,
) -> Measure:
    """Area over the curve of the probability, as a share of the input's, while superpixels are replaced, the most relevant first.

    Superpixels are ranked by the mean of their relevance, not the sum, which would favour large ones.
    """
    scored = context.scored_as(score)
    curves = flipping_curves(scored, lambda sample: scored.superpixels(sample, segments), fill, order, steps, most)
    least = _LEAST if curves.score == "probability" else 0.0

    def over(area: float | str, first: float) -> float | str:
        if isinstance(area, str):
            return area
        return 1 - area / first if first > least else NOT_POSITIVE

    found = [over(area, float(first)) for area, first in zip(curves.found, scored.score, strict=True)]
    return curves.measure(order, found)
