"""What the checks find is still what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from analyzer.gate.baselines import (
    MEASURED,
    Statistics,
    changes,
    measured,
    only_in,
    read_baseline,
    statistics_of,
)
from analyzer.gate.check import Check
from analyzer.gate.context import GateContext
from analyzer.gate.outcome import Array, Outcome
from analyzer.gate.record import record_of

Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]
#: How many changes a message and the details name.
_NAMED, _LISTED = 2, 50


class SnapshotCheck(Check):
    """No figure of a run differs much from the one that is kept in the baseline.

    The figures are the estimates of the other checks' statements, and mean and quantiles of scores, of the sums of maps and of
    how much of the relevance is positive. A baseline of other data, of another method or of other checks isn't compared with.
    """

    source = "Feathers 2004, Working effectively with legacy code, ch. 13 (characterization tests)"
    reads_others: ClassVar[bool] = True
    kind: Literal["snapshot"] = "snapshot"
    baseline: Annotated[str, Field(min_length=1)]
    """The file, relative to the policy; ``onnxplain gate update`` writes it."""
    max_absolute_change: Limit = 0.05
    """By how much a figure may change,"""
    max_relative_change: Limit = 0.1
    """or by which share of what it was: a figure may exceed one of the two, not both."""

    def run(self, gate: GateContext) -> Outcome:
        """Fails at the first figure that changed by more than it may, the worst named first."""
        found = {
            check.id: own
            for check in gate.policy.check
            if check.id in gate.outcomes and (own := statistics_of(check, gate.outcomes[check.id]))
        }
        figures, values = self._measured(gate)
        found[self.id] = figures[self.id]
        details: dict[str, Any] = {
            MEASURED: {self.id: {name: each.model_dump() for name, each in figures[self.id].items()}}
        }
        outcome = self._compared(gate, found)
        outcome.details |= details
        outcome.values = values
        return outcome

    def _measured(self, gate: GateContext) -> tuple[Statistics, dict[str, Array]]:
        """Figures of the maps and scores, and what they are of, for each input."""
        names = ("score", "sum of relevance", "positive share of relevance")
        values = {name: np.full(gate.count, np.nan) for name in names}
        for batch, e in gate.explanations_of():
            for row, at in enumerate(batch.at):
                flat = np.concatenate([np.asarray(v[row], np.float64).reshape(-1) for v in e.attributions.values()])
                size = float(np.abs(flat).sum())
                positive = float(np.maximum(flat, 0).sum()) / size if size else np.nan
                for name, value in zip(names, (float(e.score[row]), float(flat.sum()), positive), strict=True):
                    values[name][at] = value
        figures = {key: each for name in names for key, each in measured(f"the {name}", values[name]).items()}
        return {self.id: figures}, values

    def _compared(self, gate: GateContext, found: Statistics) -> Outcome:
        path = gate.folder / Path(self.baseline)
        if not path.exists():
            message = f"there is no baseline {self.baseline}; `onnxplain gate update` writes it from a run"
            return Outcome(status="inconclusive", message=message, code="gate.no_baseline")
        before = read_baseline(path)
        other = before.mismatch(record_of(gate))
        if other:
            message = f"{self.baseline} was made with {other}; `onnxplain gate update` writes it anew"
            return Outcome(status="inconclusive", message=message, code="gate.baseline_mismatch")
        gone, new = only_in(before.statistics, found), only_in(found, before.statistics)
        every = changes(before.statistics, found)
        moved = [
            each
            for each in every
            if each.absolute > self.max_absolute_change and each.relative > self.max_relative_change
        ]
        details = {"changed": [vars(each) for each in moved[:_LISTED]], "not in the baseline": new, "not found": gone}
        if moved:
            told = "; ".join(
                f"{each.check}: {each.name} was {each.before:.4g}, is {each.after:.4g}" for each in moved[:_NAMED]
            )
            more = f"; {len(moved) - _NAMED} more" if len(moved) > _NAMED else ""
            return Outcome(status="fail", message=f"{told}{more}", details=details)
        if gone or new:
            which = f"{gone[0]!r} isn't found" if gone else f"{new[0]!r} isn't in it"
            message = f"{self.baseline} is of other checks: {which}; `onnxplain gate update` writes it anew"
            return Outcome(status="inconclusive", message=message, code="gate.baseline_mismatch", details=details)
        return Outcome(status="pass", message=f"{len(every)} figures are as they were", details=details)
