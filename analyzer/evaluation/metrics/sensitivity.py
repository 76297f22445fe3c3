"""Sensitivity: how much the map changes where the input hardly does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array, Measure
from analyzer.evaluation.neighbours import (
    Neighbours,
    Noise,
    NoiseKind,
    Radius,
    RadiusScale,
    SameClass,
    Samples,
    Scale,
    explained,
    noisy,
)
from analyzer.evaluation.registry import NUMBERS, metric

_RANGE = "from 0, no change; 1 the change is as large as the map"
_COST = "samples explanations and as many evaluations"
_BLIND = (
    "Whether the map is right: one that ignores the input never changes. Methods that draw at random are charged with their own "
    "noise, and where the model itself jumps so should the map."
)


@metric(
    "max-sensitivity", "robustness", needs="explanations", higher_is_better=False, modalities=NUMBERS,
    range=_RANGE, cost=_COST, blind_spot=_BLIND,
    source="Yeh et al. 2019, On the (in)fidelity and sensitivity of explanations", quick={"samples": 2},
)  # fmt: skip
def max_sensitivity(
    context: MetricContext,
    *,
    samples: Samples = 10,
    radius: Radius = 0.02,
    scale: RadiusScale = "range",
    noise: NoiseKind = "uniform",
    same_class: SameClass = False,
) -> Measure:
    """Largest change of the map over neighbours of the input, ‖E(x) − E(x')‖₂ / ‖E(x)‖₂; the target stays the same."""
    return over_noise(context, samples, radius, scale, noise, same_class, _relative, np.max)


@metric(
    "average-sensitivity", "robustness", needs="explanations", higher_is_better=False, modalities=NUMBERS,
    range=_RANGE, cost=_COST,
    blind_spot=_BLIND, source="Bhatt, Weller, Moura 2020, Evaluating and aggregating feature-based model explanations",
    quick={"samples": 2},
)  # fmt: skip
def average_sensitivity(
    context: MetricContext,
    *,
    samples: Samples = 10,
    radius: Radius = 0.02,
    scale: RadiusScale = "range",
    noise: NoiseKind = "uniform",
    same_class: SameClass = False,
) -> Measure:
    """Mean change of the map over neighbours of the input, ‖E(x) − E(x')‖₂ / ‖E(x)‖₂; the target stays the same."""
    return over_noise(context, samples, radius, scale, noise, same_class, _relative, np.mean)


def over_noise(
    context: MetricContext,
    samples: int,
    radius: float,
    scale: Scale,
    noise: Noise,
    same_class: bool,
    figures: Callable[[int, Neighbours], Array | str],
    summary: Callable[[Array], float],
) -> Measure:
    """A summary of a figure of every noisy neighbour, or why there is none; and how many change their class.

    Parameters
    ----------
    figures
        Given a sample and the neighbours that count: (n,), or why there are none.
    """
    flips: dict[int, int | None] = {}

    def one(sample: int) -> float | str:
        near = explained(context, sample, noisy(context, sample, samples, radius, scale, noise))
        flips[sample] = near.changes_of_class
        found = figures(sample, near.same_class() if same_class else near)
        return found if isinstance(found, str) else float(summary(found))

    values = context.judged(one)
    return Measure.of(values, record={"class_changes": [flips.get(at) for at in range(context.batch)]})


def _relative(sample: int, near: Neighbours) -> Array | str:
    return near.relative_changes(2)
