"""Faithfulness correlation: whether random sets of units change the score as much as their relevance says."""

from __future__ import annotations

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Size
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric
from analyzer.evaluation.sets import Draws, Share, agreement, random_sets, set_size


@metric(
    "faithfulness-correlation", "faithfulness", needs="scores", higher_is_better=True, range="[-1, 1]",
    cost="draws + 1 evaluations",
    blind_spot="Sets of one size alone are looked at; where the model isn't additive even a perfect map stays below 1.",
    source="Bhatt, Weller, Moura 2020, Evaluating and aggregating feature-based model explanations, def. 3",
    quick={"draws": 8},
)  # fmt: skip
def faithfulness_correlation(
    context: MetricContext, *, draws: Draws = 100, share: Share = 0.2, fill: Filled = "mean", size: Size = None
) -> Measure:
    """Pearson correlation, over random sets of units, of the sets' relevance and of the drop without them."""
    replacements = context.replacements(fill)

    def one(sample: int) -> float | str:
        units = context.units(sample, size)
        sets = random_sets(context.generator(sample), units.count, set_size(units.count, share), draws)
        return agreement(context, sample, units, sets, replacements)

    return Measure.of(context.judged(one), notes=replacements.notes)
