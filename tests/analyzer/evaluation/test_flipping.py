"""Curves of units that are taken away or put in, beside closed forms of linear models."""

from __future__ import annotations

import numpy as np
import pytest

import analyzer
from analyzer.evaluation.flipping import first_of, step_counts
from tests.analyzer.evaluation.maps import Array, draw, explained, linear, load, with_map

COLUMNS = 7
W, B, X = draw(1, COLUMNS, 3), draw(2, 3), draw(3, 4, COLUMNS)
MODEL = load(linear([COLUMNS], W, B))
EXACT = X * W[:, 1]


def curves(order: Array, contributions: Array = EXACT) -> Array:
    """(samples, columns + 1) scores of the linear model while columns become 0 in an order."""
    gone = np.cumsum(np.take_along_axis(contributions.astype(np.float64), order, axis=1), axis=1)
    score = (contributions.sum(axis=1) + B[1])[:, None]
    return np.concatenate([score, score - gone], axis=1)


def logits(order: Array, insert: bool = False) -> Array:
    """(samples, columns + 1, classes) logits while columns become 0, or come back, in an order."""
    place = np.argsort(order, axis=1)
    points = np.arange(COLUMNS + 1)[:, None]
    present = (place[:, None] < points) == insert
    return (X[:, None] * present).astype(np.float64) @ W + B


def softmax(z: Array) -> Array:
    """Of the last axis, its second element."""
    return (np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True))[..., 1]


@pytest.mark.parametrize("metric", ["pixel-flipping", "selectivity", "region-perturbation"])
@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_the_curve_is_the_sum_of_what_is_left(metric: str, order: str) -> None:
    found = analyzer.evaluate(MODEL, X, with_map(explained(MODEL, X), EXACT), metric, steps=COLUMNS, order=order)
    ranked = np.argsort(-EXACT if order == "morf" else EXACT, axis=1)
    expected = curves(ranked)
    np.testing.assert_allclose(found.curves[order].x, np.arange(COLUMNS + 1) / COLUMNS)
    np.testing.assert_allclose(found.curves[order].y, expected, atol=1e-5)
    aopc = (expected[:, :1] - expected).mean(axis=1)  # Samek et al., eq. 12: k = 0 counts
    np.testing.assert_allclose(found.record["aopc"], aopc, atol=1e-5)
    area = (expected[:, :-1] + expected[:, 1:]).mean(axis=1) / 2
    np.testing.assert_allclose(found.values, aopc if metric == "region-perturbation" else area, atol=1e-5)
    assert found.higher_is_better == ((metric == "region-perturbation") == (order == "morf"))


def test_more_steps_than_units_change_nothing_and_cost_nothing() -> None:
    e = with_map(explained(MODEL, X), EXACT)
    few, many = (analyzer.evaluate(MODEL, X, e, "pixel-flipping", steps=steps) for steps in (COLUMNS, 50))
    np.testing.assert_allclose(many.values, few.values, atol=1e-6)
    np.testing.assert_allclose(many.record["aopc"], few.record["aopc"], atol=1e-6)
    assert many.n_evaluations == few.n_evaluations == len(X) * (COLUMNS + 1)


def test_the_curve_ends_where_most_says() -> None:
    e = with_map(explained(MODEL, X), EXACT)
    found = analyzer.evaluate(MODEL, X, e, "pixel-flipping", steps=3, most=3 / 7)
    expected = curves(np.argsort(-EXACT, axis=1))[:, :4]
    np.testing.assert_allclose(found.curves["morf"].y, expected, atol=1e-5)
    np.testing.assert_allclose(found.values, (expected[:, :-1] + expected[:, 1:]).mean(axis=1) / 2, atol=1e-5)


@pytest.mark.parametrize("end", ["", "Softmax", "LogSoftmax"])
@pytest.mark.parametrize("insert", [True, False])
def test_insertion_and_deletion_are_of_probabilities(end: str, insert: bool) -> None:
    model = load(linear([COLUMNS], W, B, end))
    e = with_map(explained(model, X), EXACT)
    name = "insertion" if insert else "deletion"
    found = analyzer.evaluate(model, X, e, name, steps=COLUMNS)
    expected = softmax(logits(np.argsort(-EXACT, axis=1), insert))
    np.testing.assert_allclose(found.curves["morf"].y, expected, atol=1e-6)
    np.testing.assert_allclose(found.values, (expected[:, :-1] + expected[:, 1:]).mean(axis=1) / 2, atol=1e-6)
    assert found.record["score"] == "probability"
    assert any("softmax" in note for note in found.notes) == (end == "")


def test_irof_is_the_area_over_the_shares_that_are_left() -> None:
    e = with_map(explained(MODEL, X), EXACT)
    found = analyzer.evaluate(MODEL, X, e, "irof", steps=COLUMNS)
    left = softmax(logits(np.argsort(-EXACT, axis=1)))
    left = left / left[:, :1]
    np.testing.assert_allclose(found.values, 1 - (left[:, :-1] + left[:, 1:]).mean(axis=1) / 2, rtol=1e-5)


def test_irof_has_no_answer_where_the_score_is_not_positive() -> None:
    model = load(linear([COLUMNS], np.abs(W), np.zeros(3, np.float32)))
    x = np.stack([np.abs(X[0]), -np.abs(X[1])])
    found = analyzer.evaluate(model, x, explained(model, x), "irof", score="explained")
    assert np.isfinite(found.values[0])
    assert "next to nothing" in found.reasons[1]


def test_irof_of_a_class_with_next_to_no_probability_has_no_answer() -> None:
    model = load(linear([COLUMNS], 100 * W, B))
    worst = [int(each) for each in (X @ W).argmin(axis=1)]
    found = analyzer.evaluate(model, X, explained(model, X, worst), "irof")
    assert found.n_nan == len(X)
    assert "next to nothing" in found.reasons[0]


def test_superpixels_are_ranked_by_their_means() -> None:
    x = np.ones((1, 1, 2, 4), np.float32)
    model = load(linear(x.shape[1:], np.repeat(draw(5, 8, 1), 2, axis=1)))
    segments = np.array([[0, 0, 0, 0], [0, 0, 1, 1]])
    relevance = np.where(segments == 0, 1.0, 2.0)[None, None]  # the sum of the first is larger
    e = with_map(explained(model, x), relevance)
    found = analyzer.evaluate(model, x, e, "irof", steps=2, segments=segments, fill=0.0, score="explained", most=1.0)
    w = model.predict(np.eye(8, dtype=np.float32).reshape(8, 1, 2, 4))["scores"][:, 1]
    np.testing.assert_allclose(found.curves["morf"].y[0, 1], w[segments.reshape(-1) == 0].sum(), atol=1e-5)


def test_a_random_order_is_the_same_for_one_seed_and_another_for_the_next() -> None:
    e = with_map(explained(MODEL, X), EXACT)
    values = [
        analyzer.evaluate(MODEL, X, e, "pixel-flipping", steps=4, order="random", seed=seed).values
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.allclose(values[0], values[2])


def test_steps_are_equal_shares() -> None:
    assert step_counts(10, 5).tolist() == [0, 2, 4, 6, 8, 10]
    assert step_counts(3, 6).tolist() == [0, 0, 1, 2, 2, 2, 3]
    assert step_counts(100, 2, 0.001).tolist() == [0, 0, 1]
    assert first_of(np.array([2, 0, 1]), np.array([1, 2])).tolist() == [[False, False, True], [True, False, True]]
