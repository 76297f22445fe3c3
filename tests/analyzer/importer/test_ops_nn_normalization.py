"""Normalisation layers against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from analyzer.errors import InputError
from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import build
from analyzer.importer.interpreter import Interpreter, run_graph
from analyzer.importer.recorder import Recorder
from tests.analyzer.importer.oracle import check, node_model, table


def random(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(dtype)


def batch_norm_feed(shape: tuple[int, ...], channels: int, dtype: str = "float32") -> dict[str, np.ndarray]:
    feed = {"x": random(*shape, dtype=dtype)}
    for i, name in enumerate(("scale", "bias", "mean", "var")):
        values = np.random.default_rng(i).normal(size=channels)
        feed[name] = (np.abs(values) if name == "var" else values).astype(dtype)
    return feed


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5), (1, 3, 2, 3, 4)])
def test_batch_normalization(opset: int, shape: tuple[int, ...]) -> None:
    feed = batch_norm_feed(shape, 3)
    baked = ("scale", "bias", "mean", "var")
    check(node_model("BatchNormalization", feed, opset=opset, initializers=baked, epsilon=1e-2), feed)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_batch_normalization_dtypes(dtype: str) -> None:
    feed = batch_norm_feed((2, 3, 4, 5), 3, dtype)
    check(node_model("BatchNormalization", feed), feed, rtol=5e-3, atol=5e-3 if dtype == "float16" else 1e-9)


def test_batch_normalization_of_every_element() -> None:
    feed = batch_norm_feed((2, 3, 4), 12)
    for name in ("scale", "bias", "mean", "var"):
        feed[name] = feed[name].reshape(3, 4)
    check(node_model("BatchNormalization", feed, opset=7, spatial=0), feed)


def test_batch_normalization_in_training_mode() -> None:
    feed = batch_norm_feed((4, 3, 5), 3)
    model = node_model("BatchNormalization", feed, outputs=3, opset=15, training_mode=1, momentum=0.8)
    out, mean, var = table(model, feed)
    x = feed["x"]
    batch_mean, batch_var = x.mean((0, 2)), x.var((0, 2))
    expected = (x - batch_mean[:, None]) / np.sqrt(batch_var[:, None] + 1e-5)
    np.testing.assert_allclose(out, expected * feed["scale"][:, None] + feed["bias"][:, None], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, 0.8 * feed["mean"] + 0.2 * batch_mean, rtol=1e-5)
    np.testing.assert_allclose(var, 0.8 * feed["var"] + 0.2 * batch_var, rtol=1e-5)


def recorded_targets(op_type: str, feed: dict[str, np.ndarray], **attributes: Any) -> list[Any]:
    """ATen operators that a node is recorded as, its first input the recorded one."""
    model = node_model(op_type, feed, initializers=tuple(feed)[1:], **attributes)
    recorder = Recorder()
    with torch.no_grad(), recorder:
        x = recorder.placeholder("x", as_tensor(feed["x"]))
        out = run_graph(build(model, numpy_helper.to_array), {"x": x}, Interpreter(recorder))
    recorder.finish(out)
    return [n.target for n in recorder.graph.nodes if n.op == "call_function" and n.target.__name__ != "getitem"]


def test_each_is_one_native_operator() -> None:
    aten = torch.ops.aten
    channels = {"x": random(2, 3, 4), "scale": random(3), "bias": random(3)}
    assert recorded_targets("BatchNormalization", batch_norm_feed((2, 3, 4), 3)) == [aten.native_batch_norm.default]
    assert recorded_targets("InstanceNormalization", channels) == [aten.native_group_norm.default]
    assert recorded_targets("GroupNormalization", channels, num_groups=1) == [aten.native_group_norm.default]
    last = {"x": random(2, 3, 4), "scale": random(4), "bias": random(4)}
    assert recorded_targets("LayerNormalization", last) == [aten.native_layer_norm.default]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (1, 3, 2, 3, 4)])
@pytest.mark.parametrize("opset", [6, 22])
def test_instance_normalization(shape: tuple[int, ...], opset: int) -> None:
    feed = {"x": random(*shape), "scale": random(3), "bias": random(3)}
    check(node_model("InstanceNormalization", feed, opset=opset, epsilon=1e-2), feed)


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization(opset: int) -> None:
    size = 2 if opset == 18 else 6
    feed = {"x": random(2, 6, 4, 5), "scale": random(size), "bias": random(size)}
    check(node_model("GroupNormalization", feed, opset=opset, num_groups=2, epsilon=1e-2), feed, atol=1e-4)


@pytest.mark.parametrize("axis", [-1, 1, 2, 0])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(axis: int, outputs: int, bias: bool) -> None:
    x = random(2, 3, 4)
    feed = {"x": x, "scale": random(*x.shape[axis:])}
    if bias:
        feed["bias"] = random(*x.shape[axis:])
    check(node_model("LayerNormalization", feed, outputs=outputs, opset=17, axis=axis), feed)


@pytest.mark.parametrize("shape", [(1,), (4,), (1, 4), (3, 1), (2, 1, 1), (2, 3, 4)])
def test_layer_normalization_with_a_scale_that_broadcasts(shape: tuple[int, ...]) -> None:
    x, scale = random(2, 3, 4), random(*shape)
    got = table(node_model("LayerNormalization", {"x": x, "scale": scale}, axis=1), {"x": x, "scale": scale})[0]
    centred = x - x.mean((1, 2), keepdims=True)
    expected = centred / np.sqrt((centred**2).mean((1, 2), keepdims=True) + 1e-5) * scale
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_layer_normalization_dtypes(dtype: str) -> None:
    feed = {"x": random(2, 8, dtype=dtype), "scale": random(8, dtype=dtype), "bias": random(8, dtype=dtype)}
    check(node_model("LayerNormalization", feed, opset=17), feed, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rms_normalization(axis: int, dtype: str) -> None:
    x = random(2, 3, 4, dtype=dtype)
    feed = {"x": x, "scale": random(*x.shape[axis:], dtype=dtype)}
    check(node_model("RMSNormalization", feed, opset=23, axis=axis), feed, rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("shape", [(2, 6, 3, 4), (1, 6)])
def test_lrn(size: int, shape: tuple[int, ...]) -> None:
    feed = {"x": random(*shape)}
    model = node_model("LRN", feed, size=size, alpha=0.3, beta=0.6, bias=1.5)
    if len(shape) == 4:
        check(model, feed)
    else:  # onnxruntime wants rank 4
        np.testing.assert_allclose(table(model, feed)[0], lrn(feed["x"], size), rtol=1e-5)


def lrn(x: np.ndarray, size: int) -> np.ndarray:
    """The standard's definition, channel by channel."""
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        first, last = max(0, c - (size - 1) // 2), min(x.shape[1] - 1, c + -(-(size - 1) // 2))
        squares = (x[:, first : last + 1] ** 2).sum(1)
        out[:, c] = x[:, c] / (1.5 + 0.3 / size * squares) ** 0.6
    return out


@pytest.mark.parametrize("size", [2, 4])
def test_lrn_of_even_size(size: int) -> None:
    """Which onnxruntime refuses."""
    feed = {"x": random(2, 6, 3, 4)}
    got = table(node_model("LRN", feed, size=size, alpha=0.3, beta=0.6, bias=1.5), feed)[0]
    np.testing.assert_allclose(got, lrn(feed["x"], size), rtol=1e-5)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_lp_normalization(p: int, axis: int) -> None:
    x = random(2, 3, 4)
    x[0] = 0
    x[:, 1] = 0
    feed = {"x": x}
    check(node_model("LpNormalization", feed, p=p, axis=axis), feed)


@pytest.mark.parametrize("axes", [None, [0, 2, 3], [2, 3], [1]])
def test_mean_variance_normalization(axes: list[int] | None) -> None:
    feed = {"x": random(2, 3, 4, 5)}
    check(node_model("MeanVarianceNormalization", feed, opset=13, **({"axes": axes} if axes else {})), feed)


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 22])
@pytest.mark.parametrize("outputs", [1, 2])
def test_dropout(opset: int, outputs: int) -> None:
    feed = {"x": random(2, 3)}
    check(node_model("Dropout", feed, outputs=outputs, opset=opset), feed)


def test_dropout_in_training_mode() -> None:
    feed = {"x": random(2, 3), "ratio": np.array(0.0, np.float32), "training": np.array(True)}
    check(node_model("Dropout", feed, outputs=2, opset=13), feed)
    feed["ratio"] = np.array(0.5, np.float32)
    with pytest.raises(InputError, match="at random"):
        table(node_model("Dropout", feed, opset=13), feed)
