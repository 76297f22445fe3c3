"""Pictures' linear classifiers: every probability and every map is known in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 8


def linear(
    path: Path, weights: NDArray[Any], activation: str = "", determinant: bool = False, name: str = "image"
) -> Path:
    """A classifier as a file.

    Logits are w · x, or w · activation(x); on request the picture's determinant is added to all. Weights are
    (SIDE * SIDE, classes), the input is (N, 1, SIDE, SIDE).
    """
    nodes = [helper.make_node("Flatten", [name], ["flat"], "flatten")]
    if activation:
        nodes.append(helper.make_node(activation, ["flat"], ["acted"], activation.lower()))
    product = "product" if determinant else "logits"
    nodes.append(helper.make_node("MatMul", ["acted" if activation else "flat", "w"], [product], "matmul"))
    if determinant:
        nodes.append(helper.make_node("Det", [name], ["determinant"], "det"))
        nodes.append(helper.make_node("Add", ["product", "determinant"], ["logits"], "add"))
    graph = helper.make_graph(
        nodes, "linear",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def given(model: Path, data: Path, *checks: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """A policy that explains such a model by gradient × input, which is w * x."""
    return {
        "schema": 1, "model": {"path": str(model)}, "data": {"path": str(data)},
        "explain": {"method": "gradient-x-input"}, **sections,
        "check": [{"id": each["kind"], **each} for each in checks],
    }  # fmt: skip


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float64)
