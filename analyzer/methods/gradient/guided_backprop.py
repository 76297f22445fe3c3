"""Backpropagation with another ReLU: guided backpropagation and the deconvnet.

Every rectifier has it: ReLU, leaky and parametric ones, those with a bound (ReLU6) or a threshold.
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
    Literal["all", "relu"], "which are treated apart: bounded, leaky and thresholded ones too, or ReLU alone"
]


@method(
    "guided-backprop",
    "gradient",
    compilable=True,
    inner=True,
    source="Springenberg et al. 2015, Striving for simplicity, section 3.4",
)
def guided_backprop(context: Context, *, rectifiers: Rectifiers = "all") -> Result:
    """Gradient through rectifiers that let only positive signals through active units."""
    return _rectified(context, GUIDED_BACKPROP if rectifiers == "all" else GUIDED_BACKPROP_RELU)


@method(
    "deconvnet", "gradient", compilable=True, inner=True,
    source="Zeiler, Fergus 2014, Visualizing and understanding convolutional networks",
)  # fmt: skip
def deconvnet(context: Context, *, rectifiers: Rectifiers = "all") -> Result:
    """Gradient through rectifiers that let only positive signals through, whether the unit was active or not."""
    return _rectified(context, DECONVNET if rectifiers == "all" else DECONVNET_RELU)


def _rectified(context: Context, table: TableSpec) -> Result:
    swept = context.engine.sweep(table)
    alone = table in (GUIDED_BACKPROP_RELU, DECONVNET_RELU)
    return per_input(context, swept.relevance, notes=unit_notes(swept, alone))


def unit_notes(swept: SweepResult, relu_alone: bool = False) -> list[str]:
    """A note that names the activation functions which pass the plain gradient, if there are any."""
    if not swept.units:
        return []
    passes, only = "pass" if len(swept.units) > 1 else "passes", "ReLUs" if relu_alone else "rectifiers"
    return [f"{', '.join(swept.units)} {passes} the plain gradient on: only {only} are treated apart"]
