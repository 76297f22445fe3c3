"""What the graph's first nodes say of a table's columns, and the note where a baseline is nothing of the kind."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import analyzer
from analyzer.inputs.fitted_range import fitted_ranges, strange

Array = NDArray[Any]
MEAN, DEVIATION = np.array([14.0, 0.1, -300.0]), np.array([3.5, 0.2, 20.0])


def model_of(form: str) -> onnx.ModelProto:
    """Three columns scaled to mean 0 and standard deviation 1, then a weighted sum; in one of several forms."""
    n = helper.make_node
    weights: dict[str, Any] = {"w": np.ones((3, 1), np.float32)}
    inputs: dict[str, list[Any]] = {"x": ["n", 3]}
    if form == "Scaler":
        scaled = [n("Scaler", ["x"], ["z"], domain="ai.onnx.ml", offset=MEAN.tolist(), scale=(1 / DEVIATION).tolist())]
    elif form in ("Sub Div", "Mul Add"):
        first, second = (MEAN, DEVIATION) if form == "Sub Div" else (1 / DEVIATION, -MEAN / DEVIATION)
        weights |= {"a": first.astype(np.float32), "b": second.astype(np.float32)}
        names = form.split()
        scaled = [
            n(names[0], ["x", "a"], ["y1"]),
            n(names[1], ["y1", "b"] if form == "Sub Div" else ["b", "y1"], ["z"]),
        ]
    elif form == "BatchNormalization":
        weights |= {"one": np.ones(3, np.float32), "zero": np.zeros(3, np.float32), "mean": MEAN.astype(np.float32),
                    "variance": (DEVIATION**2).astype(np.float32)}  # fmt: skip
        scaled = [n("BatchNormalization", ["x", "one", "zero", "mean", "variance"], ["z"], epsilon=0.0)]
    else:  # columns as inputs, put in another order and filled up where they lack
        inputs = {"c": ["n", 1], "a": ["n", 1], "b": ["n", 1]}
        weights["order"] = np.array([1, 2, 0], np.int64)
        scaled = [
            n("Concat", ["c", "a", "b"], ["joined"], axis=1),
            n("Imputer", ["joined"], ["filled"], domain="ai.onnx.ml", imputed_value_floats=[1.0, 1, 1]),
            n("ArrayFeatureExtractor", ["filled", "order"], ["x"], domain="ai.onnx.ml"),
            n("Scaler", ["x"], ["z"], domain="ai.onnx.ml", offset=MEAN.tolist(), scale=(1 / DEVIATION).tolist()),
        ]
    nodes = [*scaled, n("MatMul", ["z", "w"], ["out"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def ranges_of(proto: onnx.ModelProto, **metadata: str) -> dict[str, Any]:
    return fitted_ranges(proto.graph, metadata, numpy_helper.to_array)


@pytest.mark.parametrize("form", ["Scaler", "Sub Div", "Mul Add", "BatchNormalization"])
def test_columns_reach_three_deviations_from_their_means(form: str) -> None:
    found = ranges_of(model_of(form))["x"]
    np.testing.assert_allclose(found.low, MEAN - 3 * DEVIATION, rtol=1e-5)
    np.testing.assert_allclose(found.high, MEAN + 3 * DEVIATION, rtol=1e-5)
    np.testing.assert_array_equal(found.beyond(np.zeros((2, 3))), [True, False, True])
    assert not found.beyond(MEAN[None]).any()


def test_columns_are_followed_through_joining_filling_and_choosing() -> None:
    found = ranges_of(model_of("columns"))
    for at, name in enumerate("abc"):
        np.testing.assert_allclose(found[name].low, [MEAN[at] - 3 * DEVIATION[at]], rtol=1e-5)


def test_trees_know_what_lies_about_their_thresholds() -> None:
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestRegressor

    x = np.random.default_rng(0).normal(MEAN, DEVIATION, (200, 3)).astype(np.float32)
    forest = RandomForestRegressor(20, max_depth=4, random_state=0).fit(x, x.sum(axis=1) + 20 * x[:, 0] + 90 * x[:, 1])
    (found,) = ranges_of(to_onnx(forest, x[:1])).values()
    assert found.beyond(np.zeros((1, 3))).tolist() == [False, False, True]  # 4 and 15 deviations away; 0 is the nearest
    assert not found.beyond(x).any()
    assert found.beyond(MEAN[None] + 12 * DEVIATION).all()


@pytest.mark.parametrize("keys", [("feature_means", "feature_stds"), ("feature_mins", "feature_maxs")])
def test_the_metadata_comes_first(keys: tuple[str, str]) -> None:
    said = dict(zip(keys, (json.dumps([1, 2, 3]), json.dumps([1.5, 3, 4])), strict=True))
    found = ranges_of(model_of("Scaler"), **said)["x"]
    expected = [-3.5, -7, -9] if "means" in keys[0] else [1, 2, 3]
    np.testing.assert_allclose(found.low, expected)
    assert keys[0] in found.source
    assert "Scaler" in ranges_of(model_of("Scaler"), **{keys[0]: "[1]", keys[1]: "many"})["x"].source


def test_nothing_is_said_where_nothing_is_known() -> None:
    proto = model_of("Sub Div")
    del proto.graph.node[1:]  # shifted alone
    proto.graph.node.append(helper.make_node("MatMul", ["y1", "w"], ["out"]))
    assert ranges_of(proto) == {}
    assert strange({}, {"x": np.zeros((1, 3))}) == []


METHODS = ("integrated-gradients", "deeplift", "gradient-shap", "kernel-shap", "lime", "occlusion", "feature-ablation",
           "rise", "meaningful-perturbation")  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_method_says_that_a_baseline_is_strange(method: str) -> None:
    model, x = analyzer.load(model_of("Sub Div"), "cpu", threads=1), MEAN[None].astype(np.float32)
    quick: dict[str, Any] = {
        "rise": {"masks": 10},
        "meaningful-perturbation": {"steps": 2},
        "gradient-shap": {"samples": 2},
    }
    found = [note for note in model.explain(x, method, **quick.get(method, {})).record["notes"] if "fitted on" in note]
    assert len(found) == 1
    assert "2 of 3 columns" in found[0]
    assert "x[:,0] 0 (fitted on about 3.5 to 24.5)" in found[0]
    assert "samples:FILE" in found[0]
    name = {"integrated-gradients": "baseline", "deeplift": "baseline", "kernel-shap": "baseline"}.get(
        method, "baselines" if method == "gradient-shap" else "fill"
    )
    params: dict[str, Any] = {**quick.get(method, {}), name: MEAN}
    usual = model.explain(x + 1, method, **params)
    assert not any("fitted on" in note for note in usual.record["notes"])


@pytest.mark.parametrize("method", ["kernel-shap", "occlusion"])
def test_columns_as_inputs_are_looked_at_too(method: str) -> None:
    model = analyzer.load(model_of("columns"), "cpu", threads=1)
    x = {name: np.full((2, 1), MEAN["abc".index(name)], np.float32) for name in "cab"}
    (note,) = (n for n in model.explain(x, method).record["notes"] if "fitted on" in n)
    assert "2 of 3 columns" in note
    assert "a 0 (fitted on about 3.5 to 24.5)" in note
