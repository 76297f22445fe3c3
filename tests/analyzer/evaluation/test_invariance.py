"""Two models that compute the same: maps that should be the same, and models that only seem to."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from analyzer.errors import UsageError
from analyzer.evaluation.invariance import implementation_invariance, relative_distance
from tests.analyzer.evaluation.maps import Array, draw, linear, load, two_layers
from tests.common.models import assemble, cnn, tokens

FLOAT = TensorProto.FLOAT
X = np.array([[2, 1], [1, 3], [5, 4]], np.float32)


def largest(first: bool, name: str = "x") -> onnx.ModelProto:
    """max(a, b), as relu(a - b) + b or as relu(b - a) + a."""
    difference, rest = ([[1], [-1]], [[0], [1]]) if first else ([[-1], [1]], [[1], [0]])
    weights = {"difference": np.array(difference, np.float32), "rest": np.array(rest, np.float32)}
    nodes = [
        helper.make_node("MatMul", [name, "difference"], ["z"], name="difference"),
        helper.make_node("Relu", ["z"], ["a"], name="relu"),
        helper.make_node("MatMul", [name, "rest"], ["b"], name="rest"),
        helper.make_node("Add", ["a", "b"], ["scores"], name="sum"),
    ]
    return assemble(nodes, {name: (FLOAT, ["n", 2])}, {"scores": (FLOAT, ["n", 1])}, weights)


ONE, OTHER = load(largest(True)), load(largest(False, "given"))


@pytest.mark.parametrize("method", ["gradient", "integrated-gradients", "occlusion", "kernel-shap"])
def test_methods_that_look_at_the_function_alone_are_invariant(method: str) -> None:
    found = implementation_invariance(ONE, OTHER, X, method)
    np.testing.assert_allclose(found.values, 0, atol=1e-5)
    assert found.metric == "implementation-invariance" and found.higher_is_better is False
    np.testing.assert_allclose(found.record["spearman"], 1)


def test_the_z_plus_rule_is_not() -> None:
    """Of max(2, 1) = 2, relu(a - b) + b gives a and b 1 each, relu(b - a) + a gives a all of it."""
    found = implementation_invariance(ONE, OTHER, X, "lrp", composite="zplus")
    expected = []
    for a, b in X.astype(np.float64):
        one = np.array([max(a - b, 0), b]) if a > b else np.array([0, b])
        other = np.array([a, max(b - a, 0)]) if b > a else np.array([a, 0])
        expected.append(np.linalg.norm(one - other) / np.linalg.norm(one))
    np.testing.assert_allclose(found.values, expected, rtol=1e-4)


def test_hidden_units_in_another_order_change_nothing() -> None:
    first, second, order = draw(1, 6, 9), draw(2, 9, 3), np.random.default_rng(0).permutation(9)
    one, other = load(two_layers([6], first, second)), load(two_layers([6], first[:, order], second[order]))
    for method in ("lrp", "deeplift", "guided-backprop"):
        assert implementation_invariance(one, other, draw(3, 2, 6), method).values.max() < 1e-4


def test_models_that_differ_are_refused_even_if_they_agree_on_the_input() -> None:
    weights = draw(1, 6, 3)
    one, x = load(linear([6], weights)), draw(2, 2, 6)
    with pytest.raises(UsageError, match="don't compute the same: output 'scores' differs by"):
        implementation_invariance(one, load(linear([6], weights + 0.1)), x)
    # off by what is zero at both rows, and nowhere else
    beside = np.linalg.svd(x.astype(np.float64))[2][-1].astype(np.float32)
    same_here = load(linear([6], weights + 5 * beside[:, None]))
    np.testing.assert_allclose(same_here.predict(x)["scores"], one.predict(x)["scores"], atol=1e-4)
    with pytest.raises(UsageError, match="don't compute the same"):
        implementation_invariance(one, same_here, x)
    assert implementation_invariance(one, same_here, x, tolerance=1.0).values.min() > 0.1


def test_models_of_other_inputs_are_refused() -> None:
    with pytest.raises(UsageError, match="don't take the same inputs"):
        implementation_invariance(ONE, load(_two_inputs()), X)


def _two_inputs() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["x", "y"], ["scores"])]
    return assemble(nodes, {"x": (FLOAT, ["n", 2]), "y": (FLOAT, ["n", 2])}, {"scores": (FLOAT, ["n", 2])}, {})


def test_words_and_one_sample_at_a_time() -> None:
    ids = np.random.default_rng(0).integers(0, 11, (2, 7))
    assert implementation_invariance(load(tokens()), load(tokens(1)), ids, "gradient-x-input").values.max() < 1e-5
    pictures: Array = draw(4, 2, 3, 8, 8)
    assert implementation_invariance(load(cnn()), load(cnn(1)), pictures, "lrp", target=[0, 2]).values.max() < 1e-5


def test_scores_that_both_rule_out_are_the_same() -> None:
    weights, ruled_out = draw(1, 6, 3), np.array([-np.inf, 0, 0], np.float32)
    one, other = load(linear([6], weights, ruled_out)), load(linear([6], weights, ruled_out))
    assert implementation_invariance(one, other, draw(2, 2, 6), "gradient", target=1).values.max() < 1e-5
    with pytest.raises(UsageError, match="output 'scores' is another"):
        implementation_invariance(one, load(linear([6], weights)), draw(2, 2, 6), "gradient", target=1)


def test_what_it_took() -> None:
    one, other = load(linear([6], draw(1, 6, 3))), load(linear([6], draw(1, 6, 3)))
    found = implementation_invariance(one, other, draw(2, 3, 6))
    assert found.n_explanations == 2 * 3
    assert found.n_evaluations == 2 * 3 * (1 + 4) + 3  # on the inputs and four times close to them; what is explained
    ids = np.random.default_rng(0).integers(0, 11, (2, 7))
    words = implementation_invariance(load(tokens()), load(tokens()), ids, "gradient-x-input")
    assert words.n_evaluations == 2 * 2 + 2  # there is nothing close to words


def test_the_distance_of_maps_of_zeros() -> None:
    assert relative_distance(np.zeros(3), np.zeros(3)) == 0
    assert relative_distance(np.zeros(3), np.ones(3)) == "the map is zero everywhere"
    assert relative_distance(np.full(4, 2.0), np.full(4, 3.0)) == pytest.approx(0.5)
