"""Samples counted elsewhere than by the first axis, shared between inputs, or not there at all: no map mixes them up."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import analyzer
from tests.common.checks import load
from tests.common.models import Array, assemble

BATCH = 2
OPTIONS: dict[str, dict[str, Any]] = {
    "gradient": {},
    "gradient-x-input": {},
    "integrated-gradients": {"steps": 64},
    "smoothgrad": {"samples": 3},
    "gradient-shap": {"samples": 6},
    "deeplift": {},
    "lrp": {},
}


def _draw(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sequence_first() -> onnx.ModelProto:
    """Time steps first, as in (time, batch, features): a layer per step, their mean, a head."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="step"),
        helper.make_node("Tanh", ["z"], ["a"], name="tanh"),
        helper.make_node("ReduceMean", ["a"], ["mean"], name="mean", axes=[0], keepdims=0),
        helper.make_node("MatMul", ["mean", "v"], ["scores"], name="head"),
    ]
    return assemble(
        nodes,
        {"x": (TensorProto.FLOAT, ["time", "batch", 4])},
        {"scores": (TensorProto.FLOAT, ["batch", 3])},
        {"w": _draw(1, 4, 6), "v": _draw(2, 6, 3)},
    )


def states() -> onnx.ModelProto:
    """A state (layers, batch, units) beside an input (batch, features)."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="first"),
        helper.make_node("Squeeze", ["h0", "front"], ["state"], name="squeeze"),
        helper.make_node("Add", ["z", "state"], ["sum"], name="add"),
        helper.make_node("Tanh", ["sum"], ["a"], name="tanh"),
        helper.make_node("MatMul", ["a", "v"], ["scores"], name="head"),
    ]
    return assemble(
        nodes,
        {"x": (TensorProto.FLOAT, ["batch", 4]), "h0": (TensorProto.FLOAT, [1, "batch", 6])},
        {"scores": (TensorProto.FLOAT, ["batch", 3])},
        {"w": _draw(3, 4, 6), "v": _draw(4, 6, 3), "front": np.array([0], np.int64)},
    )


def picture_and_texts() -> onnx.ModelProto:
    """One picture beside several texts: scores (pictures, texts)."""
    nodes = [
        helper.make_node("MatMul", ["picture", "w"], ["p"], name="see"),
        helper.make_node("Tanh", ["p"], ["seen"], name="seen"),
        helper.make_node("MatMul", ["texts", "v"], ["t"], name="read"),
        helper.make_node("Transpose", ["t"], ["across"], name="across", perm=[1, 0]),
        helper.make_node("MatMul", ["seen", "across"], ["scores"], name="compare"),
    ]
    return assemble(
        nodes,
        {"picture": (TensorProto.FLOAT, ["pictures", 5]), "texts": (TensorProto.FLOAT, ["texts", 4])},
        {"scores": (TensorProto.FLOAT, ["pictures", "texts"])},
        {"w": _draw(5, 5, 6), "v": _draw(6, 4, 6)},
    )


def graph_nodes(count: int = 5) -> onnx.ModelProto:
    """A graph convolution: every node's scores depend on its neighbours' rows."""
    adjacency = np.eye(count, dtype=np.float32) * 0.5 + np.eye(count, k=1, dtype=np.float32) * 0.5
    nodes = [
        helper.make_node("MatMul", ["adjacency", "x"], ["spread"], name="spread"),
        helper.make_node("MatMul", ["spread", "w"], ["z"], name="first"),
        helper.make_node("Tanh", ["z"], ["a"], name="tanh"),
        helper.make_node("MatMul", ["a", "v"], ["scores"], name="head"),
    ]
    return assemble(
        nodes,
        {"x": (TensorProto.FLOAT, ["nodes", 4])},
        {"scores": (TensorProto.FLOAT, ["nodes", 3])},
        {"adjacency": adjacency, "w": _draw(7, 4, 6), "v": _draw(8, 6, 3)},
    )


def quantised() -> onnx.ModelProto:
    """A linear model of values that are rounded to 256 steps between the least and the largest of the whole batch."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["real"], name="back"),
        helper.make_node("MatMul", ["real", "w"], ["scores"], name="head"),
    ]
    return assemble(
        nodes,
        {"x": (TensorProto.FLOAT, ["batch", 6])},
        {"scores": (TensorProto.FLOAT, ["batch", 3])},
        {"w": _draw(9, 6, 3)},
    )


@functools.cache
def model(kind: str) -> analyzer.Model:
    """The kind's model."""
    return load(
        {
            "sequence": sequence_first,
            "states": states,
            "pair": picture_and_texts,
            "graph": graph_nodes,
            "quantised": quantised,
        }[kind]()
    )


def complete(explanation: analyzer.Explanation) -> None:
    """Assert that the totals are those of the maps, and near what they should be."""
    found = explanation.completeness
    assert found is not None
    total = sum(float(value.astype(np.float64).sum()) for value in explanation.attributions.values())
    assert float(found.total.sum()) == pytest.approx(total, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("method", OPTIONS)
def test_time_steps_are_no_samples(method: str) -> None:
    x = _draw(10, 5, BATCH, 4)
    together = model("sequence").explain(x, method, target=1, **OPTIONS[method])
    assert together.score.shape == (BATCH,)
    for sample in range(BATCH):
        alone = model("sequence").explain(x[:, sample : sample + 1], method, target=1, **OPTIONS[method])
        np.testing.assert_allclose(together.raw[:, sample : sample + 1], alone.raw, rtol=1e-4, atol=1e-5)
        if together.completeness is not None:
            assert alone.completeness is not None
            np.testing.assert_allclose(together.completeness.total[sample], alone.completeness.total[0], atol=1e-4)
            np.testing.assert_allclose(
                together.completeness.expected[sample], alone.completeness.expected[0], atol=1e-4
            )


def test_sequence_first_gradient_is_the_closed_form() -> None:
    x, w, v = _draw(10, 5, BATCH, 4), _draw(1, 4, 6), _draw(2, 6, 3)
    want = ((1 - np.tanh(x @ w) ** 2) * v[:, 1]) @ w.T / len(x)
    np.testing.assert_allclose(model("sequence").explain(x, "gradient", target=1).raw, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["deeplift", "integrated-gradients", "lrp"])
@pytest.mark.parametrize("batch", [1, BATCH])
def test_states_count_in_their_sample_s_total(method: str, batch: int) -> None:
    feed = {"x": _draw(11, batch, 4), "h0": _draw(12, 1, batch, 6)}
    explained = model("states").explain(feed, method, target=2, **OPTIONS[method])
    assert explained.completeness is not None
    want = explained.attributions["x"].astype(np.float64).sum(axis=1)
    want = want + explained.attributions["h0"].astype(np.float64).sum(axis=(0, 2))
    np.testing.assert_allclose(explained.completeness.total, want, rtol=1e-4, atol=1e-5)
    if method != "lrp":
        np.testing.assert_allclose(explained.completeness.total, explained.completeness.expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize(
    "method", ["gradient-x-input", "integrated-gradients", "smoothgrad", "gradient-shap", "deeplift"]
)
def test_a_picture_beside_several_texts(method: str) -> None:
    feed = {"picture": _draw(13, 1, 5), "texts": _draw(14, 3, 4)}
    explained = model("pair").explain(feed, method, target=1, **OPTIONS[method])
    assert explained.attributions["picture"].shape == (1, 5)
    assert explained.attributions["texts"].shape == (3, 4)
    assert not explained.attributions["texts"][[0, 2]].any() or method == "smoothgrad"
    if explained.completeness is not None and method in ("integrated-gradients", "deeplift"):
        complete(explained)
        np.testing.assert_allclose(explained.completeness.total, explained.completeness.expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("method", ["integrated-gradients", "deeplift"])
def test_rows_that_depend_on_each_other_have_one_sum_and_a_note(method: str) -> None:
    explained = model("graph").explain(_draw(15, 5, 4), method, target=0, **OPTIONS[method])
    assert explained.completeness is not None
    assert explained.completeness.total.shape == (1,)
    np.testing.assert_allclose(explained.completeness.total, explained.completeness.expected, rtol=0.02, atol=1e-3)
    assert any("together" in note for note in explained.record["notes"])


def test_rows_of_their_own_keep_their_sums() -> None:
    explained = model("sequence").explain(_draw(10, 5, BATCH, 4), "integrated-gradients", target=0, steps=64)
    assert explained.completeness is not None
    assert explained.completeness.total.shape == (BATCH,)
    assert not any("together" in note for note in explained.record["notes"])


def test_rows_quantised_together_are_run_one_at_a_time() -> None:
    """Rows of very different size share one scale: a small row's copies are rounded away beside a large one's."""
    x = _draw(16, 3, 6) * np.array([[1], [100], [0.01]], np.float32)
    explained = model("quantised").explain(x, "occlusion", target=0)
    for sample in range(3):
        row = x[sample : sample + 1]
        base = model("quantised").predict(row)["scores"][0, 0]
        drops = []
        for column in range(6):
            copy = row.copy()
            copy[0, column] = 0
            drops.append(base - model("quantised").predict(copy)["scores"][0, 0])
        np.testing.assert_allclose(explained.attribution[sample], drops, rtol=1e-4, atol=1e-5 * np.abs(drops).max())
    assert any("DynamicQuantizeLinear" in note for note in explained.record["notes"])


@pytest.mark.parametrize("method", ["kernel-shap", "lime", "feature-ablation", "rise"])
def test_a_quantised_batch_is_explained_as_each_of_its_rows(method: str) -> None:
    x = _draw(17, 3, 6) * np.array([[1], [100], [0.01]], np.float32)
    together = model("quantised").explain(x, method, target=1)
    for sample in range(3):
        alone = model("quantised").explain(x[sample : sample + 1], method, target=1)
        assert together.score[sample] == alone.score[0]
        np.testing.assert_allclose(together.attribution[sample], alone.attribution[0], rtol=1e-5, atol=1e-6)
