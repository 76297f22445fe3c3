"""Input invariance: whether the map stays the same where the model sees the same."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.invariance import relative_distance
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.neighbours import changeable
from analyzer.evaluation.registry import NUMBERS, metric
from analyzer.evaluation.shifted import shifted
from analyzer.methods.parameters import Bounds


@metric(
    "input-invariance", "axiomatic", needs="explanations", higher_is_better=False, modalities=NUMBERS,
    range="from 0, the same map; 1 the change is as large as the map", cost="1 explanation",
    blind_spot="Whether the map is right. A method that multiplies by the input, or compares with a fixed baseline, changes by "
    "design: then it says that the baseline matters.",
    source="Kindermans et al. 2019, The (un)reliability of saliency methods",
)  # fmt: skip
def input_invariance(
    context: MetricContext,
    *,
    shift: Annotated[
        float, "what is added to every value, in units of the model's input; not 0", Bounds(-1e6, 1e6)
    ] = 1.0,
) -> Measure:
    """Change of the map, ‖R − R'‖₂ / ‖R‖₂, when a constant is added to the input and taken off in the first layer's bias."""
    names = [name for name in changeable(context) if context.inputs[name].dtype.kind == "f"]
    moved = {
        name: (value + np.asarray(shift, value.dtype) if name in names else value)
        for name, value in context.inputs.items()
    }
    key = shift, *names
    found = context.explain_made("shifted", key, lambda: shifted(context.model, names, shift), moved)
    if isinstance(found, str):
        return Measure.of([found] * context.batch)
    scores = np.abs(found.score - context.score)
    allowed = context.model.tolerance * np.maximum(np.abs(context.score), np.abs(context.evaluator.output).max())

    def change(sample: int) -> float | str:
        if scores[sample] > allowed[sample]:
            return f"the shifted model's score differs by {scores[sample]:.2g}: what it computes isn't the same"
        return relative_distance(context.flat(sample), context.flat(sample, found.attributions))

    return Measure.of(context.judged(change))
