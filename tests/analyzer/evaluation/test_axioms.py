"""Sums and invariances that explanations promise: closed forms, planted leaks, shifted inputs, what Quantus refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import UnsupportedError
from analyzer.evaluation.other_models import OtherModels
from analyzer.evaluation.shifted import shifted
from tests.analyzer.evaluation.maps import Array, draw, linear, load, two_layers, with_map
from tests.analyzer.evaluation.oracles import quantus
from tests.common.models import assemble, cases

CASES = {case.name: case for case in cases(2)}
COUNT = 12
W, B, X = draw(1, COUNT, 3), draw(2, 3), draw(3, 4, COUNT)
MODEL = load(linear([COUNT], W, B))
FLOAT = TensorProto.FLOAT


def test_conservation_is_the_relative_error_of_the_sum() -> None:
    e = MODEL.explain(X, "integrated-gradients", target=1, steps=2)
    exact = (X.astype(np.float64) * W[:, 1]).sum(axis=1)
    np.testing.assert_allclose(analyzer.evaluate(MODEL, X, e, "conservation").values, 0, atol=1e-5)
    found = analyzer.evaluate(MODEL, X, with_map(e, e.attribution * 1.25), "conservation")
    np.testing.assert_allclose(found.values, 0.25, rtol=1e-4)
    np.testing.assert_allclose(found.record["total"], 1.25 * exact, rtol=1e-4)
    np.testing.assert_allclose(found.record["expected"], exact, rtol=1e-4)
    bound = 1.25 * np.abs(X * W[:, 1]).sum(axis=1) / np.abs(exact + B[1])
    np.testing.assert_allclose(found.record["absolute_over_score"], bound, rtol=1e-4)
    assert "keeps_most" not in found.record or found.record["keeps_most"] is None  # many sweeps, no totals
    assert found.n_evaluations == 0


def test_the_node_that_keeps_most_is_named() -> None:
    """A bias that is half of the score takes half of the relevance."""
    for leaking in ("first", "second"):
        weights = {"w1": np.abs(draw(4, 6, 5)), "w2": np.abs(draw(5, 5, 2))}
        weights |= {"b1": np.zeros(5, np.float32), "b2": np.zeros(2, np.float32)}
        weights["b1" if leaking == "first" else "b2"] += 20
        nodes = [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["z"], name="first"),
            helper.make_node("Relu", ["z"], ["a"], name="relu"),
            helper.make_node("Gemm", ["a", "w2", "b2"], ["scores"], name="second"),
        ]
        model = load(assemble(nodes, {"x": (FLOAT, ["n", 6])}, {"scores": (FLOAT, ["n", 2])}, weights))
        x = np.abs(draw(6, 2, 6))
        e = model.explain(x, "lrp", composite="epsilon", target=0)
        found = analyzer.evaluate(model, x, e, "conservation")
        sums = e.attribution.astype(np.float64).sum(axis=1)
        np.testing.assert_allclose(found.values, 1 - sums / e.score, rtol=1e-4)
        kept = found.record["keeps_most"]
        assert kept["node"] == leaking
        assert kept["share"] == pytest.approx(
            1 - sums.sum() / e.score.sum(), rel=1e-3
        )  # all that is lost is lost there
        assert "keeps_most" not in analyzer.evaluate(model, x, e, "conservation", leaks=False).record


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_methods_that_promise_no_sum_have_no_error_of_it(method: str) -> None:
    found = analyzer.evaluate(MODEL, X, MODEL.explain(X, method), "conservation")
    assert found.n_nan == 4 and found.reasons[0] == f"{method} promises no sum"
    assert len(found.record["absolute_over_score"]) == 4


@pytest.mark.parametrize("metric", ["conservation", "completeness"])
def test_nothing_of_nothing_is_no_error_and_something_no_share(metric: str) -> None:
    zero = np.zeros((1, COUNT), np.float32)
    e = MODEL.explain(zero, "integrated-gradients", target=1, steps=2)
    assert analyzer.evaluate(MODEL, zero, e, metric).value == 0
    assert "should be zero" in analyzer.evaluate(MODEL, zero, with_map(e, zero + 1), metric).reasons[0]
    broken = with_map(e, np.full_like(zero, np.nan))
    assert "finite" in analyzer.evaluate(MODEL, zero, broken, metric).reasons[0]


def test_completeness_measures_the_difference_itself() -> None:
    e = MODEL.explain(X, "gradient-x-input", target=1)
    found = analyzer.evaluate(MODEL, X, e, "completeness")
    np.testing.assert_allclose(found.values, 0, atol=1e-5)
    np.testing.assert_allclose(found.record["expected"], (X * W[:, 1]).sum(axis=1), rtol=1e-4)
    half = analyzer.evaluate(MODEL, X, with_map(e, e.attribution / 2), "completeness")
    np.testing.assert_allclose(half.values, 0.5, rtol=1e-4)
    ones = analyzer.evaluate(MODEL, X, e, "completeness", fill=1.0)
    exact, wanted = (X.astype(np.float64) * W[:, 1]).sum(axis=1), ((X - 1.0) * W[:, 1]).sum(axis=1)
    np.testing.assert_allclose(ones.values, np.abs(exact - wanted) / np.abs(wanted), rtol=1e-3)


def test_where_quantus_is_wrong() -> None:
    """It wants a sum to the last bit, which a complete map of floating-point numbers hardly has."""
    library = quantus()
    import torch

    class Net(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x @ torch.from_numpy(W) + torch.from_numpy(B)

    x = draw(9, 30, COUNT)
    maps = (x * W[:, 1]).astype(np.float32)
    oracle = library.Completeness(abs=False, normalise=False, disable_warnings=True)
    theirs = oracle(model=Net().eval(), x_batch=x, y_batch=np.full(30, 1), a_batch=maps, softmax=False)
    assert not all(theirs)
    ours = analyzer.evaluate(MODEL, x, with_map(MODEL.explain(x, "gradient", target=1), maps), "completeness")
    assert ours.values.max() < 1e-3


@pytest.mark.parametrize("case", ["cnn", "nhwc", "mlp", "series", "two", "tokens"])
def test_every_modality(case: str) -> None:
    each = CASES[case]
    model = load(each.proto)
    e = model.explain(each.feed, "integrated-gradients", steps=100)
    found = analyzer.evaluate(model, each.feed, e, "conservation")
    assert (found.values < 0.05).all()
    total = sum(np.asarray(value, np.float64).reshape(2, -1).sum(axis=1) for value in e.attributions.values())
    np.testing.assert_allclose(found.record["total"], total, rtol=1e-6)
    if case == "tokens":  # the baseline of words is a zero embedding, which is no word
        assert analyzer.evaluate(model, each.feed, e, "completeness").n_valid == 2
        with pytest.raises(UnsupportedError, match="words or categories"):
            analyzer.evaluate(model, each.feed, e, "input-invariance")
        return
    assert (analyzer.evaluate(model, each.feed, e, "completeness").values < 0.05).all()
    moved = {name: value + np.float32(0.75) for name, value in each.feed.items()}
    other = shifted(model, list(moved), 0.75)
    np.testing.assert_allclose(other.predict(moved)["scores"], model.predict(each.feed)["scores"], atol=1e-4)
    same = analyzer.evaluate(model, each.feed, model.explain(each.feed, "gradient"), "input-invariance", shift=0.75)
    assert (same.values < 1e-3).all()


def test_gradient_x_input_changes_by_the_shift() -> None:
    """R' - R = shift * w of a linear model."""
    e = MODEL.explain(X, "gradient-x-input", target=1)
    found = analyzer.evaluate(MODEL, X, e, "input-invariance", shift=-1.0)
    expected = np.linalg.norm(W[:, 1]) / np.linalg.norm(X * W[:, 1], axis=1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-4)
    assert found.n_explanations == 4 and found.higher_is_better is False


@pytest.mark.parametrize("attributes", [{"transB": 1, "alpha": 0.5}, {"beta": 0.3}, {}])
def test_products_of_any_spelling_are_shifted(attributes: dict[str, Any]) -> None:
    weights = {"w": draw(1, 3, 5) if attributes.get("transB") else draw(1, 5, 3), "c": draw(2, 3)}
    nodes = [helper.make_node("Gemm", ["x", "w", "c"], ["scores"], name="linear", **attributes)]
    model = load(assemble(nodes, {"x": (FLOAT, ["n", 5])}, {"scores": (FLOAT, ["n", 3])}, weights))
    x = draw(3, 4, 5)
    other = shifted(model, ["x"], 2.0)
    np.testing.assert_allclose(other.predict(x + 2)["scores"], model.predict(x)["scores"], atol=1e-5)


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 0, 2, 1], "strides": [2, 1]}, {"group": 2, "pads": [1, 1, 1, 1]}, {"dilations": [2, 1]},
        {"auto_pad": "VALID"},
    ],
)  # fmt: skip
def test_convolutions_of_any_shape_are_shifted(attributes: dict[str, Any]) -> None:
    """Read twice, once behind a transpose and back."""
    weights = {"w": draw(1, 6, 4 // attributes.get("group", 1), 3, 3), "v": draw(2, 4, 4, 1, 1), "b": draw(3, 6)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["z"], name="conv", **attributes),
        helper.make_node("GlobalAveragePool", ["z"], ["p"]),
        helper.make_node("Flatten", ["p"], ["scores"]),
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("Conv", ["t", "v"], ["other"], name="pointwise"),
    ]
    outputs: dict[str, tuple[int, Any]] = {"scores": (FLOAT, ["n", 6]), "other": (FLOAT, ["n", 4, 7, 6])}
    model = load(assemble(nodes, {"x": (FLOAT, ["n", 4, 6, 7])}, outputs, weights))
    x = draw(4, 2, 4, 6, 7)
    other = shifted(model, ["x"], -0.5).predict(x - 0.5)
    for name, value in model.predict(x).items():
        np.testing.assert_allclose(other[name], value, atol=1e-4)


def test_a_first_layer_without_a_bias_is_refused() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"], name="relu"), helper.make_node("MatMul", ["a", "w"], ["scores"])]
    model = load(assemble(nodes, {"x": (FLOAT, ["n", COUNT])}, {"scores": (FLOAT, ["n", 3])}, {"w": W}))
    with pytest.raises(UnsupportedError, match="Relu node 'relu'"):
        analyzer.evaluate(model, X, model.explain(X, "gradient"), "input-invariance")


def test_a_rectifier_keeps_its_place() -> None:
    model = load(two_layers([COUNT], draw(5, COUNT, 8), draw(6, 8, 3)))
    e = model.explain(X, "gradient")
    assert (analyzer.evaluate(model, X, e, "input-invariance", shift=3.0).values < 1e-3).all()


def test_shifted_models_of_other_inputs_are_not_mixed_up() -> None:
    """One candidate may have maps of one input, the next of both."""
    each = next(case for case in cases(2) if case.name == "two")
    model = load(each.proto)
    with OtherModels() as others:
        for inputs in (["row"], ["picture"], ["picture", "row"]):
            e = model.explain(each.feed, "gradient", inputs=inputs)
            found = analyzer.evaluate(model, each.feed, e, "input-invariance", others=others)
            assert (found.values < 1e-3).all()


def _relative(own: Array, other: Array) -> Array:
    return np.asarray(np.linalg.norm(own - other, axis=1) / np.linalg.norm(own, axis=1))


def test_integrated_gradients_from_a_fixed_baseline_change_as_gradients_along_another_path_do() -> None:
    model = load(two_layers([COUNT], draw(5, COUNT, 8), draw(6, 8, 3)))
    e = model.explain(X, "integrated-gradients", target=0, steps=20)
    found = analyzer.evaluate(model, X, e, "input-invariance", shift=1.0)
    # from 0 to x + 1 in the shifted model is from -1 to x in this one
    other = model.explain(X, "integrated-gradients", target=0, steps=20, baseline=-1.0)
    np.testing.assert_allclose(found.values, _relative(e.attribution, other.attribution), rtol=1e-3)
