"""Relevance rank: how much of the mask the most relevant places fill."""

from __future__ import annotations

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.located import Relevance, located, share_of_top
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric


@metric(
    "relevance-rank", "localisation", needs="mask", higher_is_better=True,
    range="[0, 1]; a map that knows nothing reaches the mask's share of the area on average", cost="none",
    blind_spot="How strong the relevance is; a part of the object that suffices for the decision scores low.",
    source="Arras, Osman, Samek 2022, CLEVR-XAI (relevance rank accuracy)",
)  # fmt: skip
def relevance_rank(context: MetricContext, *, relevance: Relevance = "signed") -> Measure:
    """Share of as many most relevant places as the mask has that lie inside it; equal ones count by their chance."""

    def share(sample: int) -> float | str:
        found = located(context, sample, relevance)
        return found if isinstance(found, str) else share_of_top(found.values, found.mask, int(found.mask.sum()))

    return Measure.of(context.judged(share))
