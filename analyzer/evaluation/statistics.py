"""From values of many inputs to statements about all inputs: intervals, and tests that a bound holds or is broken.

Belongs here: statistics of samples that were drawn independently, one value for each input. Not here: what is decided on them
(``analyzer.gate``), metrics.

Every test answers two questions. ``p_clears`` is the chance of such values if the bound were just broken: small, and the bound
is shown to hold. ``p_violates`` is the chance of such values if the bound just held: small, and it is shown to be broken. Where
neither is small there are too few inputs to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Side = Literal["at least", "at most"]
#: Draws of a bootstrap.
_DRAWS = 4999


@dataclass(frozen=True)
class Bounded:
    """A statistic of many inputs beside the bound that it must keep.

    Attributes
    ----------
    name
        What the statistic is, in words.
    estimate, low, high
        Its value, and the ends of its confidence interval.
    bound, side
        What it must be at least, or at most.
    count
        How many inputs it is of.
    p_clears, p_violates
        See the module; NaN where there are no values.
    part
        The part of the data that it is of; empty for all.
    """

    name: str
    estimate: float
    low: float
    high: float
    bound: float
    side: Side
    count: int
    p_clears: float
    p_violates: float
    part: str = ""

    @property
    def holds(self) -> bool:
        """Whether the estimate itself keeps the bound."""
        return self.estimate >= self.bound if self.side == "at least" else self.estimate <= self.bound


def share(
    name: str, ok: Sequence[bool] | NDArray[np.bool_], least: float, confidence: float, part: str = ""
) -> Bounded:
    """Whether at least a share of all inputs is ok: exact binomial tests, and the exact interval (Clopper, Pearson 1934).

    Parameters
    ----------
    ok
        One for each input.
    least
        The share, from 0 to 1. For 1 it is a statement about these inputs alone: a single one that isn't ok breaks the bound,
        none keeps it.
    """
    from scipy.stats import binomtest

    good, count = int(np.sum(ok)), len(ok)
    if not count:
        return Bounded(name, np.nan, np.nan, np.nan, least, "at least", 0, np.nan, np.nan, part)
    interval = binomtest(good, count).proportion_ci(confidence, method="exact")
    clears = binomtest(good, count, least, alternative="greater").pvalue if least < 1 else float(good < count)
    violates = binomtest(good, count, least, alternative="less").pvalue if least > 0 else 1.0
    return Bounded(
        name, good / count, float(interval.low), float(interval.high), least, "at least", count, float(clears),
        float(violates), part,
    )  # fmt: skip


def quantile(
    name: str,
    values: Array,
    at: float,
    bound: float,
    side: Side,
    confidence: float,
    part: str = "",
) -> Bounded:
    """Whether a quantile of all inputs' values keeps a bound, by how many of the values do; no distribution is assumed.

    Its interval is made of order statistics.
    """
    from scipy.stats import quantile_test

    values = np.asarray(values, np.float64)
    if not len(values):
        return Bounded(name, np.nan, np.nan, np.nan, bound, side, 0, np.nan, np.nan, part)
    kept = share(
        name,
        values >= bound if side == "at least" else values <= bound,
        1 - at if side == "at least" else at,
        confidence,
    )
    interval = quantile_test(values, p=at).confidence_interval(confidence)
    return Bounded(
        name, float(np.quantile(values, at)), float(interval.low), float(interval.high), bound, side, len(values),
        kept.p_clears, kept.p_violates, part,
    )  # fmt: skip


def mean(
    name: str,
    values: Array,
    bound: float,
    side: Side,
    confidence: float,
    seed: int = 0,
    part: str = "",
) -> Bounded:
    """Whether the mean of all inputs' values keeps a bound: the studentised bootstrap; of paired values give differences.

    Two or three values say nothing about their spread: then the interval is infinite.

    Source: Efron, Tibshirani 1993, An introduction to the bootstrap, sec. 12.5 and 16.4.
    """
    values = np.asarray(values, np.float64)
    count = len(values)
    if count < 2:
        estimate = float(values.mean()) if count else np.nan
        return Bounded(name, estimate, np.nan, np.nan, bound, side, count, np.nan, np.nan, part)
    estimate, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(count))
    if error <= 1e-12 * max(abs(estimate), 1e-300):  # all alike: nothing to draw from
        holds = estimate >= bound if side == "at least" else estimate <= bound
        chance = 0.5**count  # of so many values on one side of a bound that the median lies at
        clears, violates = (chance, 1.0) if holds else (1.0, chance)
        return Bounded(name, estimate, estimate, estimate, bound, side, count, clears, violates, part)
    rng = np.random.default_rng(seed)
    draws = values[rng.integers(0, count, (_DRAWS, count))]
    spread = draws.std(axis=1, ddof=1) / np.sqrt(count)
    off = draws.mean(axis=1) - estimate
    alike = spread <= 1e-9 * error  # one value again and again: no spread but rounding, and a mean that may be far off
    t = np.where(alike, np.copysign(np.inf, off), off / np.where(alike, 1, spread))
    low_t = np.quantile(t, (1 - confidence) / 2, method="lower")
    high_t = np.quantile(t, (1 + confidence) / 2, method="higher")
    seen = (estimate - bound) / error
    above = (1 + np.sum(t >= seen)) / (len(t) + 1)  # so far above the bound, were the mean at it
    below = (1 + np.sum(t <= seen)) / (len(t) + 1)
    low, high = float(estimate - high_t * error), float(estimate - low_t * error)
    above, below = (
        (above if np.isfinite(low) else 1.0),
        (below if np.isfinite(high) else 1.0),
    )  # too few to say anything
    clears, violates = (above, below) if side == "at least" else (below, above)
    return Bounded(name, estimate, low, high, bound, side, count, float(clears), float(violates), part)


@dataclass(frozen=True)
class Interval:
    """A mean over inputs with its confidence interval; of how many inputs."""

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Array, confidence: float = 0.95, seed: int = 0) -> Interval:
        """Of the values of so many inputs; infinite, or NaN, where there are too few to tell."""
        found = mean("", np.asarray(values, np.float64), 0.0, "at least", confidence, seed)
        return cls(found.estimate, found.low, found.high, found.count)

    def to_dict(self) -> dict[str, float | int | None]:
        """JSON-ready."""
        return {
            key: value if np.isfinite(value) else None
            for key, value in (("mean", self.mean), ("low", self.low), ("high", self.high), ("n", self.count))
        }


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for how many there are, so that the chance of any false alarm stays below a level.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure. NaN stays NaN and isn't counted.
    """
    values = np.asarray(p_values, np.float64)
    known = np.flatnonzero(~np.isnan(values))
    found = np.full(len(values), np.nan)
    ranked = known[np.argsort(values[known], kind="stable")]
    worst = 0.0
    for at, index in enumerate(ranked):
        worst = max(worst, min(1.0, (len(ranked) - at) * float(values[index])))
        found[index] = worst
    return [float(value) for value in found]
