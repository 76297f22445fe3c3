"""Regions of an input that a check is about: whose mask, how much relevance lies in them, what they look like elsewhere.

Belongs here: masks of a check, relevance by place, mass over area, the mirrored region. Not here: changing what lies in a region
(``interventions``), reading mask files (``analyzer.data``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

import numpy as np

from analyzer.data.dataset import open_dataset
from analyzer.errors import InputError, UnsupportedError, UsageError
from analyzer.explanation import Explanation
from analyzer.gate.context import GateContext
from analyzer.gate.outcome import Array

Relevance = Literal["positive", "absolute"]
#: Position of an input -> its region, bool over the places of the masked input, or why it can't be judged.
RegionOf = Callable[[int], "Array | str"]


def region_reader(gate: GateContext, check: str, masks: str | None) -> RegionOf:
    """The regions that a check is about.

    Parameters
    ----------
    masks
        The check's own masks, relative to the policy: a folder, or a file for all; None for those of the data.

    Raises
    ------
    UsageError
        ``config.gate`` naming the check where the masks can't be used, or where nobody gives any.
    """
    dataset = gate.dataset
    if masks is not None:
        section = gate.policy.data
        try:
            dataset = open_dataset(
                gate.model, gate.folder / section.path, masks=gate.folder / masks, samples=section.samples,
                seed=section.seed, stratify=section.stratify,
            )  # fmt: skip
        except (UsageError, InputError) as problem:
            raise UsageError("config.gate", f"check {check!r}: masks: {problem.message}", problem.hint) from None
        if tuple(dataset.ids) != tuple(gate.dataset.ids):
            message = f"check {check!r}: masks: {masks} lies among the inputs, and changes which there are"
            raise UsageError("config.gate", message, "put the masks into a folder of their own")

    def region(at: int) -> Array | str:
        mask = dataset.read(gate.readable[at]).mask
        if mask is None:
            return "no mask"
        inside = np.asarray(mask, bool)
        if not inside.any():
            return "the region is empty"
        return "the region is all of the input" if inside.all() else inside

    return region


def masked_input(gate: GateContext, e: Explanation) -> str:
    """The input that masks lie on.

    Raises
    ------
    UnsupportedError
        ``gate.region`` where it isn't explained.
    """
    name = str(gate.dataset.masked)
    if name not in e.attributions:
        known = ", ".join(e.attributions)
        raise UnsupportedError(
            "gate.region", f"masks lie on input {name!r}, which has no map", f"explained are: {known}"
        )
    return name


def relevance_by_place(gate: GateContext, e: Explanation, how: Relevance) -> Array:
    """Relevance of each place of the masked input, (samples, places…) float64, never negative; channels are summed first."""
    name = masked_input(gate, e)
    map_ = np.asarray(e.attributions[name], np.float64)
    shape = np.shape(e.inputs[name])
    places = gate.model.axes(name, shape).places
    wide = np.broadcast_to(
        map_, [size if axis in (0, *places) else map_.shape[axis] for axis, size in enumerate(shape)]
    )
    summed = wide.sum(axis=tuple(axis for axis in range(1, wide.ndim) if axis not in places))
    return np.asarray(np.maximum(summed, 0) if how == "positive" else np.abs(summed))


def mass_over_area(relevance: Array, region: Array) -> float:
    """The region's share of all relevance over its share of all places; NaN where there is no relevance.

    1 is what relevance that is spread evenly gives. Source: relevance mass accuracy of Arras et al. 2022, CLEVR-XAI, over the
    region's share of the picture.
    """
    total = float(relevance.sum())
    if not np.isfinite(total) or total <= 0:
        return float("nan")
    return float(relevance[region].sum()) / total / float(region.mean())


def mirrored(region: Array) -> Array | None:
    """The region on another side: mirrored left to right, top to bottom, or both, the first that doesn't overlap it; or None."""
    axes = range(region.ndim - 1, -1, -1)
    for count in range(1, region.ndim + 1):
        for chosen in itertools.combinations(axes, count):
            other = np.flip(region, chosen)
            if not (other & region).any():
                return np.ascontiguousarray(other)
    return None


def require_places(gate: GateContext) -> None:
    """Refuse inputs of columns: a region of them has no other side, and nothing lies around it.

    Raises
    ------
    UnsupportedError
        ``gate.no_places``.
    """
    feed = gate.sample(0).feed
    named = [name for name in feed if name in gate.model.explained_inputs] or list(feed)
    if all(feed[name].ndim < 3 for name in named):
        raise UnsupportedError(
            "gate.no_places", f"input {named[0]!r} has no places, only columns: a region of it is nothing to look at",
            "leave the check out for tables",
        )  # fmt: skip
