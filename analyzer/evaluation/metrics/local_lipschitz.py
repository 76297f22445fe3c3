"""Local Lipschitz estimate: the steepest change of the map beside that of the input."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.neighbours import NoiseKind, Radius, RadiusScale, SameClass, Samples, explained, noisy, size_of
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
    flips: dict[int, int | None] = {}

    def steepest(sample: int) -> float | str:
        near = explained(context, sample, noisy(context, sample, samples, radius, scale, noise))
        flips[sample] = near.changes_of_class
        size = size_of(context, sample) if normalise else None
        found = (near.same_class() if same_class else near).slopes(2, size)
        return found if isinstance(found, str) else float(np.max(found))

    values = context.judged(steepest)
    return Measure.of(values, record={"class_changes": [flips.get(at) for at in range(context.batch)]})
