"""Sparseness: how unequally the relevance is spread."""

from __future__ import annotations

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array, Measure
from analyzer.evaluation.registry import metric


@metric(
    "sparseness", "complexity", needs="map", higher_is_better=None, range="[0, 1): 0 all equal, near 1 one element has all",
    cost="none", blind_spot="Whether the few relevant elements are the right ones: a single wrong pixel is perfectly sparse.",
    source="Chalasani et al. 2020, Concise explanations of neural networks using adversarial training, sec. 4 (Gini index)",
)  # fmt: skip
def sparseness(context: MetricContext) -> Measure:
    """Gini index of the absolute relevance over all elements; a map of zeros has none."""
    return Measure.of(context.judged(lambda sample: _gini(np.abs(context.flat(sample)))))


def _gini(values: Array) -> float | str:
    total, count = float(values.sum()), len(values)
    if total == 0:
        return "the map is zero everywhere"
    ranks = np.arange(1, count + 1)
    return float((2 * ranks - count - 1) @ np.sort(values) / (count * total))
