"""Infidelity: how far the drop that a map predicts is from the drop that happens."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from analyzer.errors import UsageError
from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import Filled, Size
from analyzer.evaluation.measure import Array, Measure
from analyzer.evaluation.registry import metric
from analyzer.evaluation.sets import Draws, Share, random_sets, set_size
from analyzer.methods import registry as methods
from analyzer.perturbation.replacement import BackgroundRows, Replacements

Kind = Literal["auto", "contribution", "derivative"]
NO_DIFFERENCE = "derivatives say nothing of words or categories that are replaced by others"


@metric(
    "infidelity", "faithfulness", needs="scores", higher_is_better=False, range="0 and above, in squared units of the score",
    cost="draws + 1 evaluations",
    blind_spot="A map with the right order and another scale is bad: maps without a sum to keep to need normalize.",
    source="Yeh et al. 2019, On the (in)fidelity and sensitivity of explanations, def. 2.1 with a baseline on a random subset",
    quick={"draws": 8},
)  # fmt: skip
def infidelity(
    context: MetricContext,
    *,
    draws: Draws = 100,
    share: Share = 0.1,
    fill: Filled = "mean",
    size: Size = None,
    kind: Annotated[
        Kind,
        "what the map holds: contributions to the score, or derivatives by the input; auto: as its method declares",
    ] = "auto",
    normalize: Annotated[bool, "scale each map first by the factor, 0 or above, that fits best"] = False,
) -> Measure:
    """Mean squared error of the drop of the score that the map predicts when random sets of units are replaced.

    Of contributions the prediction is their sum over the set; of derivatives the sum of derivative times the change of the input.
    With the other reading even an exact map is wrong, so that the method declares which of the two it gives. Of large sets no sum
    predicts the drop where units interact.
    """
    explanation = context.explanation
    if kind == "auto":
        info = methods.methods().get(explanation.method)  # None for an explanation that was made elsewhere
        slopes = info is not None and info.gives_derivatives(explanation.params)
        kind = "derivative" if slopes else "contribution"
    replacements = context.replacements(fill)
    squares = [np.nan] * context.batch

    def one(sample: int) -> float | str:
        maps = context.unit_map(sample)
        if kind == "derivative":
            if any(context.inputs[name].dtype.kind != "f" for name in maps):
                return NO_DIFFERENCE
            maps = {name: value * _difference(context, sample, name, replacements) for name, value in maps.items()}
        units = context.units(sample, size, maps)
        if not np.isfinite(units.relevance).all():
            return "the change of a missing value isn't known"
        sets = random_sets(context.generator(sample), units.count, set_size(units.count, share), draws)
        drops = context.drops(sample, units, ~sets, replacements)
        squares[sample] = float(np.mean(drops**2))
        return error(sets @ units.relevance, drops, normalize)

    notes = list(replacements.notes)
    if not explanation.signed:
        notes.append("the map has no signs: it can't say which way the score goes")
    found = context.judged(one)
    record = {"kind": kind, "mean_squared_drop": [None if np.isnan(each) else each for each in squares]}
    return Measure.of(found, notes=notes, record=record)


def error(predicted: Array, drops: Array, normalize: bool = False) -> float:
    """Mean squared error of predicted drops, (draws,); scaled first by the factor from 0 on that makes it least."""
    factor = 1.0
    if normalize:
        square = float(predicted @ predicted)
        factor = max(0.0, float(predicted @ drops) / square) if square > 0 else 0.0
    return float(np.mean((factor * predicted - drops) ** 2))


def _difference(context: MetricContext, sample: int, name: str, replacements: Replacements) -> Array:
    """By how much an input exceeds what replaces it, of the sample's shape; of background samples their mean."""
    fill = replacements[sample][name]
    if isinstance(fill, BackgroundRows):
        fill = fill.rows.mean(axis=0)
    if not isinstance(fill, np.ndarray):
        what = "of derivatives, what replaces an element must not depend on which others are replaced"
        raise UsageError("fill.unsuitable", f"infidelity can't inpaint here: {what}", "use mean or blur")
    return np.asarray(context.inputs[name][sample], np.float64) - fill
