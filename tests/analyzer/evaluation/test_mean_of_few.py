"""The interval of a mean of very few values: it never claims to know their spread."""

from __future__ import annotations

import numpy as np

from analyzer.evaluation import statistics


def test_two_values_bound_nothing() -> None:
    found = statistics.mean("m", np.array([0.4, 0.5]), 0.2, "at least", 0.95)
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert found.p_clears > 0.05


def test_the_interval_of_a_handful_covers_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hit = [
        found.low <= 1.0 <= found.high
        for found in (statistics.mean("m", rng.normal(1, 2, 6), 0.0, "at least", 0.95) for _ in range(200))
    ]
    assert np.mean(hit) >= 0.9  # 0.95 but for chance: below 0.9 with a probability of 0.2 %
