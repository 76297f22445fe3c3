"""Pixel-flipping: the explanation finds what the score depends on, better than chance and better than an edge filter."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from analyzer.errors import UsageError
from analyzer.evaluation.statistics import Bounded
from analyzer.explanation import Explanation
from analyzer.gate.check import MOST_LEFT_OUT, Check, Count, Finite, Share
from analyzer.gate.context import GateContext
from analyzer.gate.exhibits import exhibits
from analyzer.gate.inputs import Batch
from analyzer.gate.outcome import Array, Outcome

Control = Literal["random", "sobel"]
#: Fills that name a file.
_FILES = ("samples:", "image:")


class PixelFlippingCheck(Check):
    """Taking away what the explanation calls relevant lowers the score faster than a control's order does."""

    source = "Samek et al. 2017, Evaluating the visualization of what a deep neural network has learned, eq. 12"
    kind: Literal["pixel_flipping"] = "pixel_flipping"
    steps: Count = 32
    """Points of the curve."""
    baseline: Annotated[list[str | float], Field(min_length=1)] = ["blur", "mean"]
    """What replaces units: fills, over which the curves are averaged; their files are relative to the policy."""
    versus: Annotated[list[Control], Field(min_length=1)] = ["random", "sobel"]
    """The orders that it must beat: chance, and the strength of edges (left out where columns or words have none)."""
    min_margin: Finite = 0.05
    """By how much the mean curve must lie lower than a control's, as a share of the mean score of the unchanged inputs."""
    test: Literal["paired_bootstrap"] = "paired_bootstrap"
    """How the margins of all inputs are judged: each input is paired with itself under the control."""
    mostly: Share | None = None
    """The share of all inputs that must beat the control themselves; None demands it of the mean alone."""
    size: Count = 1
    """Side of a unit, in elements."""

    def run(self, gate: GateContext) -> Outcome:
        """Paired differences of the areas under the curves, control minus explanation, for each control."""
        own, left_out = self._areas(gate, None)
        typical = self._typical(gate)
        if not typical > 0:
            return Outcome(status="inconclusive", message="the score of every input is 0: nothing can lower it")
        tests: list[Bounded] = []
        margins: dict[Control, Array] = {}
        areas = {"explanation": float(np.nanmean(own)) if not np.isnan(own).all() else np.nan}
        for control in self._controls(gate):
            theirs, more = self._areas(gate, control)
            left_out = {reason: max(left_out.get(reason, 0), more.get(reason, 0)) for reason in {**left_out, **more}}
            margins[control] = (theirs - own) / typical
            areas[control] = float(np.nanmean(theirs)) if not np.isnan(theirs).all() else np.nan
            tests += gate.mean(f"the mean margin over {control}", margins[control], self.min_margin, "at least")
            if self.mostly is not None:
                better = np.where(np.isnan(margins[control]), np.nan, margins[control] > 0)
                tests += gate.share(f"the share of inputs that beat {control}", better, self.mostly)
        least = np.min(list(margins.values()), axis=0)
        nearest = [min(margins, key=lambda each: float(margins[each][at])) for at in range(gate.count)]

        def edges(at: int, e: Explanation) -> tuple[str, Explanation] | None:
            return ("the control", _shown(_edges(gate, None, e))) if nearest[at] == "sobel" else None

        shown = exhibits(
            gate, -least,
            lambda at: f"its order beats {nearest[at]} by {least[at]:.3g} of the mean score, {self.min_margin:g} is wanted",
            edges,
        )  # fmt: skip
        return Outcome(
            tests, values={f"margin over {control}": values for control, values in margins.items()}, left_out=left_out,
            most_left_out=MOST_LEFT_OUT, exhibits=shown, details={"mean score": typical, "mean areas": areas},
        )  # fmt: skip

    def _controls(self, gate: GateContext) -> list[Control]:
        """The controls that mean something here: columns and words have no edges.

        Raises
        ------
        UsageError
            ``config.gate`` where none is left.
        """
        feed = gate.sample(0).feed
        flat = all(value.ndim < 3 for name, value in feed.items() if name in gate.model.explained_inputs)
        found = [each for each in dict.fromkeys(self.versus) if not (each == "sobel" and flat)]
        if not found:
            message = f"check {self.id!r}: versus: columns and words have no edges that sobel could find"
            raise UsageError("config.gate", message, 'give versus = ["random"]')
        return found

    def _typical(self, gate: GateContext) -> float:
        """The mean size of the unchanged inputs' scores."""
        scores = np.concatenate(
            [np.zeros(0), *(np.abs(np.asarray(e.score, np.float64)) for _, e in gate.explanations_of(unexplained={}))]
        )
        return float(scores.mean()) if scores.size else 0.0

    def _areas(self, gate: GateContext, control: Control | None) -> tuple[Array, dict[str, int]]:
        """The mean score while units go, for each input: in the explanation's order, or in a control's."""
        found, reasons = [], dict[str, int]()
        change = functools.partial(_edges, gate) if control == "sobel" else None
        with gate.setting("baseline"):
            for fill in self.baseline:
                areas, why = gate.evaluate(
                    "pixel-flipping", change=change, steps=self.steps, fill=_resolved(gate, fill), size=self.size,
                    order="random" if control == "random" else "morf",
                )  # fmt: skip
                found.append(areas)
                reasons = {reason: max(reasons.get(reason, 0), why.get(reason, 0)) for reason in {**reasons, **why}}
        return np.mean(found, axis=0), reasons


def _resolved(gate: GateContext, fill: str | float) -> str | float:
    """A fill whose file is looked for in the policy's folder."""
    kind = next((kind for kind in _FILES if isinstance(fill, str) and fill.startswith(kind)), None)
    return fill if kind is None else f"{kind}{gate.folder / str(fill)[len(kind) :]}"


def _edges(gate: GateContext, batch: Batch | None, e: Explanation) -> Explanation:
    """The strength of edges as a map: what any map of a picture looks like that has nothing to do with the model."""
    from scipy.ndimage import sobel

    maps = {}
    for name, value in e.attributions.items():
        x = np.nan_to_num(np.asarray(e.inputs[name], np.float64))
        axes = gate.model.axes(name, x.shape).places or tuple(range(1, x.ndim))
        strength = np.sqrt(sum(sobel(x, axis) ** 2 for axis in axes))
        maps[name] = np.broadcast_to(strength, np.broadcast_shapes(strength.shape, value.shape)).astype(np.float32)
    return replace(e, attributions=maps, raws=maps)


def _shown(edges: Explanation) -> Explanation:
    """The control as what it is: no explanation of any method."""
    return replace(
        edges, method="strength of edges", params={}, notable={}, signed=False, completeness=None,
        record={**edges.record, "notes": []},
    )  # fmt: skip
