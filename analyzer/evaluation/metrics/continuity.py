"""Continuity: whether nearly equal inputs get nearly equal maps, under noise and small movements."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array, Curve, Measure
from analyzer.evaluation.neighbours import (
    Neighbours,
    Radius,
    RadiusScale,
    SameClass,
    Scale,
    explained,
    moved,
    noisy,
    size_of,
)
from analyzer.evaluation.registry import NUMBERS, metric
from analyzer.methods.parameters import Bounds

#: What was done to a sample -> by how many elements it was moved, if it was, and the neighbours.
Groups = dict[str, tuple[Array | None, Neighbours]]


@metric(
    "continuity", "robustness", needs="explanations", higher_is_better=False, modalities=NUMBERS,
    range="from 0, no change; 1 the map changes by the same share as the input (normalised)",
    cost="samples + 2 · shift · axes explanations and as many evaluations",
    blind_spot="Whether the map is right: one that is the same for all inputs is perfectly continuous. A movement moves the map "
    "of a good method along, which counts as a change of both.",
    source="Montavon, Samek, Müller 2018, Methods for interpreting and understanding deep neural networks, sec. 7.1",
    quick={"samples": 1, "shift": 1},
)  # fmt: skip
def continuity(
    context: MetricContext,
    *,
    samples: Annotated[int, "how many noisy neighbours are drawn", Bounds(0, 1_000_000)] = 5,
    radius: Radius = 0.02,
    scale: RadiusScale = "range",
    shift: Annotated[
        int, "how many elements the input is moved each way along every axis of places; tables aren't", Bounds(0, 1024)
    ] = 2,
    same_class: SameClass = False,
    normalise: Annotated[
        bool, "take both changes relative to the unchanged map and input, so that methods of any scale compare"
    ] = True,
) -> Measure:
    """Largest ‖R(x) − R(x')‖₁ / ‖x − x'‖₂ over neighbours of the input; the target stays the same."""
    each: dict[int, Groups] = {}

    def steepest(sample: int) -> float | str:
        groups = each[sample] = _near(context, sample, samples, radius, scale, shift)
        size = size_of(context, sample) if normalise else None
        found = [(near.same_class() if same_class else near).slopes(1, size) for _, near in groups.values()]
        known = [group for group in found if not isinstance(group, str)]
        none = next((group for group in found if isinstance(group, str)), "no neighbours were asked for")
        return float(np.max(np.concatenate(known))) if known else none

    values = context.judged(steepest)
    flips = [_flips(each[at]) if at in each else None for at in range(context.batch)]
    return Measure.of(values, curves=_curves(each, context.batch), record={"class_changes": flips})


def _near(context: MetricContext, sample: int, samples: int, radius: float, scale: Scale, shift: int) -> Groups:
    """A sample's neighbours, by what was done to it."""
    groups: Groups = {}
    if samples:
        groups["noise"] = None, explained(context, sample, noisy(context, sample, samples, radius, scale, "uniform"))
    movements = moved(context, sample, shift) if shift else {}
    several = len({name for name, _ in movements}) > 1
    for (name, letter), (steps, copies) in movements.items():
        label = f"{letter} of {name}" if several else letter
        groups[f"moved along {label}"] = steps, explained(context, sample, copies)
    return groups


def _curves(each: dict[int, Groups], batch: int) -> dict[str, Curve]:
    """How far the map is from the unchanged one, in shares of that: by the step moved, and by the distance of noise."""
    curves = {}
    for label, (steps, first) in next(iter(each.values()), {}).items():
        x, y = (np.full((batch, len(first.distances)), np.nan) for _ in range(2))
        for sample, groups in each.items():
            near = groups[label][1]
            x[sample], y[sample] = near.distances, near.changes(1) / (np.abs(near.map).sum() or np.nan)
        if steps is None:
            curves[label] = Curve(x, y, "distance of the input", "relative change of the map")
            continue
        at = int(np.searchsorted(steps, 0))
        y = np.insert(y, at, np.where(np.isnan(y).all(axis=1), np.nan, 0.0), axis=1)
        curves[label] = Curve(np.insert(steps, at, 0), y, "elements moved", "relative change of the map")
    return curves


def _flips(groups: Groups) -> int | None:
    """How many neighbours the model puts into another class; None where that isn't known."""
    counts = [near.changes_of_class for _, near in groups.values()]
    return None if None in counts else sum(count for count in counts if count is not None)
