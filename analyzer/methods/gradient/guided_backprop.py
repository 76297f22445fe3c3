"""Backpropagation with another ReLU: guided backpropagation and the deconvnet.

As in the papers, and as other libraries have it, ReLUs alone; or every rectifier: leaky and parametric ones, those with a bound
(ReLU6) or a threshold. What passes the plain gradient is named.
"""

from __future__ import annotations

from typing import Annotated, Literal

from analyzer.engines.protocol import (
    DECONVNET,
    DECONVNET_RELU,
    GUIDED_BACKPROP,
    GUIDED_BACKPROP_RELU,
    SweepResult,
    TableSpec,
)
from analyzer.methods.context import Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method

Rectifiers = Annotated[
    Literal["relu", "all"], "which are treated apart: ReLU alone, or bounded, leaky and thresholded ones (ReLU6) too"
]


@method(
    "guided-backprop",
    "gradient",
    derivative=True,
    compilable=True,
    inner=True,
    source="Springenberg et al. 2015, Striving for simplicity, section 3.4",
)
def guided_backprop(context: Context, *, rectifiers: Rectifiers = "relu") -> Result:
    """Gradient through rectifiers that let only positive signals through active units."""
    swept = context.engine.sweep(guided_table(rectifiers))
    return per_input(context, swept.relevance, notes=unit_notes(swept, rectifiers))


@method(
    "deconvnet", "gradient", derivative=True, compilable=True, inner=True,
    source="Zeiler, Fergus 2014, Visualizing and understanding convolutional networks",
)  # fmt: skip
def deconvnet(context: Context, *, rectifiers: Rectifiers = "relu") -> Result:
    """Gradient through rectifiers that let only positive signals through, whether the unit was active or not."""
    swept = context.engine.sweep(DECONVNET if rectifiers == "all" else DECONVNET_RELU)
    return per_input(context, swept.relevance, notes=unit_notes(swept, rectifiers))


def guided_table(rectifiers: str) -> TableSpec:
    """The rules of guided backpropagation through these rectifiers."""
    return GUIDED_BACKPROP if rectifiers == "all" else GUIDED_BACKPROP_RELU


def unit_notes(swept: SweepResult, rectifiers: str) -> list[str]:
    """A note that names the activation functions which pass the plain gradient, if there are any."""
    if not swept.units:
        return []
    passes = "pass" if len(swept.units) > 1 else "passes"
    only = (
        "only rectifiers are treated apart"
        if rectifiers == "all"
        else "only ReLUs are treated apart; rectifiers=all takes bounded, leaky and thresholded ones too"
    )
    return [f"{', '.join(swept.units)} {passes} the plain gradient on: {only}"]
