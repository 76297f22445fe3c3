"""Efficient parameter randomisation: whether the map loses its order with what the model has learnt."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array, Measure
from analyzer.evaluation.randomised import Biases, DrawKind, layers, randomised
from analyzer.evaluation.registry import metric
from analyzer.methods.parameters import Bounds


@metric(
    "efficient-parameter-randomisation", "randomisation", needs="explanations", higher_is_better=True,
    range="from -1: the share by which entropy rises; above 0 the randomised model's map is less ordered",
    cost="1 explanation",
    blind_spot="Which elements are relevant: it sees how values are spread, not where. A map of another random model passes.",
    source="Hedström et al. 2024, A fresh look at sanity checks for saliency maps (eMPRT)",
)  # fmt: skip
def efficient_parameter_randomisation(
    context: MetricContext,
    *,
    bins: Annotated[
        int, "of the histogram of each map's values, equally wide between its ends", Bounds(2, 10_000)
    ] = 100,
    draw: DrawKind = "permuted",
    biases: Biases = False,
) -> Measure:
    """Rise of the map's discrete entropy when all layers are randomised, relative to the unchanged map's."""
    known = layers(context.model, biases)
    key = context.seed, tuple(known), draw, biases
    other = context.explain_made(
        "randomised", key, lambda: randomised(context.model, known, context.seed, draw, biases)
    )
    if isinstance(other, str):
        return Measure.of([other] * context.batch)
    entropies: dict[int, dict[str, float]] = {}

    def rise(sample: int) -> float | str:
        maps = context.flat(sample), context.flat(sample, other.attributions)
        before, after = (discrete_entropy(each, bins) for each in maps)
        entropies[sample] = {"before": before, "after": after}
        if before == 0 or after == 0:
            return f"the map of the {'model' if before == 0 else 'randomised model'} is the same everywhere"
        return (after - before) / before

    values = context.judged(rise)
    return Measure.of(values, record={"entropy": [entropies.get(at) for at in range(context.batch)]})


def discrete_entropy(values: Array, bins: int) -> float:
    """Entropy, in nats, of the histogram of values, its bins equally wide between the least and the largest; 0 of equal ones."""
    from scipy.stats import entropy

    low, high = float(values.min()), float(values.max())
    if low == high:
        return 0.0
    counts, _ = np.histogram((values - low) / (high - low), bins, (0.0, 1.0))
    return max(0.0, float(entropy(counts)))
