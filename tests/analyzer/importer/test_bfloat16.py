"""Models of bfloat16 numbers: run, traced, explained and compiled as float32 models of the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import analyzer
from analyzer.importer.bfloat16 import SAID, in_single
from analyzer.importer.loading import read_model

RNG = np.random.default_rng(0)
W, V = (RNG.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in ((4, 5), (5, 3)))
X = RNG.standard_normal((2, 4)).astype(ml_dtypes.bfloat16)
#: The loop's body is a subgraph with a constant and a cast of its own.
BODY = helper.make_graph(
    [
        helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.asarray(0.5, ml_dtypes.bfloat16))),
        helper.make_node("Cast", ["k"], ["n"], to=TensorProto.BFLOAT16),
        helper.make_node("Mul", ["h", "half"], ["m"]),
        helper.make_node("Add", ["m", "n"], ["next"]),
    ],
    "body",
    [
        helper.make_tensor_value_info("k", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("h", TensorProto.BFLOAT16, None),
    ],
    [
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", TensorProto.BFLOAT16, None),
    ],
)


def network(outside: int) -> onnx.ModelProto:
    """Two products with a loop of two steps between them; inputs and outputs of a given type."""
    inner = helper.make_tensor_value_info("a", TensorProto.BFLOAT16, ["batch", 5])
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["xb"], to=TensorProto.BFLOAT16),
            helper.make_node("MatMul", ["xb", "w"], ["a"]),
            helper.make_node("Loop", ["two", "", "a"], ["b"], body=BODY),
            helper.make_node("Relu", ["b"], ["c"]),
            helper.make_node("MatMul", ["c", "v"], ["d"]),
            helper.make_node("Cast", ["d"], ["y"], to=outside),
        ],
        "g",
        [helper.make_tensor_value_info("x", outside, ["batch", 4])],
        [helper.make_tensor_value_info("y", outside, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in (("two", np.asarray(2)), ("w", W), ("v", V))],
        value_info=[inner],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def expected() -> tuple[np.ndarray, np.ndarray]:
    """Outputs, and the derivative of the first score, by hand in float64."""
    x, w, v = (value.astype(np.float64) for value in (X, W, V))
    inner = x @ w / 4 + 1
    return np.maximum(inner, 0) @ v, (inner > 0) * v[:, 0] @ (w / 4).T


@pytest.mark.parametrize("outside", [TensorProto.BFLOAT16, TensorProto.FLOAT])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32])
def test_they_run_and_are_explained(outside: int, dtype: Any) -> None:
    model = analyzer.load(network(outside), device="cpu")
    x, (want, derivative) = X.astype(dtype), expected()
    np.testing.assert_allclose(model.predict(x)["y"], want, rtol=1e-5)
    assert model.verify(x).error < 1e-5
    np.testing.assert_allclose(model.explain(x, "gradient", target=0).attribution, derivative, rtol=1e-5)
    found = model.explain(x, "gradient", target=0, backend="onnxruntime")
    np.testing.assert_allclose(found.attribution, derivative, rtol=1e-5)
    drops = model.explain(x, "occlusion", target=0).attribution
    assert drops.shape == X.shape and drops.any()
    assert SAID in model.loaded.warnings


def test_weights_in_another_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(network(TensorProto.FLOAT), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    np.testing.assert_allclose(
        analyzer.load(path, device="cpu").predict(X.astype(np.float32))["y"], expected()[0], rtol=1e-5
    )


def test_others_stay_as_they_are() -> None:
    proto = network(TensorProto.FLOAT)
    loaded = in_single(read_model(proto))
    assert in_single(loaded) is loaded
    assert proto.graph.initializer[1].data_type == TensorProto.BFLOAT16
