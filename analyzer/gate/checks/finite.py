"""Weights, activations and relevance are finite."""

from __future__ import annotations

from typing import Literal

import numpy as np

from analyzer.gate.check import Check
from analyzer.gate.context import GateContext
from analyzer.gate.outcome import Outcome, values_of

Where = Literal["weights", "activations", "relevance"]


class FiniteCheck(Check):
    """Every weight, every output and every map is finite."""

    kind: Literal["finite"] = "finite"
    where: list[Where] = ["weights", "activations", "relevance"]
    """What is looked at."""

    def run(self, gate: GateContext) -> Outcome:
        """Fails at the first value that isn't, and names it."""
        if "weights" in self.where and gate.model.loaded.warnings:
            lost = [text for text in gate.model.loaded.warnings if "finite" in text or "NaN" in text]
            if lost:
                return Outcome(status="fail", message=lost[0])
        found: dict[int, float] = {}
        first = ""
        for batch, e in gate.explanations_of() if "relevance" in self.where else ():
            for row, at in enumerate(batch.at):
                found[at] = float(all(np.isfinite(value[row]).all() for value in e.attributions.values()))
        if "activations" in self.where:
            for batch in gate.batches():
                outputs = gate.model.predict(batch.feed)
                gate.evaluations += len(batch.at)
                for row, at in enumerate(batch.at):
                    bad = [n for n, v in outputs.items() if v.dtype.kind == "f" and not np.isfinite(v[row]).all()]
                    first = first or (f"output {bad[0]!r} of {gate.id(at)} isn't finite" if bad else "")
                    found[at] = min(found.get(at, 1.0), float(not bad))
        lost_inputs = [at for at, fine in found.items() if not fine]
        values = {"finite": values_of(found, gate.count)}
        if lost_inputs:
            message = first or f"the map of {gate.id(lost_inputs[0])} isn't finite"
            return Outcome(status="fail", message=f"{message}; {len(lost_inputs)} inputs in all", values=values)
        return Outcome(status="pass", message=f"everything is finite on {gate.count} inputs", values=values)
