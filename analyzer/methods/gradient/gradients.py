"""Gradients, plain and times the input."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from analyzer.methods.context import Array, Context, Result
from analyzer.methods.registry import method

#: Sums over the width up to this share of the norm are rounding.
_VANISHING = 1e-4
SIMONYAN = "Simonyan, Vedaldi, Zisserman 2013, Deep inside convolutional networks, section 3"


def per_input(context: Context, values: dict[str, Array], **more: Any) -> Result:
    """Results at the explained values; for tokens the sum over the embedding's width."""
    tokens = {entry.name for entry in context.engine.explained if entry.tokens}
    attributions = {}
    for name, value in values.items():
        wide = value.reshape((*value.shape[: context.inputs[name].ndim], -1)) if name in tokens else value
        attributions[name] = context.xp.sum(wide, axis=-1) if name in tokens else value
    return Result(attributions, dict(values), **more)


def with_norms(context: Context, found: Result) -> Result:
    """A gradient whose sums over an embedding's width vanish, given as its Euclidean norm for the tokens instead.

    They do wherever a layer normalisation reads the embedding: it takes off the mean over the width.
    """
    xp = context.xp
    for entry in context.engine.explained:
        raw = found.raws.get(entry.name)
        if raw is None or not entry.tokens:
            continue
        wide = xp.astype(raw.reshape((*raw.shape[: context.inputs[entry.name].ndim], -1)), xp.float64)
        norms = xp.sum(wide * wide, axis=-1) ** 0.5
        sums, sizes = np.abs(context.numbers(found.attributions[entry.name])), context.numbers(norms)
        if sizes.max(initial=0) > 0 and sums.max(initial=0) <= _VANISHING * sizes.max(initial=0):
            found.attributions[entry.name] = xp.astype(norms, raw.dtype)
            found.notes.append(
                f"the gradient's sum over the embedding of {entry.name!r} vanishes, as a normalisation follows: "
                "the map is its norm, which has no sign"
            )
    return found


@method("gradient", "gradient", derivative=True, compilable=True, inner=True, source=SIMONYAN)
def gradient(context: Context) -> Result:
    """Derivative of the score by every input element."""
    return with_norms(context, per_input(context, context.engine.gradient().relevance))


@method(
    "saliency", "gradient", derivative=True, compilable=True, derived_from="gradient", signed=False, inner=True,
    source=SIMONYAN,
)  # fmt: skip
def saliency(context: Context) -> Result:
    """Absolute value of the gradient."""
    return per_input(context, {k: context.xp.abs(v) for k, v in context.engine.gradient().relevance.items()})


@method(
    "sensitivity",
    "gradient",
    derivative=lambda params: not params["times_input"],
    compilable=True,
    derived_from="gradient",
    signed=False,
    inner=True,
    source="Gevrey, Dimopoulos, Lek 2003; Simonyan et al. 2013",
)
def sensitivity(
    context: Context,
    *,
    times_input: Annotated[
        bool, "multiply the squared gradient by the input: the gradient x input sensitivity of textbooks, with a sign"
    ] = False,
) -> Result:
    """Squared gradient."""
    swept = context.engine.gradient()
    squared = {k: v**2 for k, v in swept.relevance.items()}
    if not times_input:
        return per_input(context, squared)
    return per_input(context, {k: v * swept.values[k] for k, v in squared.items()}, signed=True)


@method(
    "gradient-x-input",
    "gradient",
    compilable=True,
    derived_from="gradient",
    inner=True,
    source="Shrikumar et al. 2016, Not just a black box",
)
def gradient_x_input(context: Context) -> Result:
    """Gradient times input; for tokens, times their embedding."""
    swept = context.engine.gradient()
    return per_input(context, {k: v * swept.values[k] for k, v in swept.relevance.items()})
