"""Effective complexity: how many elements matter beside the most relevant one."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array, Measure
from analyzer.evaluation.registry import metric
from analyzer.methods.parameters import Bounds


@metric(
    "effective-complexity", "complexity", needs="map", higher_is_better=None,
    range="(0, 1]: near 0 one element stands out, 1 all are of a size", cost="none",
    blind_spot="Whether the relevant elements are the right ones; one extreme element makes all others count as nothing.",
    source="after Nguyen, Martínez 2020, On quantitative aspects of model interpretability (there by the score)",
)  # fmt: skip
def effective_complexity(
    context: MetricContext,
    *,
    threshold: Annotated[
        float, "from which share of the largest absolute relevance an element counts", Bounds(0, 1)
    ] = 0.05,
) -> Measure:
    """Share of elements whose absolute relevance reaches a share of the largest; a map of zeros has none."""
    return Measure.of(context.judged(lambda sample: _share(np.abs(context.flat(sample)), threshold)))


def _share(values: Array, threshold: float) -> float | str:
    most = values.max(initial=0.0)
    if most == 0:
        return "the map is zero everywhere"
    return float(((values >= threshold * most) & (values > 0)).mean())
