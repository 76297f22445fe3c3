"""Pixel-flipping: the explanation finds what the score depends on, better than chance and better than an edge filter."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from analyzer.evaluation.statistics import Bounded
from analyzer.explanation import Explanation
from analyzer.gate.check import Check, Count, Finite, Share
from analyzer.gate.context import Batch, GateContext
from analyzer.gate.outcome import Array, Outcome

Control = Literal["random", "sobel"]


class PixelFlippingCheck(Check):
    """Taking away what the explanation calls relevant lowers the score faster than a control's order does."""

    source = "Samek et al. 2017, Evaluating the visualization of what a deep neural network has learned, eq. 12"
    kind: Literal["pixel_flipping"] = "pixel_flipping"
    steps: Count = 32
    """Points of the curve."""
    baseline: Annotated[list[str | float], Field(min_length=1)] = ["blur", "mean"]
    """What replaces units: fills, over which the curves are averaged."""
    versus: Annotated[list[Control], Field(min_length=1)] = ["random", "sobel"]
    """The orders that it must beat: chance, and the strength of edges."""
    min_margin: Finite = 0.05
    """By how much the mean curve must lie lower than a control's, as a share of the mean score of the unchanged inputs."""
    test: Literal["paired_bootstrap"] = "paired_bootstrap"
    mostly: Share | None = None
    """The share of all inputs that must beat the control themselves; None demands it of the mean alone."""
    size: Count = 1
    """Side of a unit, in elements."""

    def run(self, gate: GateContext) -> Outcome:
        """Paired differences of the areas under the curves, control minus explanation, for each control."""
        own, left_out = self._areas(gate)
        scale = np.full(gate.count, np.nan)
        for batch, e in gate.explanations_of():
            scale[list(batch.at)] = np.abs(e.score)
        typical = float(np.nanmean(scale))
        tests: list[Bounded] = []
        values: dict[str, Array] = {}
        for control in self.versus:
            margins = (self._areas(gate, control)[0] - own) / typical
            values[f"margin over {control}"] = margins
            tests += gate.mean(f"the mean margin over {control}", margins, self.min_margin, "at least")
            if self.mostly is not None:
                better = np.where(np.isnan(margins), np.nan, margins > 0)
                tests += gate.share(f"the share of inputs that beat {control}", better, self.mostly)
        return Outcome(tests, values=values, left_out=left_out)

    def _areas(self, gate: GateContext, control: Control | None = None) -> tuple[Array, dict[str, int]]:
        """The mean score while units go, for each input: in the explanation's order, or in a control's."""
        found, left_out = [], dict[str, int]()
        change = {None: None, "random": None, "sobel": _edges}[control]
        for fill in self.baseline:
            areas, left_out = gate.evaluate(
                "pixel-flipping", change=change, steps=self.steps, fill=fill, size=self.size,
                order="random" if control == "random" else "morf",
            )  # fmt: skip
            found.append(areas)
        return np.mean(found, axis=0), left_out


def _edges(batch: Batch, e: Explanation) -> Explanation:
    """The strength of edges as a map: what any map of a picture looks like that has nothing to do with the model."""
    from scipy.ndimage import sobel

    maps = {}
    for name, value in e.attributions.items():
        x = np.asarray(e.inputs[name], np.float64)
        axes = [axis for axis in range(1, x.ndim) if x.shape[axis] > 3] or list(range(1, x.ndim))
        strength = np.sqrt(sum(sobel(x, axis) ** 2 for axis in axes))
        maps[name] = np.broadcast_to(strength, np.broadcast_shapes(strength.shape, value.shape)).astype(np.float32)
    return replace(e, attributions=maps, raws=maps)
