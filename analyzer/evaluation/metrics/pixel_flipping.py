"""Pixel-flipping: how the score falls as the most relevant units are taken away, one after the other."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array, Curve, Measure
from analyzer.evaluation.registry import metric
from analyzer.methods.parameters import CELLS, COUNT, Bounds
from analyzer.perturbation.fill_parameter import FILL_HELP, Fill

Order = Literal["morf", "lerf", "random"]


@metric(
    "pixel-flipping", "faithfulness", needs="scores", higher_is_better=False,
    range="unbounded, in units of the score", cost="steps evaluations",
    blind_spot="The fill is judged with the map: a model may answer anything to inputs unlike those that it was trained on.",
    source="Bach et al. 2015, sec. Evaluating heatmaps; Samek et al. 2017, eq. 12 (AOPC)", quick={"steps": 4},
)  # fmt: skip
def pixel_flipping(
    context: MetricContext,
    *,
    steps: Annotated[
        int, "points of the curve behind the unchanged input, equal shares of the units apart", COUNT
    ] = 32,
    order: Annotated[Order, "morf: most relevant first; lerf: least relevant first; random: the control"] = "morf",
    fill: Annotated[Fill, f"what replaces units: {FILL_HELP}"] = "mean",
    size: Annotated[int, "side of a unit of a picture or length of a piece of a series, in elements", CELLS] = 1,
    most: Annotated[float, "share of the units that is taken away in the end", Bounds(0, 1)] = 1.0,
) -> Measure:
    """Mean score while units are replaced, the most relevant first: the area under the curve over the share replaced."""
    replacements = context.replacements(fill)
    curves: list[Array] = []
    for sample in range(context.batch):
        units = context.units(sample, size)
        rng = context.generator(sample)
        ranked = rng.permutation(units.count) if order == "random" else units.order(rng, order == "morf")
        present = flipped(ranked, steps, most)
        scores = context.scores(sample, units, present, replacements)
        curves.append(np.concatenate([[context.score[sample]], scores]))
        context.advance(sample + 1, context.batch)
    y = np.stack(curves)
    x = np.linspace(0, most, steps + 1)
    values = np.trapezoid(y, x, axis=1) / most
    record = {"aopc": [float(v) for v in (y[:, :1] - y[:, 1:]).mean(axis=1)]}
    curve = Curve(x, y, "share of units replaced", "score")
    return Measure(values, curves={order: curve}, notes=replacements.notes, record=record)


def flipped(ranked: Array, steps: int, most: float = 1.0) -> Array:
    """Which units are left after each step, (steps, units) bool: the first of the ranking go first."""
    place = np.empty(len(ranked), np.int64)
    place[ranked] = np.arange(len(ranked))
    gone = np.rint(np.linspace(0, most * len(ranked), steps + 1)[1:]).astype(np.int64)
    return np.asarray(place >= gone[:, None])
