"""Relevance beside the truth: one sample's map at every place, and which places lie inside the mask.

Belongs here: putting map and mask together, and what both metrics and their ties need of them. Not here: fitting a mask to a map
(``evaluate``), metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array
from analyzer.evaluation.similarity import membership

Sign = Literal["signed", "positive", "absolute"]
#: The parameter by which metrics choose what of the relevance counts; channels are summed before.
Relevance = Annotated[
    Sign, "what counts of each place's relevance, its channels summed: signed as it is; positive; absolute"
]


@dataclass(frozen=True)
class Located:
    """One sample's relevance and truth over all inputs that have a mask.

    Attributes
    ----------
    relevance
        Input name -> (places…) float64.
    inside
        Input name -> (places…) bool.
    ordered
        Input name -> whether its places have neighbours: those of pictures, volumes and series, not the columns of a table.
    """

    relevance: dict[str, Array]
    inside: dict[str, Array]
    ordered: dict[str, bool]

    @property
    def values(self) -> Array:
        """The relevance of all inputs as one vector."""
        return np.concatenate([value.reshape(-1) for value in self.relevance.values()])

    @property
    def mask(self) -> Array:
        """The truth of all inputs as one vector, bool."""
        return np.concatenate([value.reshape(-1) for value in self.inside.values()])


def located(context: MetricContext, sample: int, sign: Sign) -> Located | str:
    """A sample's map beside its mask, or why there is nothing to tell: the mask is empty or full, the relevance all zero."""
    maps = context.map(sample)
    relevance: dict[str, Array] = {}
    inside: dict[str, Array] = {}
    ordered: dict[str, bool] = {}
    for name, mask in context.masks.items():
        wide = np.broadcast_to(mask[sample], maps[name].shape)
        shape = context.inputs[name].shape if name in context.inputs else (1, *maps[name].shape)
        axes = context.model.axes(name, shape)
        others = tuple(axis - 1 for axis in range(1, len(shape)) if axis not in axes.places)
        relevance[name] = _signed(maps[name].sum(axis=others), sign)
        inside[name] = np.asarray(wide.any(axis=others))
        ordered[name] = any(axes.letters[axis] != "C" for axis in axes.places)
    found = Located(relevance, inside, ordered)
    if not found.mask.any():
        return "its mask is empty"
    if found.mask.all():
        return "its mask covers everything"
    if not found.values.any():
        return f"the map has no {'' if sign == 'signed' else sign + ' '}relevance where a mask is known"
    return found


def share_of_top(values: Array, inside: Array, count: int) -> float:
    """Share of the ``count`` most relevant elements that lie inside, from 0 to 1.

    Of equal elements of which only some belong to them each counts by the chance that it does.
    """
    return float((membership(values, count) @ inside) / count)


def _signed(values: Array, sign: Sign) -> Array:
    if sign == "positive":
        return np.asarray(np.maximum(values, 0.0))
    return np.abs(values) if sign == "absolute" else np.asarray(values)
