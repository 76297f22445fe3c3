"""Completeness: whether the map's sum is the difference of scores from a baseline."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.metrics.conservation import relative_error
from analyzer.evaluation.registry import metric
from analyzer.perturbation.fill_parameter import FILL_HELP, Fill


@metric(
    "completeness", "axiomatic", needs="scores", higher_is_better=False,
    range="from 0: error of the sum as a share of the difference", cost="1 evaluation",
    blind_spot="Where the relevance lies; and methods that hand out the score itself miss it by what the baseline scores.",
    source="Sundararajan, Taly, Yan 2017, Axiomatic attribution for deep networks, prop. 1", quick={},
)  # fmt: skip
def completeness(
    context: MetricContext,
    *,
    fill: Annotated[Fill, f"the baseline, which replaces the whole input: {FILL_HELP}"] = 0.0,
) -> Measure:
    """Relative error of the map's sum, beside the score less that of the baseline, both as the model gives them."""
    replacements = context.replacements(fill)
    differences: dict[int, float] = {}

    def error(sample: int) -> float | str:
        units = context.units(sample)
        base = context.scores(sample, units, np.zeros((1, units.count), bool), replacements)
        differences[sample] = float(context.score[sample] - base[0])
        return relative_error(float(context.flat(sample).sum()), differences[sample])

    values = context.judged(error)
    record = {"expected": [differences.get(at) for at in range(context.batch)]}
    return Measure.of(values, notes=list(replacements.notes), record=record)
