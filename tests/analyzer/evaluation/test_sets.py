"""Metrics of sets of units, beside closed forms of linear models."""

from __future__ import annotations

import numpy as np
import pytest

import analyzer
from analyzer.evaluation.metrics.infidelity import error
from analyzer.evaluation.metrics.monotonicity import share_as_promised
from analyzer.evaluation.metrics.sensitivity_n import subset_sizes
from analyzer.evaluation.sets import FEW, SAME, UNCHANGED, correlation, random_sets, ranked_sets, set_size
from tests.analyzer.evaluation.maps import draw, explained, linear, load, with_map
from tests.common.models import two_inputs

COLUMNS = 9
W, X = draw(11, COLUMNS, 3), draw(12, 5, COLUMNS)
W[2] = 0  # this column is not used
MODEL = load(linear([COLUMNS], W, draw(13, 3)))
EXACT = X * W[:, 1]
CORRELATIONS = ("faithfulness-correlation", "faithfulness-estimate", "sensitivity-n")


@pytest.mark.parametrize("metric", CORRELATIONS)
def test_exact_contributions_of_a_linear_model_correlate_perfectly(metric: str) -> None:
    e = explained(MODEL, X)
    for factor in (1.0, -2.5):
        found = analyzer.evaluate(MODEL, X, with_map(e, factor * EXACT), metric)
        np.testing.assert_allclose(found.values, np.sign(factor), atol=1e-5)


def test_sensitivity_n_is_of_each_input_and_averaged_over_sizes() -> None:
    found = analyzer.evaluate(MODEL, X, with_map(explained(MODEL, X), EXACT + 0.1), "sensitivity-n", sizes=4, draws=10)
    curve = found.curves["correlation"]
    np.testing.assert_allclose(curve.x, np.array([1, 3, 5, 7]) / COLUMNS)
    np.testing.assert_allclose(found.values, curve.y.mean(axis=1))
    assert found.n_evaluations == len(X) * (4 * 10 + 1)


@pytest.mark.parametrize("factor", [1.0, 0.0, -1.0])
def test_infidelity_of_scaled_contributions(factor: float) -> None:
    """(c - 1)^2 times the mean square of the drops."""
    found = analyzer.evaluate(MODEL, X, with_map(explained(MODEL, X), factor * EXACT), "infidelity")
    squares = np.array(found.record["mean_squared_drop"])
    np.testing.assert_allclose(found.values, (factor - 1) ** 2 * squares, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("fill", [0.0, 0.7])
def test_what_a_method_gives_decides_how_infidelity_reads_its_map(fill: float) -> None:
    e = explained(MODEL, X)
    slopes, parts = np.tile(W[:, 1], (len(X), 1)), (X - np.float32(fill)) * W[:, 1]
    found = {
        kind: analyzer.evaluate(MODEL, X, with_map(e, each, method=method, params={}), "infidelity", fill=fill)
        for kind, each, method in (("derivative", slopes, "gradient"), ("contribution", parts, "gradient-x-input"))
    }
    for kind, each in found.items():
        assert each.record["kind"] == kind
        np.testing.assert_allclose(each.values, 0, atol=1e-9)
    wrong = analyzer.evaluate(
        MODEL, X, with_map(e, slopes, method="gradient-x-input", params={}), "infidelity", fill=fill
    )
    assert (wrong.values > 0.01).all()
    again = analyzer.evaluate(MODEL, X, with_map(e, slopes), "infidelity", fill=fill, kind="derivative")
    np.testing.assert_allclose(again.values, 0, atol=1e-9)


@pytest.mark.parametrize(
    ("method", "params", "derivative"),
    [
        ("gradient", {}, True), ("saliency", {}, True), ("guided-backprop", {}, True), ("deconvnet", {}, True),
        ("sensitivity", {"times_input": False}, True), ("sensitivity", {"times_input": True}, False),
        ("integrated-gradients", {"multiply_by_inputs": True}, False),
        ("integrated-gradients", {"multiply_by_inputs": False}, True),
        ("smoothgrad", {"base": "gradient"}, True), ("smoothgrad", {"base": "gradient-x-input"}, False),
        ("lrp", {}, False), ("occlusion", {}, False), ("kernel-shap", {}, False), ("grad-cam", {}, False),
    ],
)  # fmt: skip
def test_methods_say_whether_they_give_derivatives(method: str, params: dict[str, object], derivative: bool) -> None:
    assert analyzer.methods()[method].gives_derivatives(params) is derivative


def test_a_map_that_was_made_elsewhere_is_taken_for_contributions() -> None:
    found = analyzer.evaluate(MODEL, X, with_map(explained(MODEL, X), EXACT, method="mine", params={}), "infidelity")
    assert found.record["kind"] == "contribution"
    np.testing.assert_allclose(found.values, 0, atol=1e-9)


def test_derivatives_say_nothing_of_words() -> None:
    from tests.common.models import tokens

    model, ids = load(tokens()), np.random.default_rng(6).integers(0, 11, (2, 7))
    e = model.explain(ids, "feature-ablation", target=1)
    found = analyzer.evaluate(model, ids, e, "infidelity", kind="derivative", draws=4)
    assert found.n_nan == 2
    assert "words" in found.reasons[0]


def test_the_best_factor_is_never_negative() -> None:
    drops = draw(14, 20).astype(np.float64)
    assert error(3 * drops, drops, normalize=True) == pytest.approx(0)
    assert error(-3 * drops, drops, normalize=True) == pytest.approx(np.mean(drops**2))
    assert error(np.zeros(20), drops, normalize=True) == pytest.approx(np.mean(drops**2))


@pytest.mark.parametrize("sets", [4, 64])
def test_monotonicity_of_a_linear_model(sets: int) -> None:
    e = explained(MODEL, X)
    for factor, expected in ((2.0, 1.0), (-1.0, 0.0)):
        found = analyzer.evaluate(MODEL, X, with_map(e, factor * EXACT), "monotonicity", sets=sets)
        np.testing.assert_allclose(found.values, expected)


def test_monotonicity_counts_relevance_that_is_contradicted() -> None:
    assert share_as_promised(np.array([-1.0, 2.0, 1.0]), np.array([-3.0, 0.0, -1e-9]), 1e-6) == 1
    assert share_as_promised(np.array([-1.0, 2.0, 1.0]), np.array([0.5, 0.0, -0.1]), 1e-6) == pytest.approx(0.5)
    assert share_as_promised(np.array([0.0, 2.0]), np.array([-5.0, 0.1]), 0) == 1


def test_monotonicity_correlation_reads_sizes_alone() -> None:
    e = explained(MODEL, X)
    for each in (EXACT, -EXACT, np.abs(EXACT) ** 3):
        found = analyzer.evaluate(MODEL, X, with_map(e, each), "monotonicity-correlation")
        np.testing.assert_allclose(found.values, 1, atol=1e-9)


def test_non_sensitivity_counts_the_units_where_relevance_and_influence_disagree() -> None:
    e = explained(MODEL, X)
    wrong = EXACT.copy()
    wrong[:, 2] = 0.3  # has no influence
    wrong[:, [0, 5]] = 0  # have some
    for each, expected in ((EXACT, 0), (-EXACT, 0), (wrong, 3), (np.zeros_like(EXACT), COLUMNS - 1)):
        found = analyzer.evaluate(MODEL, X, with_map(e, each), "non-sensitivity")
        np.testing.assert_allclose(found.values, expected / COLUMNS)


def test_non_sensitivity_leaves_out_what_the_fill_does_not_change() -> None:
    x = X.copy()
    x[0, :] = 0
    x[1, 4] = 0
    wrong = x * W[:, 1]
    wrong[:, 2] = 1.0
    found = analyzer.evaluate(MODEL, x, with_map(explained(MODEL, x), wrong), "non-sensitivity")
    assert "replaces" in found.reasons[0]
    np.testing.assert_allclose(found.values[1:], [1 / (COLUMNS - 1), *[1 / COLUMNS] * 3])


def test_non_sensitivity_draws_from_many_units() -> None:
    found = analyzer.evaluate(MODEL, X, with_map(explained(MODEL, X), EXACT), "non-sensitivity", units=4)
    assert found.n_evaluations == len(X) * 5
    assert any("drawn" in note for note in found.notes)


def test_correlations_have_reasons_where_there_are_none() -> None:
    a, b = draw(15, 8).astype(np.float64), draw(16, 8).astype(np.float64)
    assert correlation(a[:2], b[:2], 0) == FEW
    assert correlation(np.full(8, 0.1) + 1e-17, b, 0) == SAME
    assert correlation(a, 1 + 1e-9 * b, 1e-7) == UNCHANGED
    assert correlation(a, b, 0) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(a, a**3, 0, "spearman") == pytest.approx(1)


def test_sets_have_their_size_and_every_unit_its_chance() -> None:
    sets = random_sets(np.random.default_rng(0), 10, 3, 4000)
    assert (sets.sum(axis=1) == 3).all()
    np.testing.assert_allclose(sets.mean(axis=0), 0.3, atol=0.04)
    assert ranked_sets(np.array([2, 0, 1]), 2).tolist() == [[True, False, True], [False, True, False]]
    assert [set_size(10, share) for share in (0.01, 0.26, 0.99)] == [1, 3, 9]
    assert set_size(1, 0.5) == 1
    assert subset_sizes(6, 8, 0.8).tolist() == [1, 2, 2, 3, 3, 4, 4, 5]


def test_several_inputs_are_cut_together() -> None:
    model = load(two_inputs())
    feed = {"picture": draw(64, 2, 3, 8, 8), "row": draw(65, 2, 4)}
    e = model.explain(feed, "occlusion", target=1)
    found = analyzer.evaluate(model, feed, e, "pixel-flipping", steps=68)
    assert found.n_evaluations == 2 * (64 + 4 + 1)
    assert found.n_valid == 2
