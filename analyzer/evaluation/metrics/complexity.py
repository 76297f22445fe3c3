"""Complexity: the entropy of how the relevance is spread."""

from __future__ import annotations

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array, Measure
from analyzer.evaluation.registry import metric


@metric(
    "complexity", "complexity", needs="map", higher_is_better=None,
    range="[0, ln of the number of elements]: 0 one element has all, the most where all are equal", cost="none",
    blind_spot="Whether the few relevant elements are the right ones: a single wrong pixel has none.",
    source="Bhatt, Weller, Moura 2020, Evaluating and aggregating feature-based model explanations",
)  # fmt: skip
def complexity(context: MetricContext) -> Measure:
    """Entropy, in nats, of the absolute relevance as shares of its sum, over all elements; a map of zeros has none."""
    return Measure.of(context.judged(lambda sample: _entropy(np.abs(context.flat(sample)))))


def _entropy(values: Array) -> float | str:
    if not values.any():
        return "the map is zero everywhere"
    from scipy.stats import entropy

    return max(0.0, float(entropy(values)))
