"""Inputs without a region, and probabilities however a model ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit, softmax

import analyzer
from analyzer.errors import UnsupportedError, UsageError
from analyzer.gate.interventions import class_probabilities, pasted, without

WEIGHTS = np.random.default_rng(0).normal(0, 1, (12, 3)).astype(np.float32)


def _model(end: str, columns: int = 3, kind: int = TensorProto.FLOAT) -> analyzer.Model:
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["scores"])]
    if kind != TensorProto.FLOAT:
        nodes.insert(0, helper.make_node("Cast", ["x"], ["float"], to=TensorProto.FLOAT))
        nodes[1].input[0] = "float"
    if end:
        nodes.append(helper.make_node(end, ["scores"], ["y"]))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, ["batch", 1, 3, 4])],
        [helper.make_tensor_value_info("y" if end else "scores", TensorProto.FLOAT, ["batch", columns])],
        [numpy_helper.from_array(WEIGHTS[:, :columns], "w")],
    )  # fmt: skip
    return analyzer.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "cpu")


X = np.random.default_rng(1).normal(0, 1, (5, 1, 3, 4)).astype(np.float32)
LOGITS = X.reshape(5, -1).astype(np.float64) @ WEIGHTS


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("", softmax(LOGITS, axis=1)),
        ("Softmax", softmax(LOGITS, axis=1)),
        ("LogSoftmax", softmax(LOGITS, axis=1)),
        ("Sigmoid", expit(LOGITS)),
    ],
)
def test_probabilities_are_the_models_own_or_the_softmax_of_its_logits(end: str, expected: Any) -> None:
    np.testing.assert_allclose(class_probabilities(_model(end), {"x": X}), expected, rtol=1e-5)


def test_one_column_has_the_probability_of_a_yes() -> None:
    found = class_probabilities(_model("Sigmoid", columns=1), {"x": X})
    np.testing.assert_allclose(found, expit(LOGITS[:, :1]), rtol=1e-5)


def test_a_model_without_classes_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no probabilities of classes"):
        class_probabilities(_model("", columns=1), {"x": X})


def test_a_region_is_filled_from_around_it_and_nothing_else_changes() -> None:
    region = np.zeros((3, 4), bool)
    region[1, 1:3] = True
    feed = {"x": X[:1]}
    found = without(_model(""), feed, "x", region)["x"]
    np.testing.assert_array_equal(found[0, 0][~region], X[0, 0][~region])
    for row, column in np.argwhere(region):  # the mean of its neighbours
        around = [found[0, 0, row + i, column + j] for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        np.testing.assert_allclose(found[0, 0, row, column], np.mean(around), rtol=1e-5)
    np.testing.assert_array_equal(feed["x"], X[:1])


def test_whole_numbers_have_nothing_between_them() -> None:
    with pytest.raises(UnsupportedError, match="can't be filled smoothly"):
        without(
            _model("", kind=TensorProto.INT32), {"x": np.ones((1, 1, 3, 4), np.int32)}, "x", np.eye(3, 4, dtype=bool)
        )


def test_a_patch_is_pasted_where_it_isnt_yet() -> None:
    region, patch = np.eye(3, 4, dtype=bool), np.full((1, 1, 3, 4), 7, np.float32)
    model, feed = _model(""), {"x": X[:1]}
    found = pasted(model, feed, "x", region, patch)
    assert found is not None
    np.testing.assert_array_equal(found["x"][0, 0], np.where(region, 7, X[0, 0]))
    assert pasted(model, found, "x", region, patch) is None
    with pytest.raises(UsageError, match=r"shape \[1, 1, 2, 2\]") as caught:
        pasted(model, feed, "x", region, patch[..., :2, :2])
    assert caught.value.code == "config.gate"
