"""Quantisation against onnxruntime, and what passes backwards through it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import build
from analyzer.importer.interpreter import Interpreter, run_graph
from analyzer.importer.recorder import Recorder
from analyzer.importer.straight_through import (
    dynamic_range,
    dynamic_range_definition,
    fake_quantize,
    fake_quantize_definition,
)
from tests.analyzer.importer import oracle

RNG = np.random.default_rng(0)
MS = "com.microsoft"


def f32(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ints(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return RNG.integers(max(info.min, -(2**15)), min(info.max, 2**15), shape, endpoint=True).astype(dtype)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.01, 0.05, shape).astype(np.float32)


def model_of(
    op: str,
    inputs: dict[str, np.ndarray | None],
    domain: str = "",
    opset: int = 21,
    outputs: int = 1,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    given = {k: v for k, v in inputs.items() if v is not None}
    model = oracle.node_model(op, given, outputs, opset, domain, (), {MS: 1}, **attributes)
    del model.graph.node[0].input[:]
    model.graph.node[0].input.extend(k if v is not None else "" for k, v in inputs.items())
    return model, given


def check(op: str, inputs: dict[str, np.ndarray | None], steps: int = 0, **settings: Any) -> None:
    """Equal to onnxruntime, up to a number of quantisation steps, whichever of the inputs are baked in."""
    model, given = model_of(op, inputs, **settings)
    oracle.check(model, given, rtol=1e-5 if not steps else 0, atol=max(steps, 1e-6))
    baked = [numpy_helper.from_array(v, k) for k, v in list(given.items())[1:]]
    model.graph.initializer.extend(baked)
    first = next(iter(given))
    del model.graph.input[1:]
    oracle.check(model, {first: given[first]}, rtol=1e-5 if not steps else 0, atol=max(steps, 1e-6))


# --- the standard's operators -------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23, 25])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_quantize_per_tensor(opset: int, dtype: str) -> None:
    x = np.concatenate([f32(50) * 3, np.arange(-20, 20, dtype=np.float32) * 0.01])  # ties among them
    inputs = {"x": x, "s": np.float32(0.02), "z": np.array(7, dtype)}
    check("QuantizeLinear", {k: np.asarray(v) for k, v in inputs.items()}, opset=opset)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_quantize_and_dequantize_per_axis(dtype: str, axis: int) -> None:
    n = (3, 4, 5)[axis]
    scale, zero = positive(n), np.clip(ints(dtype, n), 0, 100).astype(dtype)
    check("QuantizeLinear", {"x": f32(3, 4, 5) * 3, "s": scale, "z": zero}, axis=axis)
    check("DequantizeLinear", {"x": ints(dtype, 3, 4, 5), "s": scale, "z": zero}, axis=axis)


def test_dequantize_int32_and_without_zero_point() -> None:
    check("DequantizeLinear", {"x": ints("int32", 3, 4), "s": np.array(0.01, np.float32), "z": None})
    check("DequantizeLinear", {"x": ints("uint8", 3, 4), "s": np.array([0.01], np.float32), "z": None})


@pytest.mark.parametrize("block", [2, 4])
def test_blocks(block: int) -> None:
    scale, zero = positive(4, 8 // block), ints("int8", 4, 8 // block)
    check("QuantizeLinear", {"x": f32(4, 8), "s": scale, "z": zero}, axis=1, block_size=block)
    check("DequantizeLinear", {"x": ints("int8", 4, 8), "s": scale, "z": zero}, axis=1, block_size=block)


def test_half_precision() -> None:
    x, scale, zero = f32(40).astype(np.float16), np.array(0.02, np.float16), np.array(3, np.int8)
    check("QuantizeLinear", {"x": x, "s": scale, "z": zero})
    check("DequantizeLinear", {"x": ints("int8", 40), "s": scale, "z": zero})


@pytest.mark.parametrize("stored", ["INT4", "UINT4"])
def test_four_bits(stored: str) -> None:
    """A zero point of a type that torch lacks still names the range."""
    kind = getattr(TensorProto, stored)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [40])],
        [numpy_helper.from_array(np.array(0.3, np.float32), "s"), helper.make_tensor("z", kind, [], [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    oracle.check(model, {"x": f32(40) * 4})


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "FLOAT8E5M2", "FLOAT8E4M3FNUZ", "FLOAT8E5M2FNUZ"])
def test_eight_bit_floats(kind: str) -> None:
    number = getattr(TensorProto, kind)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [40])],
        [numpy_helper.from_array(np.array(0.3, np.float32), "s"), helper.make_tensor("z", number, [], [0.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    oracle.check(model, {"x": np.concatenate([f32(38) * 4, np.array([1e6, -1e6], np.float32)])})


@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0])
def test_dynamic_quantize(shift: float) -> None:
    check("DynamicQuantizeLinear", {"x": f32(6, 7) + np.float32(shift)}, outputs=3)


def conv_inputs(x: str, w: str, per_channel: bool, bias: bool = True) -> dict[str, np.ndarray | None]:
    n = (6,) if per_channel else ()
    return {
        "x": ints(x, 2, 4, 7, 7),
        "xs": positive(),
        "xz": np.array(12, x),
        "w": ints(w, 6, 4, 3, 3),
        "ws": positive(*n),
        "wz": np.zeros(n, w) if w == "int8" else np.full(n, 100, w),
        "ys": np.array(0.9, np.float32),
        "yz": np.array(20, x),
        "b": RNG.integers(-2000, 2000, 6).astype(np.int32) if bias else None,
    }


@pytest.mark.parametrize(("x", "w"), [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
@pytest.mark.parametrize("per_channel", [False, True])
def test_qlinear_conv_rounds_as_the_runtime(x: str, w: str, per_channel: bool) -> None:
    """The real convolution is put back on the accumulator's grid, so not even one step differs."""
    if per_channel and w == "uint8":
        pytest.skip("onnxruntime takes no zero points per channel")
    check("QLinearConv", conv_inputs(x, w, per_channel), pads=[1, 0, 1, 2], strides=[2, 1])


def test_qlinear_conv_groups_and_no_bias() -> None:
    inputs = conv_inputs("uint8", "int8", True, bias=False)
    inputs["w"] = ints("int8", 6, 2, 3, 3)
    check("QLinearConv", inputs, group=2, strides=[2, 2], auto_pad="SAME_UPPER")
    check("QLinearConv", inputs, group=2, dilations=[2, 1])


@pytest.mark.parametrize("w", ["int8", "uint8"])
def test_qlinear_matmul(w: str) -> None:
    inputs = {
        "a": ints("uint8", 2, 3, 5),
        "as": positive(),
        "az": np.array(9, np.uint8),
        "b": ints(w, 5, 4),
        "bs": positive(),
        "bz": np.array(1, w),
        "ys": np.array(0.05, np.float32),
        "yz": np.array(100, np.uint8),
    }
    check("QLinearMatMul", inputs)


def test_integer_products() -> None:
    inputs = {
        "a": ints("uint8", 2, 3, 5),
        "b": ints("int8", 5, 4),
        "az": np.array(7, np.uint8),
        "bz": np.array(2, np.int8),
    }
    check("MatMulInteger", inputs)
    check("MatMulInteger", {k: inputs[k] for k in ("a", "b")})
    per_column = inputs | {"bz": ints("int8", 4)}
    check("MatMulInteger", per_column)


def test_conv_integer() -> None:
    inputs = {"x": ints("uint8", 1, 2, 5, 5), "w": ints("uint8", 3, 2, 3, 3), "xz": np.array(7, np.uint8)}
    check("ConvInteger", inputs, pads=[1, 1, 1, 1])
    check("ConvInteger", {k: inputs[k] for k in ("x", "w")})


# --- what passes through ------------------------------------------------------------------------------------


def trace(model: onnx.ModelProto, x: np.ndarray) -> torch.fx.GraphModule:
    recorder = Recorder()
    with torch.no_grad():
        with recorder:
            value = recorder.placeholder("x", as_tensor(x))
            out = run_graph(build(model, numpy_helper.to_array), {"x": value}, Interpreter(recorder))
        return recorder.finish(out)


def gradient(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    leaf = torch.from_numpy(x).requires_grad_()
    (out,) = trace(model, x)(leaf)
    (grad,) = torch.autograd.grad((out * torch.arange(1.0, out.numel() + 1).reshape(out.shape)).sum(), leaf)
    return grad.numpy()


def chain(*nodes: onnx.NodeProto, opset: int = 21, **constants: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


GRID = {"s": np.float32(0.05), "z": np.uint8(128)}


def test_gradient_is_one_inside_the_range_and_zero_where_clipped() -> None:
    x = np.array([0.0, 1.0, -2.0, 6.0, 100.0, -100.0], np.float32)
    fused_relu = chain(
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        s=np.float32(0.05),
        z=np.uint8(0),
    )
    np.testing.assert_array_equal(gradient(fused_relu, x), np.arange(1, 7) * np.array([1, 1, 0, 1, 0, 0]))


@pytest.mark.parametrize(
    "moving",
    [
        [helper.make_node("Reshape", ["q", "shape"], ["r"])],
        [helper.make_node("Transpose", ["q"], ["r"], perm=[0, 2, 3, 1])],
        [helper.make_node("MaxPool", ["q"], ["r"], kernel_shape=[2, 2])],
        [helper.make_node("Split", ["q"], ["r", "unused"], axis=1, num_outputs=2)],
        [helper.make_node("Concat", ["q", "q"], ["r"], axis=1)],
        [helper.make_node("Slice", ["q", "one", "two", "axis"], ["r"])],
        [helper.make_node("Gather", ["q", "one"], ["r"], axis=1)],
        [helper.make_node("Pad", ["q", "pads"], ["r"])],
        [helper.make_node("Pad", ["q", "pads", "z"], ["r"])],
        [helper.make_node("Relu", ["q"], ["r"])],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_operators_between_quantised_values_let_gradients_through(moving: list[onnx.NodeProto]) -> None:
    """Same values as onnxruntime, and the gradient of the network without quantisation."""
    signed = moving[0].op_type == "Relu"
    constants = GRID | {"z": np.int8(0) if signed else np.uint8(128)}
    constants |= {
        "shape": np.array([2, -1]),
        "one": np.array([1]),
        "two": np.array([3]),
        "axis": np.array([1]),
        "pads": np.array([0, 0, 1, 0, 0, 1, 0, 0]),
    }
    quantised = chain(
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        *moving,
        helper.make_node("DequantizeLinear", ["r", "s", "z"], ["y"]),
        **constants,
    )
    x = (np.round(f32(2, 4, 4, 4) / GRID["s"]) * GRID["s"]).astype(np.float32)
    oracle.check(quantised, {"x": x}, rtol=1e-6, atol=1e-6)
    if moving[0].op_type == "MaxPool":
        assert np.count_nonzero(gradient(quantised, x)) > 0
        return
    if len(moving[0].input) > 2 and moving[0].input[2] == "z":
        constants |= {"zero": np.float32(0.0)}
    plain_nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in moving]
    plain_nodes[0].input[0] = "x"
    for i, name in enumerate(plain_nodes[0].input):
        plain_nodes[0].input[i] = {"q": "x", "z": "zero"}.get(name, name)
    plain_nodes[0].output[0] = "y"
    np.testing.assert_allclose(gradient(quantised, x), gradient(chain(*plain_nodes, **constants), x), rtol=1e-6)


def test_relevant_part_of_a_dynamically_quantised_layer_is_one_product() -> None:
    """MatMulInteger, Cast and the product of scales: gradient of the float layer, none through the scales."""
    w = f32(5, 3)
    w_scale = np.float32(np.abs(w).max() / 127)
    w_int = np.round(w / w_scale).astype(np.int8)
    quantised = chain(
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        helper.make_node("MatMulInteger", ["q", "w", "xz", "wz"], ["acc"]),
        helper.make_node("Cast", ["acc"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["xs", "ws"], ["scale"]),
        helper.make_node("Mul", ["float", "scale"], ["y"]),
        w=w_int,
        wz=np.int8(0),
        ws=w_scale,
    )
    x = f32(4, 5)
    oracle.check(quantised, {"x": x})
    weights = np.arange(1.0, 13).reshape(4, 3)
    np.testing.assert_allclose(gradient(quantised, x), weights @ (w_int * w_scale).T, rtol=1e-4)


def test_a_quantised_output_is_stored_integers() -> None:
    model = chain(helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"]), **GRID)
    x = f32(3, 4)
    assert oracle.table(model, {"x": x})[0].dtype == np.uint8
    oracle.check(model, {"x": x})


def test_observers_see_integers_or_the_trace() -> None:
    """Beside the runtime stored integers are compared; in a trace a layer is the node that gradients pass."""
    model = chain(helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"]), **GRID)
    x, graph = f32(3, 4), build(model, numpy_helper.to_array)
    seen: dict[str, Any] = {}
    run_graph(graph, {"x": torch.from_numpy(x)}, Interpreter(observe=seen.__setitem__))
    np.testing.assert_array_equal(seen["y"].numpy(), oracle.runtime(model, {"x": x})[0])
    recorder = Recorder()
    with torch.no_grad(), recorder:
        value = recorder.placeholder("x", torch.from_numpy(x))
        run_graph(graph, {"x": value}, Interpreter(recorder, observe=seen.__setitem__))
        node = recorder.node_of(seen["y"])
    assert node is not None
    assert node.target is torch.ops.onnxplain.fake_quantize.default


@pytest.mark.parametrize("kind", ["uint8", "float8_e4m3fn"])
def test_definitions_equal_the_operators(kind: str) -> None:
    """What an exporter decomposes to is what the trace computes."""
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)) * 3
    arguments = (torch.tensor(0.02), torch.tensor(3.0 if kind == "uint8" else 0.0), 0.0, 255.0, kind)
    assert torch.equal(fake_quantize(x, *arguments), fake_quantize_definition(x, *arguments))
    for rows in (False, True):
        for mine, defined in zip(dynamic_range(x, rows), dynamic_range_definition(x, rows), strict=True):
            assert torch.equal(mine, defined)


def test_operators_keep_torchs_contract() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    arguments = (x, torch.tensor(0.1), torch.tensor(10.0), 0.0, 20.0, "uint8", None)
    torch.library.opcheck(torch.ops.onnxplain.fake_quantize.default, arguments)
    torch.library.opcheck(torch.ops.onnxplain.dynamic_range.default, (x.detach(), True))


def test_int8_shufflenet_equals_onnxruntime_and_has_gradients(shared: Any) -> None:
    path = shared / "data" / "models" / "shufflenet_v2_int8.onnx"
    model = onnx.load(path)
    model.graph.input[0].name, renamed = "x", model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["x" if name == renamed else name for name in node.input]
    x = f32(1, 3, 224, 224)
    (expected,) = oracle.runtime(model, {"x": x})
    leaf = torch.from_numpy(x).requires_grad_()
    (out,) = trace(model, x)(leaf)
    step = 0.1724
    assert np.abs(out.detach().numpy() - expected).max() <= 1.01 * step
    (grad,) = torch.autograd.grad(out[0, int(expected.argmax())], leaf)
    assert np.count_nonzero(grad.numpy()) > 0.5 * x.size
