"""An explanation is there in time."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from analyzer.gate.check import Check, Count, Positive
from analyzer.gate.context import GateContext
from analyzer.gate.outcome import Outcome, values_of

Metric = Literal["explain_p50_ms", "explain_p95_ms", "predict_p50_ms", "predict_p95_ms"]


class LatencyCheck(Check):
    """Explaining, or running, one input takes no longer than it may on this machine.

    Wall time of one input after the other, each a batch of one (or the model's fixed batch). It says something about this machine
    and what else ran on it: best as a warning.
    """

    source = "Conover 1999, Practical nonparametric statistics, sec. 3.2 (quantile test)"
    repeatable: ClassVar[bool] = False
    kind: Literal["latency"] = "latency"
    metric: Metric = "explain_p95_ms"
    """What is timed, and which quantile must keep the bound."""
    max: Positive
    """The bound, in milliseconds."""
    warmup: Annotated[int, Field(ge=0, le=1000)] = 3
    """So many runs before, which aren't counted: the first make sessions and traces."""
    samples: Count = 60
    """So many inputs at most."""

    def run(self, gate: GateContext) -> Outcome:
        """The quantile of the times, by how many of them keep the bound."""
        what, quantile, _ = self.metric.split("_")
        took: dict[int, float] = {}
        for number in range(-self.warmup, min(gate.count, self.samples)):
            at = max(number, 0)
            batch = next(gate.batches([at]))
            if what == "explain":
                gate.targets([at])  # which may have to run the model on all inputs
            began = gate.clock()
            if what == "explain":
                gate.explain(batch)
            else:
                gate.model.predict(batch.feed)
                gate.evaluations += 1
            if number >= 0:
                took[at] = 1000 * (gate.clock() - began)
        values = values_of(took, gate.count)
        name = f"the {int(quantile[1:])} % quantile of the time to {what} an input in ms"
        tests = gate.quantile(name, values, int(quantile[1:]) / 100, self.max, "at most")
        known = values[~np.isnan(values)]
        details = {f"p{q}_ms": float(np.quantile(known, q / 100)) for q in (50, 95)} if known.size else {}
        return Outcome(tests, values={"ms": values}, details=details)
