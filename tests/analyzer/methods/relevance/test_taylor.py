"""Simple Taylor decomposition: roots lie where the score is zero, closed forms for linear and quadratic models."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import UsageError
from tests.analyzer.methods.linear import linear, weights_of
from tests.common.checks import load
from tests.common.models import assemble, cases

CASES = {case.name: case for case in cases()}


def circle(radius: float = 1.0, sign: float = 1.0) -> analyzer.Model:
    """The model ``sign * (sum of squares - radius^2)``."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squares"]),
        helper.make_node("MatMul", ["squares", "ones"], ["sum"]),
        helper.make_node("Add", ["sum", "c"], ["y"]),
    ]
    weights = {"ones": np.full((2, 1), sign, np.float32), "c": np.array([-sign * radius**2], np.float32)}
    shapes = {"x": (TensorProto.FLOAT, ["n", 2])}
    return analyzer.load(assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["n", 1])}, weights), "cpu", threads=1)


@pytest.mark.parametrize("root", ["search", "nearest"])
def test_a_linear_models_root_is_its_projection(root: str) -> None:
    w, x = weights_of(4), weights_of(3, 4, seed=1)
    done = linear(w).explain(x, method="taylor", target=0, root=root)
    score = x @ w + 0.5
    np.testing.assert_allclose(done.record["sum"], score, atol=2e-3 * np.abs(score).max())
    if root == "search":
        np.testing.assert_allclose(done.attribution, score[:, None] * w**2 / (w @ w), rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(done.record["distance"], np.abs(score) / np.linalg.norm(w), rtol=2e-3)


def test_the_nearest_point_of_a_circle() -> None:
    x = np.array([[3.0, 4.0], [0.5, 1.5]], np.float32)
    done = circle().explain(x, method="taylor", target=0, root="nearest")
    length = np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(done.record["distance"], length - 1, atol=2e-2)
    on_circle = x / length[:, None]
    np.testing.assert_allclose(done.attribution, 2 * on_circle * (x - on_circle), rtol=3e-2)
    np.testing.assert_allclose(done.record["score_at_root"], 0, atol=1e-3 * np.abs(done.score).max())


def test_a_given_root_point() -> None:
    x = np.array([[3.0, 4.0]], np.float32)
    done = circle().explain(x, method="taylor", target=0, root=[0.6, 0.8])
    np.testing.assert_allclose(done.attribution, [[1.2 * 2.4, 1.6 * 3.2]], rtol=1e-5)
    assert not done.record["notes"]
    at_zero = circle().explain(x, method="taylor", target=0, root=0)
    np.testing.assert_array_equal(at_zero.attribution, [[0, 0]])
    assert "isn't a root" in at_zero.record["notes"][0]


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_roots_of_a_network_are_as_near_to_zero_as_asked(tolerance: float) -> None:
    case = CASES["mlp"]
    done = load(case.proto).explain(case.feed, method="taylor", tolerance=tolerance)
    assert (np.abs(done.record["score_at_root"]) <= tolerance * np.abs(done.score)).all()
    assert (np.asarray(done.record["distance"]) > 0).all()


def test_a_model_without_root_says_what_to_do() -> None:
    nodes = [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("Add", ["e", "one"], ["y"])]
    proto = assemble(
        nodes,
        {"x": (TensorProto.FLOAT, ["n", 1])},
        {"y": (TensorProto.FLOAT, ["n", 1])},
        {"one": np.ones(1, np.float32)},
    )
    with pytest.raises(UsageError) as caught:
        load(proto).explain(np.ones((2, 1), np.float32), method="taylor", target=0)
    assert caught.value.code == "taylor.no_root"
    assert "deep-taylor" in str(caught.value.hint)


def test_the_gradient_shap_of_a_linear_model_is_weights_times_difference() -> None:
    w, x = weights_of(4), weights_of(3, 4, seed=1)
    done = linear(w).explain(x, method="gradient-shap", target=0, samples=3, baselines=weights_of(1, 4, seed=2))
    np.testing.assert_allclose(done.attribution, w * (x - weights_of(1, 4, seed=2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(done.record["standard_error"], 0, atol=1e-6)
    pool = weights_of(5, 4, seed=3)
    many = linear(w).explain(x, method="gradient-shap", target=0, samples=4000, baselines=pool)
    np.testing.assert_allclose(many.attribution, w * (x - pool.mean(0)), atol=0.1)


def test_gradient_shap_of_a_square_has_its_expectation_and_error() -> None:
    x = np.array([[3.0, 4.0]], np.float32)
    done = circle().explain(x, method="gradient-shap", target=0, samples=2000, seed=3)
    error = done.record["standard_error"][0]
    assert done.completeness is not None
    np.testing.assert_allclose(done.completeness.expected, 25.0, rtol=1e-6)
    np.testing.assert_allclose(error, 50 / np.sqrt(12 * 2000), rtol=0.1)  # 2 * 25 * a, a uniform
    assert abs(float(done.completeness.delta[0])) < 4 * error
    np.testing.assert_allclose(done.attribution[0], [9, 16], atol=4 * error)


def test_gradient_shap_with_noise_has_captums_expectation() -> None:
    import captum.attr
    import torch

    torch.manual_seed(0)
    x = torch.tensor([[3.0, 4.0]])
    pool = torch.tensor([[0.0, 1.0], [1.0, -1.0], [0.5, 0.5]])
    reference = captum.attr.GradientShap(lambda v: (v**2).sum(1) - 1)
    expected = reference.attribute(x, pool, n_samples=20000, stdevs=0.2)  # 0.2 of max - min, which is 1
    done = circle().explain(
        x.numpy(), method="gradient-shap", target=0, samples=20000, noise=0.2, baselines=pool.numpy()
    )
    np.testing.assert_allclose(done.attribution, expected.detach().numpy(), atol=0.3)
