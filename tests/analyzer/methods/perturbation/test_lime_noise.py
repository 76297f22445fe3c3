"""LIME by noise in closed form: exact for linear and quadratic functions, beside scikit-learn's least squares for others."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import AnalyzerError
from tests.analyzer.methods.gradient.test_gradients import A, B, quadratic
from tests.analyzer.methods.linear import linear, weights_of
from tests.common.models import assemble

X = np.array([[1.5, -0.5], [-2.0, 1.0]], np.float32)


def test_a_linear_function_has_its_weights_times_the_input() -> None:
    w, x = weights_of(6), weights_of(3, 6, seed=1)
    model = linear(w)
    found = model.explain(x, "lime-noise", target=0, samples=20)
    np.testing.assert_allclose(found.attribution, w * x, rtol=1e-4, atol=1e-4)
    slopes = model.explain(x, "lime-noise", target=0, samples=20, multiply_by_inputs=False)
    np.testing.assert_allclose(slopes.attribution, np.broadcast_to(w, x.shape), rtol=1e-4, atol=1e-4)
    assert found.record["r2"] == pytest.approx([1, 1, 1], abs=1e-6)
    assert found.record["notes"] == []


@pytest.mark.parametrize("noise", [0.02, 0.5, 3.0])
def test_a_quadratic_function_has_its_gradient_whatever_the_noise(noise: float) -> None:
    """The curved part is the same at x + e and x - e."""
    slopes = X.astype(np.float64) @ A + B
    found = quadratic().explain(X, "lime-noise", target=0, samples=12, noise=noise)
    np.testing.assert_allclose(found.attribution, slopes * X, rtol=2e-3, atol=2e-3)


def sine() -> analyzer.Model:
    """sin(3 x1) + 2 x2."""
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("Sin", ["a"], ["s"]),
        helper.make_node("MatMul", ["x", "second"], ["b"]),
        helper.make_node("Add", ["s", "b"], ["y"]),
    ]
    weights = {"first": np.array([[3.0], [0.0]], np.float32), "second": np.array([[0.0], [2.0]], np.float32)}
    shapes = {"x": (TensorProto.FLOAT, ["n", 2])}
    return analyzer.load(assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["n", 1])}, weights), "cpu", threads=1)


def test_many_copies_come_to_the_best_linear_model_under_the_noise() -> None:
    """For Gaussian e of deviation s the slope of sin(3 x) is 3 cos(3 x) exp(-9 s^2 / 2)."""
    x = np.array([[0.3, 1.3]], np.float32)
    found = sine().explain(x, "lime-noise", target=0, samples=20000, noise=0.4, multiply_by_inputs=False)
    s = 0.4 * 1.0
    expected = [3 * np.cos(0.9) * np.exp(-4.5 * s**2), 2.0]
    np.testing.assert_allclose(found.attribution[0], expected, rtol=0.03)
    assert 0.5 < found.record["r2"][0] < 1


def test_a_ridge_is_scikit_learns() -> None:
    from sklearn.linear_model import Ridge

    model, x = sine(), np.array([[0.3, 1.3]], np.float32)
    found = model.explain(x, "lime-noise", target=0, samples=60, noise=0.4, alpha=5.0, multiply_by_inputs=False, seed=4)
    e = np.random.default_rng(4).standard_normal((30, 2), np.float32).astype(np.float64)
    s = 0.4 * float(np.ptp(x))
    score = [model.predict((x + sign * s * e).astype(np.float32))["y"][:, 0].astype(np.float64) for sign in (1, -1)]
    ridge = Ridge(alpha=5.0, fit_intercept=False).fit(e, (score[0] - score[1]) / 2)
    np.testing.assert_allclose(found.attribution[0], ridge.coef_ / s, rtol=1e-4)


def test_too_few_copies_give_the_shortest_weights_and_say_so() -> None:
    w, x = weights_of(6), weights_of(1, 6, seed=1)
    found = linear(w).explain(x, "lime-noise", target=0, samples=8, multiply_by_inputs=False)
    e = np.random.default_rng(0).standard_normal((4, 6), np.float32).astype(np.float64)
    np.testing.assert_allclose(found.attribution[0], np.linalg.pinv(e) @ (e @ w), rtol=1e-3, atol=1e-3)
    assert any("4 pairs of copies for 6 elements" in note for note in found.record["notes"])


def test_a_poor_fit_says_so() -> None:
    x = np.array([[0.0, 0.0]], np.float32)
    curved = quadratic().explain(x, "lime-noise", target=0, noise=50.0)
    assert any("R²" in note for note in curved.record["notes"])


def test_a_sample_alone_is_explained_as_in_a_batch() -> None:
    together = sine().explain(X, "lime-noise", target=0, samples=20).attribution
    alone = sine().explain(X[1:], "lime-noise", target=0, samples=20).attribution
    np.testing.assert_allclose(alone, together[1:], rtol=1e-5)


@pytest.mark.parametrize("options", [{"samples": 1}, {"noise": 0.0}, {"alpha": -1.0}])
def test_what_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(AnalyzerError) as caught:
        sine().explain(X, "lime-noise", target=0, **options)
    assert caught.value.code == "params.invalid"
