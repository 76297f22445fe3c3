"""Quantised operators of onnxruntime's own domain against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.analyzer.importer import oracle
from tests.analyzer.importer.test_ops_quantization import MS, RNG, chain, check, f32, ints, model_of, positive


def pair(dtype: str, *shape: int, name: str = "a") -> dict[str, np.ndarray | None]:
    return {name: ints(dtype, *shape), f"{name}s": positive(), f"{name}z": np.array(20, dtype)}


def result(dtype: str, scale: float) -> dict[str, np.ndarray | None]:
    return {"ys": np.array(scale, np.float32), "yz": np.array(10, dtype)}


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_qlinear_elementwise(op: str, dtype: str) -> None:
    inputs = pair(dtype, 3, 4, 5) | pair(dtype, 4, 1, name="b") | result(dtype, 0.1)
    check(op, inputs, steps=1, domain=MS)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_qlinear_functions(dtype: str) -> None:
    x = pair(dtype, 2, 3, 6, 6)
    check("QLinearSigmoid", x | result(dtype, 1 / 256), domain=MS)
    check("QLinearLeakyRelu", x | result(dtype, 0.03), domain=MS, alpha=0.2)
    zero = {"ys": np.array(1 / 300.7, np.float32), "yz": np.array(0 if dtype == "uint8" else -128, dtype)}
    model, feed = model_of("QLinearSoftmax", x | zero, domain=MS, axis=-1)
    model.graph.node[0].attribute.append(helper.make_attribute("opset", 13))
    oracle.check(model, feed, rtol=0, atol=0)
    check("QLinearGlobalAveragePool", x | result(dtype, 0.02), steps=1, domain=MS)
    check("QLinearAveragePool", x | result(dtype, 0.03), steps=1, domain=MS, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def test_qlinear_pooling_with_channels_last() -> None:
    x = pair("uint8", 2, 6, 6, 3)
    check("QLinearGlobalAveragePool", x | result("uint8", 0.02), steps=1, domain=MS, channels_last=1)
    check("QLinearAveragePool", x | result("uint8", 0.03), steps=1, domain=MS, kernel_shape=[3, 3], channels_last=1)
    check("NhwcMaxPool", {"x": ints("uint8", 2, 6, 6, 3)}, domain=MS, kernel_shape=[3, 3], strides=[2, 2])


def test_qlinear_concat_and_where() -> None:
    y = result("uint8", 0.04)
    check("QLinearConcat", y | pair("uint8", 2, 3) | pair("uint8", 2, 4, name="b"), domain=MS, axis=1)
    condition = {"c": RNG.random((2, 3)) > 0.5}
    check("QLinearWhere", condition | pair("uint8", 2, 3) | pair("uint8", 2, 3, name="b") | y, domain=MS, steps=1)


@pytest.mark.parametrize("quantized", [False, True])
def test_qgemm(quantized: bool) -> None:
    inputs = {
        "a": ints("uint8", 3, 5),
        "as": positive(),
        "az": np.array(9, np.uint8),
        "b": ints("int8", 4, 5),
        "bs": positive(4),
        "bz": np.zeros(4, np.int8),
        "c": RNG.integers(-2000, 2000, 4).astype(np.int32),
    }
    if quantized:
        inputs |= {"ys": np.array(0.05, np.float32), "yz": np.array(100, np.uint8)}
    check("QGemm", inputs, domain=MS, transB=1, alpha=1.0)


@pytest.mark.parametrize("bias", [False, True])
def test_dynamically_quantized_products(bias: bool) -> None:
    weights = {"b": ints("int8", 5, 4), "bs": positive(4), "bz": np.zeros(4, np.int8)}
    tail = {"bias": f32(4)} if bias else {}
    check("DynamicQuantizeMatMul", {"a": f32(2, 3, 5)} | weights | tail, domain=MS)
    inputs = {
        "a": ints("uint8", 2, 3, 5),
        "b": weights["b"],
        "as": positive(),
        "bs": weights["bs"],
        "az": np.array(9, np.uint8),
        "bz": weights["bz"],
    }
    check("MatMulIntegerToFloat", inputs | tail, domain=MS)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint8", "int8"])
def test_quantisation_of_onnxruntimes_domain(dtype: str) -> None:
    grid = {"s": np.array(0.0007, np.float32), "z": np.array(3, dtype)}
    check("QuantizeLinear", {"x": f32(3, 4) * 3} | grid, domain=MS)
    check("DequantizeLinear", {"x": ints(dtype, 3, 4)} | grid, domain=MS)


def test_quantised_attention() -> None:
    inputs = {
        "x": ints("uint8", 2, 5, 8),
        "w": ints("int8", 8, 24),
        "b": f32(24),
        "xs": np.array(0.02, np.float32),
        "ws": np.array(0.01, np.float32),
        "m": np.array([3, 5], np.int32),
        "xz": np.array(120, np.uint8),
        "wz": np.array(0, np.int8),
    }
    model, feed = model_of("QAttention", inputs, domain=MS, num_heads=2)
    oracle.check(model, feed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_dynamically_quantised_lstm(direction: str) -> None:
    """One sample: how many samples of a state the runtime rounds together depends on its threads."""
    d = 2 if direction == "bidirectional" else 1
    constants = {
        "w": ints("int8", d, 3, 16),
        "r": ints("int8", d, 4, 16),
        "ws": positive(d) * 0.2,
        "wz": np.zeros(d, np.int8),
        "rs": positive(d) * 0.2,
        "rz": np.zeros(d, np.int8),
    }
    names = ["x", "w", "r", "", "", "", "", "", "ws", "wz", "rs", "rz"]
    model = chain(
        helper.make_node("DynamicQuantizeLSTM", names, ["y", "h", "c"], domain=MS, hidden_size=4, direction=direction),
        **constants,
    )
    x = f32(5, 1, 3)
    model.graph.input[0].type.tensor_type.shape.CopyFrom(
        helper.make_tensor_type_proto(TensorProto.FLOAT, x.shape).tensor_type.shape
    )
    oracle.check(model, {"x": x}, rtol=1e-4, atol=1e-5)


def test_mul_integer() -> None:
    feed = {
        "a": ints("uint8", 3, 4),
        "az": np.array(7, np.uint8),
        "b": ints("uint8", 3, 4),
        "bz": np.array(9, np.uint8),
    }
    model, _ = model_of("MulInteger", feed, domain=MS)
    expected = (feed["a"].astype(np.int32) - 7) * (feed["b"].astype(np.int32) - 9)
    got = oracle.table(model, feed)[0]
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, expected)
