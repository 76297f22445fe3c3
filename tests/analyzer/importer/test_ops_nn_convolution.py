"""Convolutions against onnxruntime, their attributes made by hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analyzer.errors import InputError
from tests.analyzer.importer.oracle import check, node_model, runtime, table

QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def random(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@st.composite
def windows(draw: st.DrawFn, dims: int) -> tuple[dict[str, Any], list[int], list[int]]:
    """Attributes of a window, spatial sizes of the data, and the kernel."""
    each = st.integers
    kernel = [draw(each(1, 3)) for _ in range(dims)]
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if draw(st.booleans()):
        attributes["strides"] = [draw(each(1, 3)) for _ in range(dims)]
    mode = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if mode != "NOTSET":
        attributes["auto_pad"] = mode
    if mode in ("NOTSET", "VALID") and draw(st.booleans()):
        attributes["dilations"] = [draw(each(1, 2)) for _ in range(dims)]
    if mode == "NOTSET" and draw(st.booleans()):
        attributes["pads"] = [draw(each(0, 2)) for _ in range(2 * dims)]
    return attributes, [draw(each(5, 8)) for _ in range(dims)], kernel


@QUICK
@given(st.data(), st.integers(1, 3), st.sampled_from([1, 2, 4]), st.booleans(), st.sampled_from([10, 11, 22]))
def test_conv(data: st.DataObject, dims: int, group: int, bias: bool, opset: int) -> None:
    attributes, spatial, kernel = data.draw(windows(dims))
    feed = {"x": random(2, 4, *spatial), "w": random(4, 4 // group, *kernel, seed=1)}
    if bias:
        feed["b"] = random(4, seed=2)
    check(
        node_model("Conv", feed, opset=opset, initializers=("w", "b")[: len(feed) - 1], group=group, **attributes), feed
    )


@QUICK
@given(st.data(), st.integers(1, 3), st.sampled_from([1, 2]), st.booleans(), st.sampled_from(["pads", "shape", "auto"]))
def test_conv_transpose(data: st.DataObject, dims: int, group: int, bias: bool, form: str) -> None:
    each = st.integers
    kernel = [data.draw(each(1, 3)) for _ in range(dims)]
    strides = [data.draw(each(1, 3)) for _ in range(dims)]
    dilations = [data.draw(each(1, 2)) for _ in range(dims)]
    spatial = [data.draw(each(3, 5)) for _ in range(dims)]
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": group}
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    full = [(n - 1) * s + k for n, s, k in zip(spatial, strides, span, strict=True)]
    more = [data.draw(each(0, s - 1)) for s in strides]
    if form != "shape" and data.draw(st.booleans()):
        attributes["output_padding"] = more
    if form == "pads":
        pads = [data.draw(each(0, 1)) for _ in range(2 * dims)]
        assume(all(f > pads[i] + pads[i + dims] for i, f in enumerate(full)))
        attributes["pads"] = pads
    else:
        attributes["auto_pad"] = data.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
    if form == "shape":
        attributes["output_shape"] = [data.draw(each(max(1, f - 2), f)) for f in full]
    feed = {"x": random(2, 4, *spatial), "w": random(4, 3, *kernel, seed=1)}
    if bias:
        feed["b"] = random(3 * group, seed=2)
    check(node_model("ConvTranspose", feed, **attributes), feed)


def test_conv_transpose_output_shape_without_auto_pad() -> None:
    feed = {"x": random(1, 2, 4, 4), "w": random(2, 3, 3, 3, seed=1)}
    check(node_model("ConvTranspose", feed, strides=[2, 2], output_shape=[8, 7]), feed)


def test_conv_transpose_larger_than_its_natural_size() -> None:
    feed = {"x": random(1, 2, 4, 4), "w": random(2, 3, 3, 3, seed=1), "b": random(3, seed=2)}
    check(node_model("ConvTranspose", feed, strides=[2, 2], output_shape=[10, 10]), feed)


def test_conv_with_computed_weights() -> None:
    """The kernel is computed from the input: both operands of the convolution are recorded."""
    nodes = [
        onnx.helper.make_node("Tanh", ["w"], ["t"]),
        onnx.helper.make_node("Conv", ["x", "t"], ["y"], pads=[1, 1, 1, 1]),
    ]
    feed = {"x": random(1, 2, 5, 5), "w": random(3, 2, 3, 3)}
    typed = [onnx.helper.make_tensor_value_info(k, 1, v.shape) for k, v in feed.items()]
    graph = onnx.helper.make_graph(nodes, "g", typed, [onnx.ValueInfoProto(name="y")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    check(model, feed)


def test_conv_in_half_precision() -> None:
    feed = {"x": random(1, 3, 6, 6, dtype="float16"), "w": random(2, 3, 3, 3, seed=1, dtype="float16")}
    check(node_model("Conv", feed), feed, rtol=2e-2, atol=2e-2)


def test_conv_larger_than_its_input_is_an_error() -> None:
    feed = {"x": random(1, 1, 2, 2), "w": random(1, 1, 3, 3)}
    with pytest.raises(InputError, match="larger than its padded input"):
        table(node_model("Conv", feed), feed)


@QUICK
@given(st.integers(1, 2), st.integers(1, 2), st.booleans(), st.booleans(), st.integers(0, 1), st.integers(1, 2))
def test_deform_conv(group: int, parts: int, bias: bool, masked: bool, pad: int, stride: int) -> None:
    out = [(6 + 2 * pad - 3) // stride + 1, (5 + 2 * pad - 2) // stride + 1]
    feed = {
        "x": random(2, 4, 6, 5),
        "w": random(4, 4 // group, 3, 2, seed=1),
        "offset": random(2, parts * 12, *out, seed=2),
        "b" if bias else "": random(4, seed=3),
    }
    if masked:
        feed["mask"] = random(2, parts * 6, *out, seed=4)
    model = node_model(
        "DeformConv", feed, opset=22, group=group, offset_group=parts, pads=[pad] * 4, strides=[stride] * 2
    )
    check(model, {k: v for k, v in feed.items() if k}, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 2, 1]])
@pytest.mark.parametrize("strides", [[1, 1], [2, 1]])
def test_col2im(pads: list[int], strides: list[int]) -> None:
    image, block = [6, 5], [2, 3]
    padded = [image[0] + pads[0] + pads[2], image[1] + pads[1] + pads[3]]
    count = [(p - b) // s + 1 for p, b, s in zip(padded, block, strides, strict=True)]
    feed = {
        "x": random(2, 3 * 6, count[0] * count[1]),
        "image": np.array(image, np.int64),
        "block": np.array(block, np.int64),
    }
    model = node_model("Col2Im", feed, initializers=("image", "block"), pads=pads, strides=strides)
    check(model, feed)


def test_col2im_with_three_dimensions() -> None:
    feed = {
        "x": random(1, 2 * 8, 27),
        "image": np.array([4, 4, 4], np.int64),
        "block": np.array([2, 2, 2], np.int64),
    }
    check(node_model("Col2Im", feed, initializers=("image", "block")), feed)


def test_one_convolution_is_recorded() -> None:
    import torch

    from analyzer.importer.conversion import as_tensor
    from analyzer.importer.graph import build
    from analyzer.importer.interpreter import Interpreter, run_graph
    from analyzer.importer.recorder import Recorder

    feed = {"x": random(1, 2, 5, 5), "w": random(2, 2, 3, 3), "b": random(2)}
    model = node_model("Conv", feed, initializers=("w", "b"), pads=[1, 1, 1, 1])
    recorder = Recorder()
    with torch.no_grad(), recorder:
        x = recorder.placeholder("x", as_tensor(feed["x"]))
        out = run_graph(build(model, onnx.numpy_helper.to_array), {"x": x}, Interpreter(recorder))
    recorder.finish(out)
    called = [node.target for node in recorder.graph.nodes if node.op == "call_function"]
    assert called == [torch.ops.aten.convolution.default]
    assert runtime(model, feed)[0].shape == (1, 2, 5, 5)
