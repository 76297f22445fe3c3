"""Monotonicity correlation: whether units with more relevance, of either sign, move the score more."""

from __future__ import annotations

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Size
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric
from analyzer.evaluation.sets import Bins, correlation, ranked_sets


@metric(
    "monotonicity-correlation", "faithfulness", needs="scores", higher_is_better=True, range="[-1, 1]", signed=False,
    cost="up to sets + 1 evaluations",
    blind_spot="The sign of relevance; and evidence that is there twice, of which taking away either alone changes nothing.",
    source="Nguyen, Martínez 2020, On quantitative aspects of model interpretability, sec. 3.2, the fill in place of draws",
    quick={"sets": 8},
)  # fmt: skip
def monotonicity_correlation(
    context: MetricContext, *, sets: Bins = 64, fill: Filled = "mean", size: Size = None
) -> Measure:
    """Spearman correlation, over units, of the size of their relevance and of the squared change when each is replaced."""
    replacements = context.replacements(fill)

    def one(sample: int) -> float | str:
        units = context.units(sample, size).sized()
        parts = ranked_sets(units.order(context.generator(sample), descending=False), sets)
        drops = context.drops(sample, units, ~parts, replacements)
        changes = np.abs(drops)  # ranked as their squares are
        return correlation(parts @ units.relevance, changes, context.rounding(sample, drops), "spearman")

    return Measure.of(context.judged(one), notes=replacements.notes)
