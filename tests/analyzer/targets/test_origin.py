"""Probabilities and fitted values are told by the nodes that make them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.targets.scores import scored_in
from tests.common.models import assemble

FLOAT = TensorProto.FLOAT
Node = helper.make_node
W = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
X = np.random.default_rng(2).standard_normal((2, 4)).astype(np.float32)


def of(*nodes: Any, shape: Any = ("n", 3), **weights: Any) -> onnx.ModelProto:
    """A linear layer ``z`` of four columns, and what follows it up to ``y``."""
    first = Node("MatMul", ["x", "w"], ["z"])
    return assemble([first, *nodes], {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, list(shape))}, {"w": W, **weights},
                    domains={"ai.onnx.ml": 3})  # fmt: skip


SHARES = [Node("Abs", ["z"], ["a"]), Node("ReduceSum", ["a", "one"], ["s"]), Node("Div", ["a", "s"], ["p"])]
ONE, TWO = np.array([1]), np.float32(2)


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        ([*SHARES, Node("Identity", ["p"], ["y"])], {"one": ONE}),
        ([*SHARES[:2], Node("Add", ["s", "two"], ["g"]), Node("Div", ["a", "g"], ["y"])], {"one": ONE, "two": TWO}),
        ([*SHARES, Node("Sum", ["p", "p"], ["t"]), Node("Div", ["t", "two"], ["y"])], {"one": ONE, "two": TWO}),
        ([*SHARES, Node("Mean", ["p", "p"], ["y"])], {"one": ONE}),
        (
            [
                Node("ReduceLogSumExp", ["z"], ["l"], axes=[1]),
                Node("Sub", ["z", "l"], ["d"]),
                Node("Exp", ["d"], ["y"]),
            ],
            {},
        ),
        ([Node("Abs", ["z"], ["a"]), Node("Normalizer", ["a"], ["y"], domain="ai.onnx.ml", norm="L1")], {}),
    ],
)
def test_what_is_normalised_is_a_probability(nodes: Any, weights: Any) -> None:
    proto = of(*nodes, **weights)
    assert scored_in(proto.graph, None, "logit").kind == "probability"
    e = analyzer.load(proto, "cpu").explain(X, "occlusion")
    assert e.score_kind == e.record["prediction"]["kind"] == "probability"


@pytest.mark.parametrize(
    "nodes",
    [
        [Node("Identity", ["z"], ["y"])],
        [Node("Div", ["z", "two"], ["y"])],
        [Node("Exp", ["z"], ["y"])],
        # a mean over what a mask leaves: what is divided isn't what was summed
        [Node("Abs", ["x"], ["a"]), Node("ReduceSum", ["a", "one"], ["s"]), Node("Div", ["z", "s"], ["y"])],
    ],
)
def test_other_quotients_and_exponentials_are_not(nodes: Any) -> None:
    assert scored_in(of(*nodes, one=ONE, two=TWO).graph, None, "logit").kind == "logit"


def regressor(targets: int) -> onnx.ModelProto:
    """A linear regressor behind a scaler."""
    nodes = [
        Node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0]),
        Node("LinearRegressor", ["s"], ["y"], domain="ai.onnx.ml", coefficients=[float(v) for v in W.T[:targets].ravel()],
             intercepts=[0.5] * targets, targets=targets),
    ]  # fmt: skip
    return assemble(nodes, {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", None])}, {}, domains={"ai.onnx.ml": 3})


def test_a_regression_has_outputs_not_classes() -> None:
    model = analyzer.load(regressor(2), "cpu")
    e = model.explain(X, "occlusion", target=1)
    assert e.score_kind == e.record["prediction"]["kind"] == "value"
    assert e.target == ("output 1", "output 1")
    assert [name for _, name, _ in e.record["prediction"]["top"][0]] == ["output 0", "output 1"]
    np.testing.assert_allclose(e.score, X @ W[:, 1] + 0.5, rtol=1e-5)
    assert model.explain(X, "occlusion", target="contrast:1,0").target[0] == "output 1 minus output 0"


def test_one_value_for_each_sample_is_a_value_whatever_is_declared() -> None:
    one = analyzer.load(regressor(1), "cpu").explain(X, "occlusion")
    assert (one.score_kind, one.target[0]) == ("value", "value")
    plain = assemble(
        [Node("MatMul", ["x", "w"], ["y"])], {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, None)}, {"w": W[:, :1]}
    )
    assert analyzer.load(plain, "cpu").explain(X, "gradient").score_kind == "value"
    ended = assemble([Node("MatMul", ["x", "w"], ["z"]), Node("Sigmoid", ["z"], ["y"])], {"x": (FLOAT, ["n", 4])},
                     {"y": (FLOAT, None)}, {"w": W[:, :1]})  # fmt: skip
    assert analyzer.load(ended, "cpu").explain(X, "gradient").score_kind == "logit"


def test_a_fitted_pipeline_without_labels_is_a_regression() -> None:
    nodes = [
        Node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0]), Node("MatMul", ["s", "w"], ["y"]),
    ]  # fmt: skip
    proto = assemble(nodes, {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 3])}, {"w": W}, domains={"ai.onnx.ml": 3})
    assert scored_in(proto.graph, None, "logit").regression
