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


def test_few_equal_values_do_not_show_much() -> None:
    for count, expected in ((2, 0.25), (6, 1 / 64)):
        found = statistics.mean("", np.full(count, 1.0), 0.9, "at most", 0.95)
        assert found.p_violates == expected and found.p_clears == 1.0
        kept = statistics.mean("", np.full(count, 1.0), 0.9, "at least", 0.95)
        assert kept.p_clears == expected and kept.p_violates == 1.0


def test_what_has_no_bound_shows_nothing() -> None:
    found = statistics.mean("", np.array([0.1, 0.2, 0.3]), 0.0, "at least", 0.95)
    assert found.low == -np.inf and found.p_clears == 1.0


def test_the_interval_of_a_share_is_what_decides() -> None:
    for good, count in ((66, 66), (59, 59), (58, 58), (119, 120), (60, 66)):
        found = statistics.share("", np.arange(count) < good, 0.95, 0.9)
        assert (found.low >= 0.95) == (found.p_clears <= 0.05)
