"""The policy's parameters are as good as any of a grid, on inputs that they weren't chosen by."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from analyzer.errors import UsageError
from analyzer.evaluation import registry as metrics
from analyzer.evaluation.registry import MetricInfo
from analyzer.explanation import Explanation
from analyzer.gate.check import Check, Count, Finite
from analyzer.gate.context import GateContext
from analyzer.gate.exhibits import exhibits
from analyzer.gate.inputs import Batch
from analyzer.gate.outcome import Array, Outcome
from analyzer.methods import registry as methods

#: Points of a grid, at most.
_MOST = 64
Point = dict[str, Any]


class ComparePresetsCheck(Check):
    """No other parameters of the grid explain better than the policy's own.

    The best of the grid is chosen on one part of the inputs; on the other part, which had no say in it, its advantage over the
    policy's own parameters must be small.
    """

    source = (
        "Stone 1974, Cross-validatory choice and assessment of statistical predictions; size of effects: Cohen 1988"
    )
    kind: Literal["compare_presets"] = "compare_presets"
    grid: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]
    """Parameter of the method -> values that are tried, in all combinations."""
    objective: Annotated[str, Field(min_length=1)] = "pixel_flipping"
    """The metric."""
    objective_params: dict[str, Any] = {}
    """Its parameters."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Which share of the inputs decides; the best is chosen on the others."""
    max_shortfall: Finite = 0.2
    """By how much the best may be better in the mean, in standard deviations of the metric over inputs: 0.2 is a small effect."""
    samples: Count = 200
    """Of so many inputs at most."""

    def look(self, gate: GateContext) -> None:
        """Refuse a grid or an objective that can't be."""
        self._metric(gate)
        self._points(gate)

    def run(self, gate: GateContext) -> Outcome:
        """The mean advantage of the best of the grid, in pairs, on held-out inputs."""
        metric = self._metric(gate)
        own, points = self._points(gate)
        order = gate.generator().permutation(gate.count)[: self.samples]
        cut = len(order) - round(self.held_out * len(order))
        held_in, held_out = np.sort(order[:cut]).tolist(), np.sort(order[cut:]).tolist()
        sign = 1.0 if metric.higher_is_better else -1.0
        if not held_in or not held_out:
            message = f"{len(order)} inputs can't be parted into two"
            return Outcome(status="inconclusive", message=message)
        tried = [sign * self._values(gate, metric, point, held_in) for point in points]
        means = [float(np.nanmean(each)) if np.isfinite(each).any() else -np.inf for each in tried]
        best = max(range(len(points)), key=lambda at: (means[at], points[at] == own))
        ranked = sorted(range(len(points)), key=lambda at: -means[at])
        details: dict[str, Any] = {
            "best": points[best], "own": own, "inputs": {"held in": len(held_in), "held out": len(held_out)},
            "held in": [{"params": points[at], "mean": sign * means[at]} for at in ranked],
        }  # fmt: skip
        if points[best] == own:
            least = gate.policy.policy.min_n
            if len(order) < least:
                message = f"{len(order)} inputs are compared on, {least} are needed"
                return Outcome(status="inconclusive", message=message, details=details)
            others = f"none of {len(points) - 1} other settings explains better than {_told(own)}"
            return Outcome(status="pass", message=f"{others} on {len(held_in)} inputs", details=details)
        mine, theirs = (sign * self._values(gate, metric, point, held_out) for point in (own, points[best]))
        scale = float(np.nanstd(mine)) if np.isfinite(mine).any() else 0.0
        advantage = (theirs - mine) / scale if scale > 0 else theirs - mine
        name = (
            f"the mean advantage of {_told(points[best])} over {_told(own)} on held-out inputs, in standard deviations,"
        )
        tests = gate.mean(name, advantage, self.max_shortfall, "at most")

        def caption(at: int) -> str:
            return f"{_told(points[best])} is better by {advantage[at]:.2f} standard deviations of {metric.name}"

        def other(at: int, _: Explanation) -> tuple[str, Explanation]:
            name, params = gate.method
            return _told(points[best]), gate.explanation(at, method=name, params={**params, **points[best]})

        shown = exhibits(gate, advantage, caption, other)
        return Outcome(tests, values={"advantage of the best": advantage}, exhibits=shown, details=details)

    def _metric(self, gate: GateContext) -> MetricInfo:
        with gate.setting("objective"):
            info = metrics.get(self.objective.replace("_", "-"))
            info.check(self.objective_params)
        if info.higher_is_better is None or info.needs == "mask":
            why = "needs masks" if info.needs == "mask" else "only describes: no value of it is better"
            raise UsageError("config.gate", f"check {self.id!r}: objective: {info.name} {why}", "name another metric")
        return info

    def _points(self, gate: GateContext) -> tuple[Point, list[Point]]:
        """The policy's own values of the grid's parameters, and all points of the grid, its own among them."""
        name, params = gate.method
        info = methods.get(name)
        points = [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        if len(points) > _MOST:
            message = f"check {self.id!r}: grid: {len(points)} settings are more than {_MOST}"
            raise UsageError("config.gate", message, "try fewer values")
        with gate.setting("grid"):
            checked = [info.check({**params, **point}) for point in points]
        own = info.check(params)
        wanted = {key: own[key] for key in self.grid}
        found = [{key: each[key] for key in self.grid} for each in checked]
        return wanted, found if wanted in found else [wanted, *found]

    def _values(self, gate: GateContext, metric: MetricInfo, point: Point, at: list[int]) -> Array:
        """The metric's value for each input that is explained with a point's parameters, NaN for the others."""
        name, params = gate.method

        def explained(batch: Batch, _: Any) -> Any:
            return gate.explain(batch, method=name, params={**params, **point})

        return gate.evaluate(metric.name, at=at, change=explained, **self.objective_params)[0]


def _told(point: Point) -> str:
    return ", ".join(f"{name}={value}" for name, value in point.items())
