"""Parameter randomisation: whether the map changes with what the model has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array, Curve, Measure
from analyzer.evaluation.randomised import Biases, DrawKind, Layer, layers, randomised
from analyzer.evaluation.registry import metric
from analyzer.evaluation.sample_similarity import Similarity, similarity
from analyzer.methods.parameters import Bounds

Order = Literal["top-down", "bottom-up", "independent"]


@metric(
    "parameter-randomisation", "randomisation", needs="explanations", higher_is_better=False,
    range="[-1, 1]: 1 the map ignores the weights, near 0 it depends on them", cost="at most steps explanations",
    blind_spot="Whether the map is right: a random one passes. From the top down, layers below keep what is seen of the input, "
    "so good methods stay similar for long; never judge faithfulness by it alone (Binder et al. 2023).",
    source="Adebayo et al. 2018, Sanity checks for saliency maps (MPRT)", quick={"steps": 2},
)  # fmt: skip
def parameter_randomisation(
    context: MetricContext,
    *,
    order: Annotated[
        Order,
        "top-down: from the last layer on, one more at each step; bottom-up: from the first; independent: one at a time",
    ] = "top-down",
    steps: Annotated[
        int, "at most so many steps; of a model of more layers each step takes several", Bounds(1, 1000)
    ] = 10,
    similar: Similarity = "spearman",
    draw: DrawKind = "permuted",
    biases: Biases = False,
) -> Measure:
    """Mean similarity of the map with those of the model as its layers are randomised, for the same target."""
    known = layers(context.model, biases)
    groups = grouped(known if order == "bottom-up" else known[::-1], steps)
    y = np.full((context.batch, len(groups)), np.nan)
    reasons: dict[int, str] = {}
    chosen: list[Layer] = []
    for step, group in enumerate(groups):
        chosen = group if order == "independent" else [*chosen, *group]
        problem = _step(context, chosen, draw, biases, similar, y[:, step])
        for sample, why in problem.items():
            reasons.setdefault(sample, f"step {step + 1} of {len(groups)}: {why}")
        context.advance(step + 1, len(groups))
    values: list[float | str] = [reasons.get(sample, float(y[sample].mean())) for sample in range(context.batch)]
    curve = Curve(np.cumsum([0, *map(len, groups)]), np.insert(y, 0, 1.0, axis=1), "layers randomised", similar)
    if order == "independent":
        curve = Curve(np.arange(1, len(groups) + 1), y, "which layers, from the last", similar)
    names = {str(step + 1): [layer.name for layer in group] for step, group in enumerate(groups)}
    last = [None if np.isnan(row[-1]) else float(row[-1]) for row in y]
    return Measure.of(values, curves={order: curve}, record={"last": last, "layers": names})


def grouped(known: Sequence[Layer], steps: int) -> list[list[Layer]]:
    """The layers in order, one a step, or several where there are more layers than steps."""
    return [[known[at] for at in part] for part in np.array_split(np.arange(len(known)), min(steps, len(known)))]


def _step(
    context: MetricContext, chosen: list[Layer], draw: DrawKind, biases: bool, similar: Similarity, found: Array
) -> dict[int, str]:
    """Fill in the similarity of every sample's map with that of the model with these layers randomised; why there is none."""
    key = context.seed, tuple(chosen), draw, biases
    other = context.explain_made(
        "randomised", key, lambda: randomised(context.model, chosen, context.seed, draw, biases)
    )
    if isinstance(other, str):
        return dict.fromkeys(range(context.batch), other)
    reasons = {}
    for sample in range(context.batch):
        like = similarity(context, context.map(sample), context.map(sample, other.attributions), similar)
        if isinstance(like, str):
            reasons[sample] = like
        else:
            found[sample] = like
    return reasons
