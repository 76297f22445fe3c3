"""Activation functions against onnxruntime, and against their formulas where it has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.analyzer.importer.oracle import check, node_model, table

X = np.linspace(-30, 30, 121, dtype=np.float32).reshape(11, 11)

ELEMENTWISE: list[tuple[str, int, dict[str, Any]]] = [
    ("Relu", 13, {}),
    ("Relu", 6, {}),
    ("Sigmoid", 13, {}),
    ("Tanh", 13, {}),
    ("LeakyRelu", 16, {}),
    ("LeakyRelu", 6, {"alpha": 0.3}),
    ("Elu", 22, {}),
    ("Elu", 6, {"alpha": 0.7}),
    ("Selu", 22, {}),
    ("Selu", 6, {"alpha": 1.2, "gamma": 0.9}),
    ("Celu", 12, {"alpha": 1.7}),
    ("Gelu", 20, {}),
    ("Gelu", 20, {"approximate": "tanh"}),
    ("HardSigmoid", 22, {}),
    ("HardSigmoid", 6, {"alpha": 1 / 6, "beta": 0.5}),
    ("HardSwish", 22, {}),
    ("Swish", 24, {"alpha": 1.5}),
    ("Swish", 24, {}),
    ("Mish", 22, {}),
    ("Softplus", 22, {}),
    ("Softsign", 22, {}),
    ("ThresholdedRelu", 22, {}),
    ("ThresholdedRelu", 10, {"alpha": 3.0}),
    ("Shrink", 9, {}),
    ("Shrink", 9, {"lambd": 2.0, "bias": 2.0}),
    ("Shrink", 9, {"lambd": 2.0, "bias": 0.5}),
    ("Shrink", 9, {"lambd": -2.0, "bias": 0.5}),
    ("Clip", 6, {"min": -3.0, "max": 4.0}),
    ("Clip", 6, {"max": 4.0}),
    ("Clip", 6, {"min": 0.0, "max": 6.0}),
    ("Clip", 6, {}),
]


@pytest.mark.parametrize(("op_type", "opset", "attributes"), ELEMENTWISE)
def test_elementwise(op_type: str, opset: int, attributes: dict[str, Any]) -> None:
    feed = {"x": X}
    check(node_model(op_type, feed, opset=opset, **attributes), feed)


@pytest.mark.parametrize(("op_type", "dtype"), [("Relu", "float64"), ("Relu", "int32"), ("Relu", "int8")])
def test_relu_dtypes(op_type: str, dtype: str) -> None:
    feed = {"x": X.astype(dtype)}
    check(node_model(op_type, feed), feed)


@pytest.mark.parametrize("op_type", ["Sigmoid", "Tanh", "Softplus", "Elu", "Gelu", "LeakyRelu", "HardSigmoid"])
def test_half_precision(op_type: str) -> None:
    feed = {"x": X.astype(np.float16)}
    check(node_model(op_type, feed), feed, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["int32", "int8", "uint8", "int64", "float64"])
def test_shrink_dtypes(dtype: str) -> None:
    feed = {"x": np.arange(8).astype(dtype)}
    check(node_model("Shrink", feed, lambd=2.0, bias=1.0), feed)


@pytest.mark.parametrize("opset", [11, 12, 13])
@pytest.mark.parametrize("given", [("low", "high"), ("low",), ("high",), ()])
def test_clip_by_inputs(opset: int, given: tuple[str, ...]) -> None:
    limits = {"low": np.float32(-2.5), "high": np.float32(3.5)}
    feed = {"x": X} | {k if k in given else "": np.asarray(v) for k, v in limits.items() if k in given or k == "low"}
    model = node_model("Clip", feed, opset=opset)
    check(model, {k: v for k, v in feed.items() if k})


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64", "float64", "float16"])
def test_clip_dtypes(dtype: str) -> None:
    x = np.array([0, 1, 5, 9, 100], dtype)
    if dtype == "uint64":
        x = np.array([0, 1, 5, 2**63 + 5, 2**64 - 1], dtype)
    feed = {"x": x, "low": np.array(1, dtype), "high": np.array(x[3], dtype)}
    check(node_model("Clip", feed, initializers=("low", "high")), {"x": x})


def test_clip_with_limits_that_cross() -> None:
    feed = {"x": X, "low": np.array(3, np.float32), "high": np.array(-1, np.float32)}
    check(node_model("Clip", feed, initializers=("low", "high")), {"x": X})


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint32"])
@pytest.mark.parametrize("shape", [(3,), (2, 1), (1,), (4, 1, 1)])
def test_prelu(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1, 4, 2, 3)) * 9 + (9 if dtype[0] == "u" else 0)).clip(-50 if dtype[0] != "u" else 0)
    feed = {"x": x.astype(dtype), "slope": (rng.random(shape) * 4).astype(dtype)}
    check(node_model("PRelu", feed, opset=16), feed)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("opset", [9, 11, 13])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
def test_axis_functions(op_type: str, opset: int, axis: int | None) -> None:
    if opset < 11 and axis == -1:
        pytest.skip("negative axes came with opset 11")
    feed = {"x": np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)}
    check(node_model(op_type, feed, opset=opset, **({} if axis is None else {"axis": axis})), feed)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_axis_function_dtypes(op_type: str, dtype: str) -> None:
    feed = {"x": np.random.default_rng(0).normal(size=(2, 3, 4)).astype(dtype)}
    check(node_model(op_type, feed), feed, rtol=2e-3, atol=2e-3 if dtype == "float16" else 1e-6)


def test_hardmax_takes_the_first_of_equals() -> None:
    feed = {"x": np.array([[1, 3, 3], [2, 2, 2]], np.float32)}
    check(node_model("Hardmax", feed), feed)


def test_swiglu_and_celu_of_opset_28() -> None:
    rng = np.random.default_rng(0)
    feed = {"a": rng.normal(size=(2, 5)), "b": rng.normal(size=(2, 5))}
    got = table(node_model("SwiGLU", feed, opset=28, alpha=1.5), feed)[0]
    np.testing.assert_allclose(got, feed["a"] / (1 + np.exp(-1.5 * feed["a"])) * feed["b"], rtol=1e-12)
    got = table(node_model("Celu", {"a": feed["a"]}, opset=28, alpha=1.5), feed)[0]
    a = feed["a"]
    np.testing.assert_allclose(got, np.maximum(0, a) + np.minimum(0, 1.5 * np.expm1(a / 1.5)), rtol=1e-6)


def test_softplus_keeps_its_tail_in_double_precision() -> None:
    x = np.array([19.0, 21.0, 30.0])
    got = table(node_model("Softplus", {"x": x}), {"x": x})[0]
    np.testing.assert_allclose(got, np.logaddexp(0, x), rtol=1e-15)


def test_relu6_is_recorded_as_hardtanh_and_its_edges_have_no_gradient() -> None:
    x = torch.tensor([0.0, 3.0, 6.0], requires_grad=True)
    torch.nn.functional.hardtanh(x, 0.0, 6.0).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, 1.0, 0.0]
    feed = {"x": np.array([-1, 0, 3, 6, 7], np.float32)}
    from analyzer.importer.conversion import as_tensor
    from analyzer.importer.graph import build
    from analyzer.importer.interpreter import Interpreter, run_graph
    from analyzer.importer.recorder import Recorder

    recorder = Recorder()
    with torch.no_grad(), recorder:
        tensors = {"x": recorder.placeholder("x", as_tensor(feed["x"]))}
        model = node_model("Clip", feed, opset=6, min=0.0, max=6.0)
        run_graph(build(model, lambda proto: np.zeros(0)), tensors, Interpreter(recorder))
    called = [node.target for node in recorder.graph.nodes if node.op == "call_function"]
    assert called == [torch.ops.aten.hardtanh.default]
