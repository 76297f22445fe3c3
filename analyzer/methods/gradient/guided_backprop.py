"""Backpropagation with another ReLU: guided backpropagation and the deconvnet.

Every rectifier has it: ReLU, leaky and parametric ones, those with a bound (ReLU6) or a threshold.
"""

from __future__ import annotations

from analyzer.engines.protocol import DECONVNET, GUIDED_BACKPROP, SweepResult, TableSpec
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
    """Gradient through rectifiers that let only positive signals through active units."""
    return _rectified(context, GUIDED_BACKPROP)


@method(
    "deconvnet", "gradient", compilable=True, inner=True,
    source="Zeiler, Fergus 2014, Visualizing and understanding convolutional networks",
)  # fmt: skip
def deconvnet(context: Context) -> Result:
    """Gradient through rectifiers that let only positive signals through, whether the unit was active or not."""
    return _rectified(context, DECONVNET)


def _rectified(context: Context, table: TableSpec) -> Result:
    swept = context.engine.sweep(table)
    return per_input(context, swept.relevance, notes=unit_notes(swept))


def unit_notes(swept: SweepResult) -> list[str]:
    """A note that names activation functions which aren't rectifiers, if there are any."""
    if not swept.units:
        return []
    verb = "are no rectifiers: they pass" if len(swept.units) > 1 else "is no rectifier: it passes"
    return [f"{', '.join(swept.units)} {verb} the plain gradient on"]
