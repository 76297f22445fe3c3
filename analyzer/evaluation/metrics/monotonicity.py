"""Monotonicity: whether each unit that is put in moves the score the way that its relevance says."""

from __future__ import annotations

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Size
from analyzer.evaluation.measure import Array, Measure
from analyzer.evaluation.registry import metric
from analyzer.evaluation.sets import Bins, ranked_sets

NO_CLAIM = "no unit has relevance"


@metric(
    "monotonicity", "faithfulness", needs="scores", higher_is_better=True, range="[0, 1]",
    cost="up to sets + 2 evaluations",
    blind_spot="How much the score moves: where all relevance is positive and every unit helps, any order will do.",
    source="Luss et al. 2019, Generating contrastive explanations with monotonic attribute functions; Arya et al. 2019, One "
    "explanation does not fit all, sec. 4, for maps with signs",
    quick={"sets": 8},
)  # fmt: skip
def monotonicity(context: MetricContext, *, sets: Bins = 32, fill: Filled = "mean", size: Size = None) -> Measure:
    """Share of the relevance that moves the score its way as units are put into the fill, the least relevant first.

    Where the relevance put in is positive the score mustn't fall, where it is negative it mustn't rise. Of a map without negative
    values, 1 is the condition of the sources: the score never falls.
    """
    replacements = context.replacements(fill)

    def one(sample: int) -> float | str:
        units = context.units(sample, size)
        parts = ranked_sets(units.order(context.generator(sample), descending=False), sets)
        present = np.concatenate([np.zeros((1, units.count), bool), np.logical_or.accumulate(parts)])
        known = present[:-1]  # the last is the unchanged input
        drops = np.append(context.drops(sample, units, known, replacements), 0.0)
        return share_as_promised(parts @ units.relevance, -np.diff(drops), context.rounding(sample, drops))

    return Measure.of(context.judged(one), notes=replacements.notes)


def share_as_promised(relevance: Array, gains: Array, rounding: float) -> float | str:
    """Share of the relevance of steps, (steps,), whose sign the gain of the score, less rounding, doesn't contradict."""
    sizes = np.abs(relevance)
    if not sizes.any():
        return NO_CLAIM
    kept = np.sign(relevance) * gains >= -rounding
    return float(sizes[kept].sum() / sizes.sum())
