"""Coalitions: each is evaluated once, and an additive game is solved by any sample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from analyzer.perturbation.coalitions import CoalitionScores, design_of
from tests.analyzer.methods.linear import Array


def test_no_coalition_is_evaluated_twice() -> None:
    evaluated: list[int] = []

    def evaluate(present: Array) -> Iterator[float]:
        for row in present:
            evaluated.append(int(row @ powers))
            yield float(evaluated[-1])

    powers, rng = 2 ** np.arange(5), np.random.default_rng(0)
    scores = CoalitionScores(evaluate)
    for _ in range(4):
        present = rng.random((20, 5)) < 0.5
        np.testing.assert_array_equal(scores.of(present), present @ powers)
    assert len(evaluated) == len(set(evaluated))


def test_least_squares_give_an_additive_games_values_from_few_pairs() -> None:
    worth = np.arange(1.0, 10.0)
    design = design_of(9, 40, seed=1)
    values, errors = design.fit(3 + design.present @ worth)
    np.testing.assert_allclose(values, worth)
    np.testing.assert_allclose(errors, 0, atol=1e-12)
