"""Judging by probabilities what explains a logit: where that can be, and what is said where it can't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import analyzer
from tests.analyzer.evaluation.maps import context_of, draw, explained, linear, load
from tests.common.models import cnn

W, B, X = draw(41, 5, 4), draw(42, 4), draw(43, 3, 5)


def probabilities(end: str) -> np.ndarray[Any, Any]:
    """(samples, classes) of the linear model."""
    z = (X @ W + B).astype(np.float64)
    return 1 / (1 + np.exp(-z)) if end == "Sigmoid" else np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("end", ["", "Softmax", "LogSoftmax", "Sigmoid"])
@pytest.mark.parametrize("target", [2, "top1", [0, 3, 1]])
def test_a_class_has_the_probability_that_the_model_ends_in(end: str, target: Any) -> None:
    model = load(linear([5], W, B, end))
    e = explained(model, X, target)
    context = context_of(model, e).scored_as("probability")
    expected = probabilities(end)[np.arange(3), list(e.classes)]
    np.testing.assert_allclose(context.score, expected, rtol=1e-6)
    assert context.score_kind == "probability"
    assert bool(context.score_notes) == (end == "")
    units = context.units(1)
    everything = np.ones((2, units.count), bool)
    same = context.scores(1, units, everything, context.replacements(0.0))
    np.testing.assert_allclose(same, expected[1], rtol=1e-6)


@pytest.mark.parametrize("target", ["contrast:1,0", "not:1", "scores[:, 1:3]"])
def test_what_is_no_class_stays_the_score_that_it_is(target: str) -> None:
    model = load(linear([5], W, B, "Softmax"))
    e = explained(model, X, target)
    context = context_of(model, e).scored_as("probability")
    np.testing.assert_allclose(context.score, e.score, rtol=1e-6)
    assert context.score_kind == e.score_kind
    assert "no logit of one class" in context.score_notes[0]


def test_a_probability_that_was_explained_stays_one() -> None:
    model = load(linear([5], W, B, "Softmax"))
    context = context_of(model, explained(model, X, 1, score="probability")).scored_as("probability")
    np.testing.assert_allclose(context.score, probabilities("Softmax")[:, 1], rtol=1e-6)
    assert context.score_kind == "probability"
    assert not context.score_notes


def test_one_output_is_a_probability_only_behind_a_sigmoid() -> None:
    for end, kind in (("Sigmoid", "probability"), ("", "value")):
        model = load(linear([5], W[:, :1], B[:1], end))
        context = context_of(model, explained(model, X, 0)).scored_as("probability")
        assert context.score_kind == kind
        z = (X @ W[:, 0] + B[0]).astype(np.float64)
        np.testing.assert_allclose(context.score, 1 / (1 + np.exp(-z)) if end else z, rtol=1e-5)


def test_large_logits_overflow_into_certainty() -> None:
    model = load(linear([5], 1000 * W, None, "Softmax"))
    context = context_of(model, explained(model, X, "top1")).scored_as("probability")
    np.testing.assert_allclose(context.score, 1.0)
    worst = context_of(model, explained(model, X, [int(each) for each in (X @ W).argmin(axis=1)]))
    np.testing.assert_allclose(worst.scored_as("probability").score, 0.0)


def test_metrics_say_what_their_scores_are() -> None:
    model, x = load(cnn(end="Softmax")), draw(44, 2, 3, 8, 8)
    e = explained(model, x)
    for metric in ("insertion", "deletion", "irof", "road"):
        for score, kind in (("probability", "probability"), ("explained", "logit")):
            quick = dict(analyzer.metrics()[metric].quick)
            assert analyzer.evaluate(model, x, e, metric, score=score, **quick).record["score"] == kind
