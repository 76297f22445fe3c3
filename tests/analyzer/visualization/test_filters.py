"""Weights are what the layers work with: each is held against what the layer does to unit inputs, in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import analyzer
from analyzer.errors import UnsupportedError, UsageError
from analyzer.jobs.filter_pictures import filter_picture
from analyzer.visualization.filters import COMPUTED, filters
from tests.analyzer.visualization.models import model, nested, pictures

RNG = np.random.default_rng(5)
HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> net '


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def outputs(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return np.asarray(session.run(None, {"x": x})[0], np.float64)


INT8 = RNG.integers(-128, 128, (6, 4), np.int8)
PRODUCTS: dict[str, tuple[str, dict[str, Any]]] = {
    "MatMul": ("y = MatMul (x, w)", {"w": floats(4, 3)}),
    "MatMul of half precision": (
        "a = Cast <to = 10> (x) b = MatMul (a, w) y = Cast <to = 1> (b)", {"w": floats(4, 3).astype(np.float16)},
    ),
    "Gemm": ("y = Gemm (x, w)", {"w": floats(4, 3)}),
    "Gemm transposed": ("y = Gemm <transB = 1> (x, w)", {"w": floats(3, 4)}),
    "turned weight": ("t = Transpose <perm = [1, 0]> (w) y = MatMul (x, t)", {"w": floats(3, 4)}),
    "dequantised": (
        "d = DequantizeLinear <axis = 0> (q, s, z) t = Transpose <perm = [1, 0]> (d) y = MatMul (x, t)",
        {"q": INT8, "s": np.abs(floats(6)), "z": RNG.integers(-9, 9, 6, np.int8)},
    ),
    "MatMulIntegerToFloat": (
        "q, qs, qz = DynamicQuantizeLinear (x) y = com.microsoft.MatMulIntegerToFloat (q, w, qs, s, qz, z)",
        {"w": INT8.T.copy(), "s": np.float32(0.3), "z": np.int8(4)},
    ),
    "DynamicQuantizeMatMul": (
        "y = com.microsoft.DynamicQuantizeMatMul (x, w, s, z)", {"w": INT8.T.copy(), "s": np.float32(0.3), "z": np.int8(4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PRODUCTS)
def test_a_product_is_its_answer_to_unit_vectors(kind: str) -> None:
    body, weights = PRODUCTS[kind]
    proto = model(f"{HEAD} (float[n, 4] x) => (float[n, m] y) {{ {body} }}", **weights)
    (found,) = filters(analyzer.load(proto)).values()
    assert found.kind == "product"
    assert found.scaled
    assert found.quantised == any(np.asarray(value).dtype == np.int8 for value in weights.values())
    answers = outputs(proto, np.eye(4, dtype=np.float32))
    np.testing.assert_allclose(np.asarray(found.weights, np.float64).T, answers, rtol=2e-3, atol=1e-5)


CONVOLUTIONS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "Conv": ("y = Conv <pads = [2, 2, 2, 2]> (x, w)", 2, {"w": floats(5, 2, 3, 3)}),
    "ConvTranspose": ("y = ConvTranspose (x, w)", 2, {"w": floats(2, 5, 3, 3)}),
    "FusedConv": ('y = com.microsoft.FusedConv <pads = [2, 2, 2, 2]> (x, w)', 2, {"w": floats(5, 2, 3, 3)}),
    "QLinearConv": (
        "a = QuantizeLinear (x, xs, xz) b = QLinearConv <pads = [2, 2, 2, 2]> (a, xs, xz, w, ws, wz, ys, yz) "
        "y = DequantizeLinear (b, ys, yz)",
        2,
        {"xs": np.float32(1), "xz": np.uint8(0), "w": RNG.integers(-100, 100, (5, 2, 3, 3), np.int8),
         "ws": np.array([1, 0.5, 0.5, 1, 0.25], np.float32), "wz": np.zeros(5, np.int8), "ys": np.float32(1),
         "yz": np.uint8(128)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_kernel_is_its_answer_to_an_impulse(kind: str) -> None:
    body, channels, weights = CONVOLUTIONS[kind]
    proto = model(f"{HEAD} (float[n, {channels}, 1, 1] x) => (float[n, a, b, c] y) {{ {body} }}", **weights)
    (found,) = filters(analyzer.load(proto)).values()
    assert found.kind == "convolution"
    impulses = np.eye(channels, dtype=np.float32)[:, :, None, None]
    answers = outputs(proto, impulses).swapaxes(0, 1)
    if kind != "ConvTranspose":
        answers = answers[..., ::-1, ::-1]  # a convolution of ONNX correlates
    atol = 0.51 if kind == "QLinearConv" else 1e-5  # whose outputs are whole numbers here
    np.testing.assert_allclose(found.weights, answers, rtol=1e-4, atol=atol)
    if kind == "QLinearConv":
        exact = weights["w"] * weights["ws"][:, None, None, None]
        np.testing.assert_array_equal(found.weights, exact)


def test_outputs_of_a_transposed_convolution_in_groups_come_first() -> None:
    weights = floats(4, 3, 2, 2)
    body = "y = ConvTranspose <group = 2> (x, w)"
    proto = model(f"{HEAD} (float[n, 4, 1, 1] x) => (float[n, a, b, c] y) {{ {body} }}", w=weights)
    (found,) = filters(analyzer.load(proto)).values()
    assert found.weights.shape == (6, 2, 2, 2)
    answers = outputs(proto, np.eye(4, dtype=np.float32)[:, :, None, None])  # (inputs, outputs, 2, 2)
    for output in range(6):
        own = [2 * (output // 3), 2 * (output // 3) + 1]
        np.testing.assert_allclose(found.weights[output], answers[own, output], rtol=1e-5)


def test_whole_numbers_without_a_scale_are_said_to_be_such() -> None:
    body = "a = Cast <to = 2> (x) b = MatMulInteger (a, w, az, wz) y = Cast <to = 1> (b)"
    proto = model(
        f"{HEAD} (float[n, 4] x) => (float[n, 6] y) {{ {body} }}", w=INT8.T.copy(), az=np.uint8(0), wz=np.int8(3)
    )
    (found,) = filters(analyzer.load(proto)).values()
    assert not found.scaled
    np.testing.assert_array_equal(found.weights, INT8.astype(np.float64) - 3)


def test_weights_that_are_computed_are_named_and_products_of_values_are_no_layers() -> None:
    body = "k = Reshape (x, to) c = Conv (x, k) a = MatMul (x, x) g = MatMul (a, w) s = ReduceSum (c) y = Add (g, s)"
    text = f"{HEAD} (float[1, 1, 3, 3] x) => (float[1, 1, 3, 3] y) {{ {body} }}"
    found = filters(analyzer.load(model(text, to=np.array([1, 1, 3, 3]), w=floats(3, 3))))
    assert list(found) == ["g"]
    assert found.skipped == {"c": COMPUTED}


def test_layers_without_filters_are_refused() -> None:
    with pytest.raises(UsageError, match="operators with weights here: Conv, MatMul") as caught:
        filters(analyzer.load(pictures()), "Relu")
    assert caught.value.code == "layer.no_filters"
    with pytest.raises(UnsupportedError, match="no layer of the model has filters"):
        filters(analyzer.load(nested()))


@pytest.mark.parametrize(
    ("x", "body", "weights", "colours", "shows"),
    [
        ("3, 8, 8", "s = Sub (x, m) v = Conv (s, w)", floats(5, 3, 3, 3), True, "filters in colours"),
        ("8, 8, 3", "t = Transpose <perm = [0, 3, 1, 2]> (x) v = Conv (t, w)", floats(5, 3, 3, 3), True, "filters in colours"),
        ("3, 8, 8", "p = MaxPool <kernel_shape = [2, 2]> (x) v = Conv (p, w)", floats(5, 3, 3, 3), False,
         "mean of each filter over the 3 channels that it reads"),
        ("1, 8, 8", "v = Conv (x, w)", floats(70, 1, 3, 3), False, "filters"),
        ("2, 8, 8", "v = Conv (x, w)", floats(5, 2, 1, 1), False, "weights as a heat map"),
        ("2, 8", "v = Conv (x, w)", floats(5, 2, 3), False, "mean of each filter over the 2 channels that it reads"),
        ("1, 8, 8, 8", "v = Conv (x, w)", floats(5, 1, 3, 3, 3), False, "filters, and over 1 axes of the kernel"),
    ],
)  # fmt: skip
def test_the_picture_says_what_it_shows(x: str, body: str, weights: np.ndarray, colours: bool, shows: str) -> None:
    extra = {"m": floats(3, 1, 1)} if "m)" in body else {}
    loaded = analyzer.load(model(f"{HEAD} (float[n, {x}] x) => (float y) {{ {body} y = ReduceSum <keepdims = 0> (v) }}",
                                 w=weights, **extra))  # fmt: skip
    found = filters(loaded)["v"]
    assert found.colours == colours
    pixels, said = filter_picture(found, "net")
    assert said == shows
    assert pixels.std() > 0
