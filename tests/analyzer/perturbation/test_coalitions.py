"""Coalitions: each is evaluated once, and an additive game is solved by any sample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

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


def unanimity(count: int, terms: int, order: int, seed: int) -> tuple[Array, Array, Array]:
    """A game that pays a term's worth where all of its players are in: who they are (terms, count), worths, Shapley values.

    By symmetry and additivity a term's players share its worth alike.
    """
    rng = np.random.default_rng(seed)
    members = np.zeros((terms, count), bool)
    for row in members:
        row[rng.choice(count, rng.integers(1, order + 1), replace=False)] = True
    worth = rng.standard_normal(terms)
    return members, worth, (worth / members.sum(axis=1)) @ members


@pytest.mark.parametrize(("count", "samples", "order"), [(20, 128, 3), (20, 1024, 8), (50, 300, 8)])
def test_nineteen_of_twenty_values_lie_within_two_standard_errors(count: int, samples: int, order: int) -> None:
    """Games in closed form, 100 seeds: the interval of 95 % covers 95 %, and errors are no smaller than they say."""
    covered, sizes = [], []
    for game in range(2):
        members, worth, truth = unanimity(count, 3 * count, order, game)
        errors, stated = np.empty((2, 100, count))
        for seed in range(100):
            design = design_of(count, samples, seed)
            paid = ~(~design.present[:, None] & members).any(axis=2)
            values, standard_errors = design.fit(paid @ worth)
            assert standard_errors is not None
            errors[seed], stated[seed] = values - truth, standard_errors
        covered.append((np.abs(errors) <= 1.96 * stated).mean())
        sizes.append(np.sqrt((stated**2).mean() / (errors**2).mean()))
    assert 0.935 < np.mean(covered) < 0.965
    assert 0.97 < np.mean(sizes) < 1.1


def test_where_all_pairs_of_some_sizes_are_drawn_only_the_others_make_an_error() -> None:
    """Pairwise games are additive on pairs: nothing is left to chance, however large the terms are."""
    members, worth, truth = unanimity(14, 40, 2, seed=3)
    design = design_of(14, 500, seed=0)
    values, errors = design.fit(~(~design.present[:, None] & members).any(axis=2) @ worth)
    np.testing.assert_allclose(values, truth, atol=1e-9)
    assert errors is not None
    np.testing.assert_allclose(errors, 0, atol=1e-9)
