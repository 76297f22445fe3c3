"""Curves of the score while units are taken away, or put in, in an order: what pixel-flipping and its kin are made of.

Belongs here: orders, steps, curves, the areas under them. Not here: what a metric makes of them (``metrics``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array, Curve, Measure
from analyzer.evaluation.score_context import ScoreKind
from analyzer.evaluation.units import Units
from analyzer.methods.parameters import CELLS, COUNT, Bounds
from analyzer.perturbation.fill_parameter import FILL_HELP, Fill

Order = Literal["morf", "lerf", "random"]
Steps = Annotated[
    int, "points of the curve behind the first, equal shares of the units apart; at most one for each", COUNT
]
Ordered = Annotated[Order, "morf: most relevant first; lerf: least relevant first; random: the control"]
Filled = Annotated[Fill, f"what replaces units; mean is 0 for columns and words: {FILL_HELP}"]
Size = Annotated[
    int | None,
    "side of a unit of a picture, or length of a piece of a series, in elements; None: 64 units in all",
    CELLS,
]
Most = Annotated[float, "share of the units that is replaced in the end", Bounds(0.01, 1)]
Scored = Annotated[
    ScoreKind, "probability: of the explained class, where its logit is explained; explained: the score itself"
]
#: What a curve of ties is noted as.
TIES = "the relevance is the same everywhere: the order is of chance"


@dataclass
class Curves:
    """One curve for each sample.

    Attributes
    ----------
    x
        (samples, points) shares of the units that have been replaced, or put in.
    y
        (samples, points) scores; NaN throughout for a map that isn't finite.
    found
        For each sample the area under the curve over the share, a mean score; or why there is none.
    score
        What the scores are.
    insert
        Whether units have been put in.
    """

    x: Array
    y: Array
    found: list[float | str]
    notes: list[str]
    score: str
    insert: bool = False

    @property
    def aopc(self) -> list[float | str]:
        """For each sample the mean drop of the score over all points, the first included; or why there is none."""
        drops = [_distinct(x, y[0] - y).mean() for x, y in zip(self.x, self.y, strict=True)]
        return [old if isinstance(old, str) else float(drop) for old, drop in zip(self.found, drops, strict=True)]

    @property
    def record(self) -> dict[str, Any]:
        """What the scores are and, where units were replaced, the mean drops."""
        drops = {"aopc": [None if isinstance(each, str) else each for each in self.aopc]}
        return {"score": self.score, **({} if self.insert else drops)}

    def measure(self, order: Order, found: list[float | str] | None = None) -> Measure:
        """Values with these curves; None for the areas under them."""
        curve = Curve.of(
            self.x, self.y, "share of units put in" if self.insert else "share of units replaced", self.score
        )
        values = self.found if found is None else found
        return Measure.of(values, curves={order: curve}, notes=self.notes, record=self.record, turned=order == "lerf")


def flipping_curves(
    context: MetricContext,
    cut: Callable[[int], Units],
    fill: Fill,
    order: Order,
    steps: int,
    most: float = 1.0,
    *,
    insert: bool = False,
) -> Curves:
    """Scores while units are replaced in an order.

    Parameters
    ----------
    cut
        The units of a sample.
    most
        The share that is replaced, or put in, in the end.
    insert
        Whether everything is replaced at first, and units are put in.
    """
    replacements = context.replacements(fill)
    x = np.tile(np.linspace(0, most, steps + 1), (context.batch, 1))
    y = np.full((context.batch, steps + 1), np.nan)
    notes: dict[str, None] = {}

    def one(sample: int) -> float | str:
        units, rng = cut(sample), context.generator(sample)
        if units.tied:
            notes[TIES] = None
        ranked = ranking(units, rng, order)
        counts = step_counts(units.count, steps, most)
        known = counts == (units.count if insert else 0)  # the unchanged input
        distinct = np.unique(counts[~known])
        first = first_of(ranked, distinct)
        scores = context.scores(sample, units, first if insert else ~first, replacements)
        y[sample] = context.score[sample]
        y[sample, ~known] = scores[np.searchsorted(distinct, counts[~known])]
        x[sample] = counts / units.count
        return float(np.trapezoid(y[sample], x[sample]) / x[sample, -1])

    found = context.judged(one)
    told = [*context.score_notes, *replacements.notes, *notes]
    return Curves(x, y, found, told, context.score_kind, insert)


def ranking(units: Units, rng: np.random.Generator, order: Order) -> Array:
    """Unit numbers in the order in which they are replaced or put in."""
    return rng.permutation(units.count) if order == "random" else units.order(rng, order == "morf")


def step_counts(units: int, steps: int, most: float = 1.0) -> Array:
    """How many units have been replaced at every point, (steps + 1,) int64 from 0; repeated where there are fewer units."""
    last = max(1, int(np.rint(most * units)))
    return np.rint(np.linspace(0, last, steps + 1)).astype(np.int64)


def first_of(ranked: Array, counts: Array) -> Array:
    """Which units are among the first of a ranking, (counts, units) bool."""
    place = np.empty(len(ranked), np.int64)
    place[ranked] = np.arange(len(ranked))
    return np.asarray(place < np.asarray(counts)[:, None])


def _distinct(x: Array, y: Array) -> Array:
    """The points that aren't repetitions."""
    return np.asarray(y[np.unique(x, return_index=True)[1]])
