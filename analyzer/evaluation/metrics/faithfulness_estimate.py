"""Faithfulness estimate: whether each unit by itself changes the score as much as its relevance says."""

from __future__ import annotations

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Size
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric
from analyzer.evaluation.sets import Bins, agreement, ranked_sets


@metric(
    "faithfulness-estimate", "faithfulness", needs="scores", higher_is_better=True, range="[-1, 1]",
    cost="up to sets + 1 evaluations",
    blind_spot="Evidence that is there twice: taking away either alone changes nothing.",
    source="Alvarez-Melis, Jaakkola 2018, Towards robust interpretability with self-explaining neural networks, sec. 5.2",
    quick={"sets": 8},
)  # fmt: skip
def faithfulness_estimate(
    context: MetricContext, *, sets: Bins = 64, fill: Filled = "mean", size: Size = None
) -> Measure:
    """Pearson correlation, over units, of their relevance and of the drop of the score when each is replaced by itself."""
    replacements = context.replacements(fill)

    def one(sample: int) -> float | str:
        units = context.units(sample, size)
        ranked = units.order(context.generator(sample))
        return agreement(context, sample, units, ranked_sets(ranked, sets), replacements)

    return Measure.of(context.judged(one), notes=replacements.notes)
