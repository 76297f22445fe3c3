"""Statements about all inputs of a run, and about parts of them, from a value for each.

Belongs here: from values by input to tests beside their bounds. Not here: the tests themselves
(``analyzer.evaluation.statistics``), what is decided on them (``decide``), the values (the checks).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from analyzer.evaluation import statistics
from analyzer.evaluation.statistics import Bounded, Side
from analyzer.gate.inputs import GateInputs
from analyzer.gate.outcome import Array


@dataclass
class StatedInputs(GateInputs):
    """The inputs of a run, and what can be stated of them.

    The ends of intervals are the bounds, each at the policy's confidence, on which is decided: a statement is shown to hold where
    the nearer end keeps its bound.
    """

    @property
    def _both_sides(self) -> float:
        """The confidence of an interval each of whose ends alone has the policy's."""
        return 2 * self.confidence - 1

    def share(
        self, name: str, ok: Array, least: float, parts: Mapping[str, Array] | None = None, least_n: int = 1
    ) -> list[Bounded]:
        """That at least a share of the inputs is ok; the same of each part with enough inputs.

        Parameters
        ----------
        ok
            1 or 0 for each input, NaN for those that don't count.
        """
        return self._stated(
            ok, parts, least_n, lambda v, part: statistics.share(name, v > 0, least, self._both_sides, part)
        )

    def quantile(
        self, name: str, values: Array, at: float, bound: float, side: Side, parts: Mapping[str, Array] | None = None,
        least_n: int = 1,
    ) -> list[Bounded]:  # fmt: skip
        """That a quantile of the inputs' values keeps a bound; the same of each part with enough inputs."""
        return self._stated(
            values, parts, least_n,
            lambda v, part: statistics.quantile(name, v, at, bound, side, self._both_sides, part),
        )  # fmt: skip

    def mean(
        self, name: str, values: Array, bound: float, side: Side, parts: Mapping[str, Array] | None = None,
        least_n: int = 2,
    ) -> list[Bounded]:  # fmt: skip
        """That the mean of the inputs' values keeps a bound; the same of each part with enough inputs."""
        return self._stated(
            values, parts, least_n,
            lambda v, part: statistics.mean(name, v, bound, side, self._both_sides, self.seed, part),
        )  # fmt: skip

    def summary(self, name: str, values: Array, stat: str, bound: float) -> list[Bounded]:
        """That a statistic of the inputs' values is at most a bound.

        Parameters
        ----------
        stat
            ``mean``, ``median``, a percentile such as ``p95``, or ``max``, which is about these inputs alone.
        """
        told = f"the {'95th percentile' if stat == 'p95' else stat} of {name}"
        if stat == "mean":
            return self.mean(told, values, bound, "at most")
        if stat == "max":
            ok = np.where(np.isnan(values), np.nan, values <= bound)
            return self.share(f"the share of inputs of which {name} is at most {bound:g}", ok, 1.0)
        at = 0.5 if stat == "median" else int(stat[1:]) / 100
        return self.quantile(told, values, at, bound, "at most")

    def _stated(
        self, values: Array, parts: Mapping[str, Array] | None, least_n: int, state: Callable[[Array, str], Bounded]
    ) -> list[Bounded]:
        known = ~np.isnan(values)
        found = [state(values[known], "")]
        for part, inside in (parts or {}).items():
            if (inside & known).sum() >= least_n:
                found.append(state(values[inside & known], part))
        return found
