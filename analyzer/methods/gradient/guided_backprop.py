"""Backpropagation with another ReLU: guided backpropagation and the deconvnet."""

from __future__ import annotations

from analyzer.engines.protocol import DECONVNET, GUIDED_BACKPROP
from analyzer.methods.context import Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method


@method(
    "guided-backprop",
    "gradient",
    compilable=True,
    inner=True,
    source="Springenberg et al. 2015, Striving for simplicity, section 3.4",
)
def guided_backprop(context: Context) -> Result:
    """Gradient through ReLUs that let only positive signals through active units."""
    return per_input(context, context.engine.sweep(GUIDED_BACKPROP).relevance)


@method(
    "deconvnet", "gradient", compilable=True, inner=True,
    source="Zeiler, Fergus 2014, Visualizing and understanding convolutional networks",
)  # fmt: skip
def deconvnet(context: Context) -> Result:
    """Gradient through ReLUs that let only positive signals through, whether the unit was active or not."""
    return per_input(context, context.engine.sweep(DECONVNET).relevance)
