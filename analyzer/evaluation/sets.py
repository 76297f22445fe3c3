"""Sets of units that are replaced together, and how the relevance in them goes with the change of the score.

Belongs here: drawing sets, their relevance, correlations with a defined answer for ties. Not here: what a metric makes of them
(``metrics``).
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array
from analyzer.evaluation.units import TIED, Units
from analyzer.methods.parameters import MOST, Bounds
from analyzer.perturbation.replacement import Replacements

Draws = Annotated[
    int, "random sets, each a model evaluation (or one per background sample), at least 3", Bounds(3, MOST)
]
Share = Annotated[float, "share of the units that a set holds, at least one unit and not all", Bounds(0, 1, open=True)]
Bins = Annotated[
    int, "most sets of units, each an evaluation; of more units, those next to each other in the ranking share one",
    Bounds(3, MOST),
]  # fmt: skip
FEW = "there are fewer than three different sets of units to compare"
UNCHANGED = "the score doesn't change, whatever is replaced"
SAME = "the relevance is the same in all sets"


def set_size(units: int, share: float) -> int:
    """How many units are that share of all: at least one, and not all where there are several."""
    return int(np.clip(np.rint(share * units), 1, max(1, units - 1)))


def random_sets(rng: np.random.Generator, units: int, size: int, count: int) -> Array:
    """Random sets of so many units, each as likely: (count, units) bool, true for what is in the set."""
    order = np.argsort(rng.random((count, units)), axis=1)
    sets = np.zeros((count, units), bool)
    np.put_along_axis(sets, order[:, :size], True, axis=1)
    return sets


def ranked_sets(ranked: Array, most: int) -> Array:
    """A ranking cut into up to so many sets of nearly equal size, in its order: (sets, units) bool."""
    parts = np.array_split(ranked, min(most, len(ranked)))
    sets = np.zeros((len(parts), len(ranked)), bool)
    for at, part in enumerate(parts):
        sets[at, part] = True
    return sets


def agreement(
    context: MetricContext, sample: int, units: Units, sets: Array, replacements: Replacements
) -> float | str:
    """Pearson correlation, over sets, of their relevance and of the drop of the score when they are replaced."""
    drops = context.drops(sample, units, ~sets, replacements)
    return correlation(sets @ units.relevance, drops, context.rounding(sample, drops))


def correlation(
    relevance: Array, changes: Array, rounding: float, kind: Literal["pearson", "spearman"] = "pearson"
) -> float | str:
    """A correlation coefficient, or why there is none.

    Parameters
    ----------
    relevance, changes
        (n,) float64, of the sets and of the score.
    rounding
        Changes that differ by no more are the same.
    """
    if len(relevance) < 3:
        return FEW
    if np.ptp(relevance) <= TIED * np.abs(relevance).max():
        return SAME
    if np.ptp(changes) <= rounding:
        return UNCHANGED
    if kind == "spearman":
        from scipy.stats import rankdata

        relevance, changes = rankdata(relevance), rankdata(changes)
    return float(np.corrcoef(relevance, changes)[0, 1])
