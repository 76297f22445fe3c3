"""Top-k intersection: how many of the most relevant places lie inside the mask."""

from __future__ import annotations

from typing import Annotated

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.located import Located, Relevance, located, share_of_top
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric
from analyzer.methods.parameters import POSITIVE


@metric(
    "top-k-intersection", "localisation", needs="mask", higher_is_better=True,
    range="[0, 1]; at most the mask's size over k where the mask is smaller", cost="none",
    blind_spot="How strong the relevance is, and everything beyond the first k.",
    source="Theiner, Müller-Budack, Ewerth 2022, Interpretable semantic photo geolocation",
)  # fmt: skip
def top_k_intersection(
    context: MetricContext,
    *,
    k: Annotated[
        float, "how many places: below 1 a share of them, from 1 on a number; at least one and at most all", POSITIVE
    ] = 0.05,
    relevance: Relevance = "signed",
) -> Measure:
    """Share of the k most relevant places that lie inside the mask; equal ones count by their chance."""
    return Measure.of(context.judged(lambda sample: _share(located(context, sample, relevance), k)))


def _share(found: Located | str, k: float) -> float | str:
    if isinstance(found, str):
        return found
    places = len(found.values)
    count = round(k * places) if k < 1 else round(k)
    return share_of_top(found.values, found.mask, min(max(count, 1), places))
