"""Relevance mass: how much of the relevance lies inside the mask."""

from __future__ import annotations

from typing import Annotated, Literal

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.located import located
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric


@metric(
    "relevance-mass", "localisation", needs="mask", higher_is_better=True,
    range="[0, 1]; a map that knows nothing reaches the mask's share of the area on average", cost="none",
    blind_spot="Where inside it lies; and a model that rightly uses what is beside the mask scores low.",
    source="Arras, Osman, Samek 2022, CLEVR-XAI (relevance mass accuracy)",
)  # fmt: skip
def relevance_mass(
    context: MetricContext,
    *,
    relevance: Annotated[
        Literal["positive", "absolute"],
        "what counts of each place's relevance, its channels summed: positive; absolute (a signed sum may be near zero)",
    ] = "positive",
) -> Measure:
    """Share of the relevance that lies inside the mask; a map without any has none."""
    areas: dict[int, float] = {}

    def inside(sample: int) -> float | str:
        found = located(context, sample, relevance)
        if isinstance(found, str):
            return found
        areas[sample] = float(found.mask.mean())
        return float(found.values[found.mask].sum() / found.values.sum())

    values = context.judged(inside)
    over = [
        value / areas[at] if at in areas and not isinstance(value, str) else None for at, value in enumerate(values)
    ]
    return Measure.of(values, record={"area": [areas.get(at) for at in range(context.batch)], "mass_over_area": over})
