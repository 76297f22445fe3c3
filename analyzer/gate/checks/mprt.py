"""Model randomisation: the map depends on what the model has learnt."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from analyzer.gate.check import MOST_LEFT_OUT, Check, Finite, Summary
from analyzer.gate.context import GateContext
from analyzer.gate.exhibits import exhibits
from analyzer.gate.outcome import Array, Outcome

_ORDERS = {"bottom_up": "bottom-up", "top_down": "top-down", "independent": "independent"}


class RandomisationCheck(Check):
    """Drawing the weights anew changes the map. Passing says nothing of faithfulness: keep pixel_flipping beside it."""

    source = "Adebayo et al. 2018, sec. 4 (full); Hedström et al. 2024 (efficient)"
    kind: Literal["mprt"] = "mprt"
    variant: Literal["efficient", "full"] = "efficient"
    """All layers at once, and how the map's entropy rises; or layer by layer, and the mean similarity on the way."""
    order: Literal["bottom_up", "top_down", "independent"] = "bottom_up"
    """From which end layers are drawn anew in the full variant; from the top down good methods stay similar for long."""
    max_spearman: Annotated[float, Field(ge=-1, le=1)] = 0.5
    """The most that the rank correlation with the randomised model's maps may be."""
    min_entropy_rise: Finite | None = 0.0
    """The least mean rise of the map's entropy in the efficient variant, as a share of it; None doesn't ask for any."""
    stat: Summary = "mean"
    """Which statistic of the inputs' correlations is bounded."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 10
    """Of the full variant."""
    draws: Annotated[int, Field(ge=1, le=100)] = 3
    """How many randomised models an input's values are averaged over."""

    def run(self, gate: GateContext) -> Outcome:
        """Correlations with the maps of randomised models, and the entropy of these."""
        how: dict[str, Any] = (
            {"steps": 1} if self.variant == "efficient" else {"steps": self.steps, "order": _ORDERS[self.order]}
        )
        likeness, left_out = self._averaged(gate, "parameter-randomisation", **how)
        tests = gate.summary(
            "the rank correlation with a randomised model's map", likeness, self.stat, self.max_spearman
        )
        values = {"rank correlation": likeness}
        if self.variant == "efficient" and self.min_entropy_rise is not None:
            rise, more = self._averaged(gate, "efficient-parameter-randomisation")
            left_out = {reason: max(left_out.get(reason, 0), more.get(reason, 0)) for reason in {**left_out, **more}}
            values["entropy rise"] = rise
            tests += gate.mean("the mean rise of the map's entropy", rise, self.min_entropy_rise, "at least")
        shown = exhibits(
            gate, likeness, lambda at: f"a randomised model's map correlates by {likeness[at]:.3f} with it"
        )
        return Outcome(tests, values=values, left_out=left_out, most_left_out=MOST_LEFT_OUT, exhibits=shown)

    def _averaged(self, gate: GateContext, metric: str, **params: Any) -> tuple[Array, dict[str, int]]:
        """A metric's values over several randomised models; inputs that lack one have none."""
        found, reasons = [], dict[str, int]()
        for draw in range(self.draws):
            values, why = gate.evaluate(metric, seed=gate.seed + draw, **params)
            found.append(values)
            reasons = {reason: max(reasons.get(reason, 0), why.get(reason, 0)) for reason in {**reasons, **why}}
        return np.mean(found, axis=0), reasons
