"""Local Lipschitz estimate: the steepest change of the map beside that of the input."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array, Measure
from analyzer.evaluation.metrics.sensitivity import over_noise
from analyzer.evaluation.neighbours import Neighbours, NoiseKind, Radius, RadiusScale, SameClass, Samples, size_of
from analyzer.evaluation.registry import NUMBERS, metric


@metric(
    "local-lipschitz", "robustness", needs="explanations", higher_is_better=False, modalities=NUMBERS,
    range="from 0, no change; 1 the map changes by the same share as the input (normalised)",
    cost="samples explanations and as many evaluations",
    blind_spot="Whether the map is right: one that ignores the input never changes. A few draws find no true maximum.",
    source="Alvarez-Melis, Jaakkola 2018, On the robustness of interpretability methods", quick={"samples": 2},
)  # fmt: skip
def local_lipschitz(
    context: MetricContext,
    *,
    samples: Samples = 10,
    radius: Radius = 0.02,
    scale: RadiusScale = "range",
    noise: NoiseKind = "normal",
    same_class: SameClass = False,
    normalise: Annotated[
        bool, "take both changes relative to the unchanged map and input, so that methods of any scale compare"
    ] = True,
) -> Measure:
    """Largest ‖E(x) − E(x')‖₂ / ‖x − x'‖₂ over neighbours of the input; the target stays the same."""

    def slopes(sample: int, near: Neighbours) -> Array | str:
        return near.slopes(2, size_of(context, sample) if normalise else None)

    return over_noise(context, samples, radius, scale, noise, same_class, slopes, np.max)
