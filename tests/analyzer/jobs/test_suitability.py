"""Verdicts by looking hold when every method is really run; nothing is run for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import InputError
from analyzer.executor.session import Session
from analyzer.jobs import suitability
from analyzer.jobs.inspection import inspect
from analyzer.jobs.suitability import looked_at
from analyzer.jobs.trials import trial_shapes, tried
from tests.common.models import assemble, cnn, masked_tokens, mlp, series, tokens, two_inputs, untraceable

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Node = helper.make_node
W = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
ROWS = {"x": (FLOAT, ["n", 6])}


def of(*nodes: Any, inputs: Any = None, output: Any = (FLOAT, ["n", 3]), **weights: Any) -> onnx.ModelProto:
    """A model of nodes whose output is ``y``."""
    return assemble(list(nodes), inputs or ROWS, {"y": output}, {"w": W, **weights}, domains={"ai.onnx.ml": 3})


def tree() -> onnx.ModelProto:
    """A stump: there is nothing to differentiate."""
    node = Node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.0, 2.0],
    )  # fmt: skip
    return of(node, output=(FLOAT, ["n", 1]))


PICTURE = {"x": (FLOAT, ["n", 3, 8, 8])}
KERNEL = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
CONV = Node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1])
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "cnn": cnn,
    "channels last": lambda: cnn(nhwc=True),
    "fixed batch": lambda: cnn(batch=2),
    "half precision": lambda: cnn(dtype=np.float16),
    "mlp": lambda: mlp(end="Softmax"),
    "series": series,
    "tokens": tokens,
    "masked tokens": masked_tokens,
    "two inputs": two_inputs,
    "custom operator": lambda: untraceable("custom")[0],
    "text inside": lambda: untraceable("text")[0],
    "tree": tree,
    "no head": lambda: of(CONV, Node("Relu", ["c"], ["y"]), inputs=PICTURE, output=(FLOAT, ["n", 4, 8, 8]), k=KERNEL),
    "flattened places": lambda: of(
        CONV, Node("Flatten", ["c"], ["f"]), Node("MatMul", ["f", "v"], ["y"]), inputs=PICTURE, k=KERNEL,
        v=np.random.default_rng(2).standard_normal((256, 3)).astype(np.float32),
    ),
    "means one after the other": lambda: of(
        CONV, Node("ReduceMean", ["c"], ["a"], axes=[3]), Node("ReduceMean", ["a"], ["b"], axes=[2]),
        Node("Flatten", ["b"], ["f"]), Node("MatMul", ["f", "v"], ["y"]), inputs=PICTURE, k=KERNEL, v=W[:4],
    ),
    "embedding beside numbers": lambda: of(
        Node("Gather", ["t", "i"], ["e"]), Node("Add", ["e", "x"], ["s"]), Node("MatMul", ["s", "w"], ["y"]),
        inputs={"x": (FLOAT, ["n", 6]), "i": (INT64, ["n"])}, t=np.eye(5, 6, dtype=np.float32),
    ),
    "determinant": lambda: of(Node("Det", ["x"], ["y"]), inputs={"x": (FLOAT, ["n", 3, 3])}, output=(FLOAT, ["n"])),
    "classes only": lambda: of(
        Node("MatMul", ["x", "w"], ["z"]), Node("ArgMax", ["z"], ["y"], axis=1), output=(INT64, ["n", 1])
    ),
    "a scalar for all": lambda: of(Node("MatMul", ["x", "w"], ["z"]), Node("ReduceSum", ["z"], ["y"], keepdims=0),
                                   output=(FLOAT, [])),
    "rank 1": lambda: of(Node("Mul", ["x", "two"], ["y"]), inputs={"x": (FLOAT, ["n"])}, output=(FLOAT, ["n"]),
                         two=np.float32(2)),
    "shape of the input": lambda: of(
        Node("Shape", ["x"], ["s"]), Node("Cast", ["s"], ["y"], to=FLOAT), output=(FLOAT, [2])
    ),
    "ends in positions": lambda: of(Node("NonZero", ["x"], ["z"]), Node("Cast", ["z"], ["y"], to=FLOAT),
                                    output=(FLOAT, [2, "m"])),
    "noise": lambda: of(Node("RandomNormalLike", ["x"], ["r"]), Node("Add", ["x", "r"], ["s"]),
                        Node("MatMul", ["s", "w"], ["y"])),
    "batch normalised": lambda: of(
        CONV, Node("BatchNormalization", ["c", "o", "z", "z", "o"], ["b"]), Node("GlobalAveragePool", ["b"], ["p"]),
        Node("Flatten", ["p"], ["y"]), inputs=PICTURE, output=(FLOAT, ["n", 4]), k=KERNEL,
        o=np.ones(4, np.float32), z=np.zeros(4, np.float32),
    ),
    "recurrent": lambda: of(
        Node("LSTM", ["x", "wi", "wr"], ["", "h"], hidden_size=3), Node("Squeeze", ["h", "zero"], ["y"]),
        inputs={"x": (FLOAT, ["t", "n", 2])}, wi=np.full((1, 12, 2), 0.3, np.float32),
        wr=np.full((1, 12, 3), 0.2, np.float32), zero=np.array([0]),
    ),
    "text columns": lambda: of(
        Node("OneHotEncoder", ["t"], ["o"], domain="ai.onnx.ml", cats_strings=["a", "b", "c", "d", "e", "f"], zeros=1),
        Node("Squeeze", ["o", "one"], ["r"]), Node("MatMul", ["r", "w"], ["y"]),
        inputs={"t": (TensorProto.STRING, ["n", 1])}, one=np.array([1]),
    ),
    "batch fixed inside": lambda: of(
        Node("Reshape", ["x", "one"], ["r"]), Node("MatMul", ["r", "w"], ["y"]), output=(FLOAT, None),
        one=np.array([1, 6]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_what_is_said_by_looking_is_what_happens(name: str) -> None:
    model = analyzer.load(MODELS[name](), "cpu")
    said, happened = looked_at(model)["methods"], tried(model)["methods"]
    assert list(said) == list(happened) == list(analyzer.methods())
    wrong = {
        method: (verdict, happened[method])
        for method, verdict in said.items()
        if verdict["works"] is not None and verdict["works"] is not happened[method]["works"]
    }
    assert not wrong


@pytest.mark.parametrize("name", ["cnn", "channels last", "mlp", "series", "tokens", "two inputs", "tree", "recurrent"])
def test_of_common_models_nothing_is_left_open(name: str) -> None:
    verdicts = looked_at(analyzer.load(MODELS[name](), "cpu"))["methods"]
    assert [method for method, verdict in verdicts.items() if verdict["works"] is None] == []


def test_the_reason_is_the_one_that_a_run_would_give() -> None:
    model = analyzer.load(MODELS["determinant"](), "cpu")
    said, happened = looked_at(model)["methods"], tried(model)["methods"]
    for method in ("lrp", "grad-cam", "rise"):
        if happened[method]["works"] is False:
            assert said[method] == happened[method]
    assert "Det" in said["lrp"]["reason"]


def test_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "run", lambda *_, **__: pytest.fail("the model was run"))
    facts = inspect(analyzer.load(cnn(), "cpu"))
    assert facts["methods"]["lrp"]["works"]
    assert facts["cam_layer"] == "relu2"
    assert facts["parity"] is None


def test_sizes_cost_nothing() -> None:
    huge = of(Node("ReduceSum", ["x"], ["y"]), inputs={"x": (FLOAT, [1, 10**5, 10**5])}, output=(FLOAT, [1, 1, 1]))
    verdicts = looked_at(analyzer.load(huge, "cpu"))["methods"]
    assert verdicts["gradient"]["works"]
    assert verdicts["occlusion"]["works"]


def test_a_very_large_graph_leaves_white_box_methods_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suitability, "MOST_NODES", 4)
    verdicts = looked_at(analyzer.load(cnn(), "cpu"))["methods"]
    assert verdicts["gradient"]["works"] is None
    assert verdicts["gradient"]["reason"].endswith("--try-methods")
    assert verdicts["occlusion"]["works"]


def test_a_branch_on_values_is_left_open() -> None:
    body = [helper.make_graph([Node(op, ["x"], [op])], op, [], [helper.make_tensor_value_info(op, FLOAT, None)])
            for op in ("Relu", "Neg")]  # fmt: skip
    proto = of(
        Node("ReduceSum", ["x"], ["s"], keepdims=0), Node("Greater", ["s", "zero"], ["c"]),
        Node("If", ["c"], ["y"], then_branch=body[0], else_branch=body[1], name="fork"),
        output=(FLOAT, ["n", 6]), zero=np.float32(0),
    )  # fmt: skip
    verdicts = looked_at(analyzer.load(proto, "cpu"))["methods"]
    assert verdicts["gradient"]["works"] is None
    assert "'fork' does depends on the input's values" in verdicts["gradient"]["reason"]


def test_a_model_that_onnxruntime_refuses_is_refused() -> None:
    proto = of(Node("MatMul", ["x", "whole"], ["y"]), whole=W.astype(np.int64))
    with pytest.raises(InputError) as caught:
        inspect(analyzer.load(proto, "cpu"), "none")
    assert caught.value.code == "runtime.load_failed"


def test_axes_of_one_name_are_as_long_as_each_other_but_for_the_batch() -> None:
    proto = assemble(
        [Node("Concat", ["a", "b"], ["y"], axis=1)], {"a": (FLOAT, ["n", "t", "t"]), "b": (FLOAT, ["n", "u", "t"])},
        {"y": (FLOAT, None)}, {},
    )  # fmt: skip
    assert trial_shapes(analyzer.load(proto, "cpu"), 5) == {"a": (1, 5, 5), "b": (1, 5, 5)}
    same = assemble([Node("Relu", ["x"], ["y"])], {"x": (FLOAT, ["n", "n"])}, {"y": (FLOAT, None)}, {})
    assert trial_shapes(analyzer.load(same, "cpu"), 5, batch=2) == {"x": (2, 5)}


def test_an_input_of_unknown_rank_is_not_made_up() -> None:
    proto = assemble([Node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik")], {"x": (FLOAT, None)},  # type: ignore[dict-item]
                     {"y": (FLOAT, None)}, {"w": W})  # fmt: skip
    verdicts = looked_at(analyzer.load(proto, "cpu"))["methods"]
    assert {verdict["works"] for verdict in verdicts.values()} == {None}
    assert {verdict["works"] for verdict in tried(analyzer.load(proto, "cpu"))["methods"].values()} == {None}
