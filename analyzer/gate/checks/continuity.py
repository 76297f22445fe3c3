"""Continuity: nearly equal inputs get nearly equal maps."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from analyzer.evaluation.measure import Evaluation
from analyzer.gate.check import Check, Count, Positive, Share, Summary
from analyzer.gate.context import GateContext
from analyzer.gate.exhibits import exhibits
from analyzer.gate.inputs import Batch
from analyzer.gate.outcome import Outcome

#: Grey levels of a picture.
_LEVELS = 255.0
_SKIPPED = "too many of its neighbours are in another class"


class ContinuityCheck(Check):
    """Noise too faint to be seen hardly changes the map."""

    source = "Montavon, Samek, Müller 2018, sec. 7.1 (slope); Yeh et al. 2019, def. 2.3 (change)"
    kind: Literal["continuity"] = "continuity"
    noise: Literal["uniform"] = "uniform"
    """What is added to the input."""
    radius_px: Positive = 2.0
    """The most that noise changes a value by, in the 255 grey levels of a picture, before it is preprocessed; of other inputs in
    255ths of their range."""
    samples: Count = 10
    """Neighbours of every input."""
    measure: Literal["change", "slope"] = "change"
    """What counts of an input, its largest over the neighbours: the change of the map as a share of the map; or that beside the
    change of the input as a share of the input."""
    stat: Summary = "p95"
    """Which statistic of all inputs is bounded."""
    max: Positive = 1.0
    """The most that it may be. A map that is drawn anew changes by 1.4 times itself."""
    skip_if_class_changes: bool = True
    """Leaves out neighbours that the model puts into another class, and inputs of which more than half are."""
    max_skipped: Share = 0.2
    """With more inputs left out than that the check is inconclusive."""

    def run(self, gate: GateContext) -> Outcome:
        """The largest change over the neighbours of each input."""
        flips = np.full(gate.count, np.nan)

        def count(batch: Batch, evaluation: Evaluation) -> None:
            known = evaluation.record.get("class_changes", ())[: len(batch.at)]
            flips[list(batch.at)] = [np.nan if each is None else each for each in known]

        values, left_out = gate.evaluate(
            "max-sensitivity" if self.measure == "change" else "continuity", judged=count, samples=self.samples,
            same_class=self.skip_if_class_changes, **self._radius(gate),
        )  # fmt: skip
        if self.skip_if_class_changes:
            skipped = ~np.isnan(values) & (np.nan_to_num(flips) > self.samples / 2)
            values = np.where(skipped, np.nan, values)
            if skipped.any():
                left_out = {**left_out, _SKIPPED: int(skipped.sum())}
        shown = exhibits(
            gate, values, lambda at: f"its map changes by up to {values[at]:.3g} under noise that can't be seen"
        )
        return Outcome(
            gate.summary(f"the map's {self.measure} under noise", values, self.stat, self.max),
            values={self.measure: values, "neighbours in another class": flips}, left_out=left_out,
            most_left_out=self.max_skipped, exhibits=shown, details=self._radius(gate),
        )  # fmt: skip

    def _radius(self, gate: GateContext) -> dict[str, Any]:
        """The noise in the units of the model's input; those of its pictures are known where the preprocessing is."""
        model, slope = gate.model, {"shift": 0} if self.measure == "slope" else {}
        if model.preprocess is None:
            return {"radius": self.radius_px / _LEVELS, "scale": "range", **slope}
        spec = next(iter(model.inputs.values()))
        low, high = model.preprocess.fit(spec.shape, spec.dtype).low_high()
        width = float(np.mean(np.abs(np.asarray(high, np.float64) - np.asarray(low, np.float64))))
        return {"radius": self.radius_px / _LEVELS * width, "scale": "absolute", **slope}
