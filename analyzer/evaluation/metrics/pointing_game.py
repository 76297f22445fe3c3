"""Pointing game: whether the most relevant place lies inside the mask."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.located import Located, Relevance, located
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric
from analyzer.methods.parameters import Bounds


@metric(
    "pointing-game", "localisation", needs="mask", higher_is_better=True,
    range="[0, 1]: 1 hit, 0 miss, between them the share of equal maxima that hit", cost="none",
    blind_spot="Everything but the one maximum; and whether the model decides by what lies inside the mask at all.",
    source="Zhang et al. 2018, Top-down neural attention by excitation backprop",
)  # fmt: skip
def pointing_game(
    context: MetricContext,
    *,
    relevance: Relevance = "signed",
    tolerance: Annotated[
        float,
        "so many elements beside the mask still hit (Euclidean distance; columns and words have no beside)",
        Bounds(0, 1e6),
    ] = 0.0,
) -> Measure:
    """Whether the most relevant place lies inside the mask; a map that is the same everywhere points nowhere and has none."""
    return Measure.of(context.judged(lambda sample: _hit(located(context, sample, relevance), tolerance)))


def _hit(found: Located | str, tolerance: float) -> float | str:
    if isinstance(found, str):
        return found
    values = found.values
    if values.max() == values.min():
        return "the map is the same everywhere"
    near = np.concatenate([_widened(found, name, tolerance).reshape(-1) for name in found.inside])
    return float(near[values == values.max()].mean())


def _widened(found: Located, name: str, tolerance: float) -> np.ndarray:
    """The mask and what lies so near to it."""
    inside = found.inside[name]
    if not tolerance or not found.ordered[name] or not inside.any():
        return inside
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~inside) <= tolerance)
