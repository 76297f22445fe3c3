"""Sensitivity-n: whether sets of any size change the score as much as their relevance says."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Size
from analyzer.evaluation.measure import Array, Curve, Measure
from analyzer.evaluation.registry import metric
from analyzer.evaluation.sets import Draws, Share, agreement, random_sets, set_size
from analyzer.methods.parameters import CELLS


@metric(
    "sensitivity-n", "faithfulness", needs="scores", higher_is_better=True, range="[-1, 1]",
    cost="sizes * draws + 1 evaluations",
    blind_spot="Random sets are spread out: what units do together with their neighbours is hardly looked at.",
    source="Ancona et al. 2018, Towards better understanding of gradient-based attribution methods, sec. 4",
    quick={"sizes": 2, "draws": 8},
)  # fmt: skip
def sensitivity_n(
    context: MetricContext,
    *,
    sizes: Annotated[int, "set sizes n, equally spaced up to the largest", CELLS] = 8,
    draws: Draws = 24,
    largest: Share = 0.8,
    fill: Filled = "mean",
    size: Size = None,
) -> Measure:
    """Pearson correlation, over random sets of n units, of the sets' relevance and of the drop without them; its mean over n.

    It is of every input by itself, as in the paper. Sizes at which there is no correlation, because all sets are alike, are left
    out of the mean.
    """
    replacements = context.replacements(fill)
    x, y = (
        np.tile(np.linspace(largest / sizes, largest, sizes), (context.batch, 1)),
        np.full((context.batch, sizes), np.nan),
    )

    def one(sample: int) -> float | str:
        units, rng = context.units(sample, size), context.generator(sample)
        counts = subset_sizes(units.count, sizes, largest)
        found = {
            int(n): agreement(context, sample, units, random_sets(rng, units.count, int(n), draws), replacements)
            for n in np.unique(counts)
        }
        x[sample] = counts / units.count
        y[sample] = [np.nan if isinstance(found[int(n)], str) else found[int(n)] for n in counts]
        known = [each for each in found.values() if not isinstance(each, str)]
        return float(np.mean(known)) if known else str(next(iter(found.values())))

    values = context.judged(one)
    curve = Curve.of(x, y, "share of units in a set", "correlation")
    return Measure.of(values, curves={"correlation": curve}, notes=replacements.notes)


def subset_sizes(units: int, sizes: int, largest: float) -> Array:
    """So many sizes of sets, (sizes,) int64 from 1; repeated where there are fewer units."""
    return np.rint(np.linspace(1, set_size(units, largest), sizes)).astype(np.int64)
