"""Non-sensitivity: whether relevance is given to those units, and only those, that the score depends on."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Size
from analyzer.evaluation.measure import Array, Measure
from analyzer.evaluation.registry import metric
from analyzer.methods.parameters import COUNT, SHARE

NOTHING_CHANGES = "what replaces units is what they are already"


@metric(
    "non-sensitivity", "axiomatic", needs="scores", higher_is_better=False, range="[0, 1]", signed=False,
    cost="up to units + 1 evaluations",
    blind_spot="How much relevance a unit has: any map that is nowhere zero is as good as another; and evidence that is there "
    "twice, of which neither alone changes the score.",
    source="Nguyen, Martínez 2020, On quantitative aspects of model interpretability, sec. 3.2; as a share of the units",
    quick={"units": 8},
)  # fmt: skip
def non_sensitivity(
    context: MetricContext,
    *,
    units: Annotated[int, "most units that are looked at, drawn from all, each an evaluation", COUNT] = 64,
    tolerance: Annotated[float, "up to this share of the largest, relevance and changes count as none", SHARE] = 1e-5,
    fill: Filled = "mean",
    size: Size = None,
) -> Measure:
    """Share of the units that have relevance and don't change the score when replaced, or change it and have none."""
    replacements = context.replacements(fill)
    notes = dict.fromkeys(replacements.notes)

    def one(sample: int) -> float | str:
        cut = context.units(sample, size, {name: np.abs(value) for name, value in context.unit_map(sample).items()})
        able = np.flatnonzero(context.altered(sample, cut, replacements))
        if not able.size:
            return NOTHING_CHANGES
        if len(able) > units:
            notes[f"{units} units are looked at, drawn with the seed from those that the fill changes"] = None
            able = np.sort(context.generator(sample).choice(able, units, replace=False))
        present = np.ones((len(able), cut.count), bool)
        present[np.arange(len(able)), able] = False
        drops = context.drops(sample, cut, present, replacements)
        changes = np.abs(drops)
        threshold = max(context.rounding(sample, drops), tolerance * float(changes.max()))
        return disagreement(cut.relevance[able] > tolerance * cut.relevance.max(), changes > threshold)

    found = context.judged(one)
    return Measure.of(found, notes=list(notes))


def disagreement(relevant: Array, influential: Array) -> float:
    """Share of the units, (n,) bool each, of which only one is true."""
    return float(np.mean(relevant != influential))
