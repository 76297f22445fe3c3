"""Which inputs may hold NaN, read from what their graphs are made of."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from analyzer.inputs.graph_missing import takes_missing
from tests.common.models import assemble

ML = {"ai.onnx.ml": 3}


def imputer(replaced: float) -> onnx.NodeProto:
    return helper.make_node(
        "Imputer", ["both"], ["y"], domain="ai.onnx.ml", imputed_value_floats=[1.0], replaced_value_float=replaced
    )


def trees(missing: int) -> onnx.NodeProto:
    return helper.make_node(
        "TreeEnsembleRegressor", ["both"], ["y"], domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
        nodes_missing_value_tracks_true=[missing, 0, 0], target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0],
        target_weights=[1.0, 2.0],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("node", "taken"),
    [
        (imputer(float("nan")), True),
        (imputer(-999.0), False),
        (trees(1), True),
        (trees(0), False),
        (helper.make_node("IsNaN", ["both"], ["y"]), True),
        (helper.make_node("MatMul", ["both", "w"], ["y"]), False),
    ],
)
def test_what_is_made_for_missing_values(node: onnx.NodeProto, taken: bool) -> None:
    nodes = [
        helper.make_node("Scaler", ["age"], ["scaled"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0]),
        helper.make_node("Concat", ["scaled", "scaled"], ["both"], axis=1),
        node,
        helper.make_node("MatMul", ["fare", "w"], ["z"]),
    ]
    inputs = {"age": (TensorProto.FLOAT, ["n", 1]), "fare": (TensorProto.FLOAT, ["n", 2])}
    outputs = {"y": (TensorProto.FLOAT, None), "z": (TensorProto.FLOAT, None)}
    proto = assemble(nodes, inputs, outputs, {"w": np.ones((2, 1), np.float32)}, domains=ML)
    assert takes_missing(proto.graph) == ({"age"} if taken else set())
