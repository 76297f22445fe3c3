"""Conservation: a map's sum is what its method promises to hand out, and its parts don't cancel."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from analyzer.errors import UnsupportedError
from analyzer.explanation import Explanation, NodeTotals
from analyzer.gate.check import MOST_LEFT_OUT, Check, Positive, Share
from analyzer.gate.context import GateContext, counted
from analyzer.gate.differences import flat_map
from analyzer.gate.exhibits import exhibits, worst_of
from analyzer.gate.outcome import Array, Outcome

#: Scores below so many of float32's last digits, of the largest one, are rounding.
_DIGITS = 100.0
_NODES = 5


class ConservationCheck(Check):
    """The map sums to what its method promises, and the size of its parts stays in proportion to the score."""

    source = "Bach et al. 2015, eq. 1; Montavon, Samek, Müller 2018, sec. 5.1: ΣR = f, Σ|R| < A · |f|"
    kind: Literal["conservation"] = "conservation"
    max_rel_error: Positive = 0.05
    """The most by which the sum may miss what is promised, as a share of it."""
    max_abs_over_output: Positive = 10.0
    """The most that Σ|R| may be, in units of what is promised: beyond it positive and negative parts cancel."""
    mostly: Share = 0.95
    """The share of all inputs that must keep both."""
    biases: Literal["declared", "leak"] = "declared"
    """What LRP's rules hand to constants that are added: part of what is promised, as the rules declare it; or a leak."""

    def run(self, gate: GateContext) -> Outcome:
        """Sums beside promises; where they are apart, what biases took, and the node that leaks."""
        sums = _Sums.of(gate)
        if sums.method:
            return Outcome(
                status="inconclusive", message=f"{sums.method} promises no sum: lrp and deeplift do, for two"
            )
        left_out = sums.left_out()
        if not (known := np.isfinite(sums.expected)).any():
            why = "; ".join(f"{count} inputs: {reason}" for reason, count in left_out.items())
            return Outcome(status="inconclusive", message=f"conservation is undefined: {why}", left_out=left_out)
        size = np.abs(sums.expected)
        error = np.abs(sums.total - sums.expected) / size
        taken = np.where(known, 0.0, np.nan)
        if self.biases == "declared":
            self._declare(gate, sums, error, taken)
        leaks = self._leaks(gate, error, size)
        parts = sums.absolute / size
        promised = "its score" if self.biases == "leak" or not (taken > 0).any() else "its score less what biases take"
        tests = gate.share(
            f"the share of inputs whose map sums to {promised}", _at_most(error, self.max_rel_error), self.mostly
        )
        tests += gate.share(
            f"the share of inputs whose Σ|R| is at most {self.max_abs_over_output:g} times the score",
            _at_most(parts, self.max_abs_over_output), self.mostly,
        )  # fmt: skip
        shown = exhibits(
            gate, np.maximum(error / self.max_rel_error, parts / self.max_abs_over_output),
            lambda at: f"sums to {sums.total[at]:.4g} of {sums.expected[at]:.4g}, Σ|R| is {parts[at]:.3g} times that",
        )  # fmt: skip
        return Outcome(
            tests, because=f"most is lost at node {next(iter(leaks))!r}" if leaks else "",
            values={"relative error": error, "sum of absolute values over score": parts, "share of biases": taken},
            left_out=left_out, most_left_out=MOST_LEFT_OUT, exhibits=shown,
            details={"leaks": [{"node": name, "share of the score": share} for name, share in leaks.items()]},
        )  # fmt: skip

    def _leaks(self, gate: GateContext, error: Array, size: Array) -> dict[str, float]:
        """The nodes that lose most on the inputs that miss their sum most: the mean share of what is promised."""
        worst = worst_of(np.where(error > self.max_rel_error, error, np.nan))
        found = dict[str, float]()
        for at in worst:
            for name, totals in _nodes(gate, gate.explanation(at)).items():
                lost = totals.leak - (totals.bias if self.biases == "declared" else 0.0)
                found[name] = found.get(name, 0.0) + lost / float(size[at]) / len(worst)
        ranked = sorted(found, key=lambda name: -abs(found[name]))[:_NODES]
        return {name: found[name] for name in ranked}

    def _declare(self, gate: GateContext, sums: _Sums, error: Array, taken: Array) -> None:
        """Take what biases got out of the errors of the inputs that miss their sum."""
        for at in np.flatnonzero(error > self.max_rel_error):
            nodes = _nodes(gate, gate.explanation(int(at)))
            if not nodes:
                return
            gate.explanations += 1  # one more sweep
            bias, expected = sum(totals.bias for totals in nodes.values()), float(sums.expected[at])
            taken[at] = bias / expected
            error[at] = abs(sums.total[at] + bias - expected) / abs(expected)


class _Sums:
    """What every map sums to, what it should, and Σ|R|; NaN for inputs of which that is undefined."""

    def __init__(self, count: int) -> None:
        self.total, self.expected, self.absolute = (np.full(count, np.nan) for _ in range(3))
        self.method = ""
        self._zero = self._shared = 0
        self._unexplained: dict[int, str] = {}

    @classmethod
    def of(cls, gate: GateContext) -> _Sums:
        """Of all inputs; ``method`` is named where it promises nothing."""
        found = cls(gate.count)
        scores = np.full(gate.count, np.nan)
        for batch, e in gate.explanations_of(unexplained=found._unexplained):
            rows, complete = list(batch.at), e.completeness
            if complete is None:
                found.method = e.method
                return found
            scores[rows] = np.abs(e.score)
            if len(complete.total) != len(rows):
                found._shared += len(rows)
                continue
            found.total[rows], found.expected[rows] = complete.total, complete.expected
            found.absolute[rows] = [np.abs(flat_map(gate.model, e, row)).sum() for row in range(len(rows))]
        rounding = _DIGITS * float(np.finfo(np.float32).eps) * np.nanmax(scores, initial=0.0)
        nothing = np.abs(found.expected) <= rounding
        found._zero = int(nothing.sum())
        found.expected[nothing] = np.nan
        return found

    def left_out(self) -> dict[str, int]:
        """Why inputs have no value -> how many."""
        reasons = {"the score is 0": self._zero, "several scores share one sum": self._shared}
        return counted(self._unexplained.values(), reasons)


def _nodes(gate: GateContext, e: Explanation) -> dict[str, NodeTotals]:
    """One input's totals by node; empty where the method isn't one sweep."""
    copies = gate.model.fixed_batch or 1
    try:
        found = e.nodes
    except UnsupportedError:
        return {}
    return {
        name: NodeTotals(*(value / copies for value in (t.sum, t.positive, t.negative, t.leak, t.bias)))
        for name, t in found.items()
    }


def _at_most(values: Array, bound: float) -> Any:
    return np.where(np.isnan(values), np.nan, values <= bound)
