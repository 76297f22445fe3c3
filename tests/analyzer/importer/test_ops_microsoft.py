"""onnxruntime's own domain against onnxruntime: fused layers, normalisation, attention and the small ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.analyzer.importer import oracle

RNG = np.random.default_rng(0)
MS = "com.microsoft"


def f32(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (RNG.normal(size=shape) * scale).astype(np.float32)


def check(op: str, inputs: dict[str, np.ndarray | None], outputs: int = 1, **settings: Any) -> None:
    """One node of the domain, missing inputs left empty; weights baked in and the first input alone recorded."""
    tolerance = settings.pop("atol", 1e-5)
    keep = settings.pop("keep", outputs)
    given = {k: v for k, v in inputs.items() if v is not None}
    for baked in ((), tuple(list(given)[1:])):
        model = oracle.node_model(op, given, outputs, 21, MS, baked, {MS: 1}, **settings)
        names = [k if v is not None else "" for k, v in inputs.items()]
        del model.graph.node[0].input[:]
        model.graph.node[0].input.extend(names)
        del model.graph.output[keep:]
        oracle.check(model, {k: v for k, v in given.items() if k not in baked}, rtol=1e-4, atol=tolerance)


X4 = f32(2, 4, 6, 6)
W4 = f32(8, 4, 3, 3, scale=0.3)


@pytest.mark.parametrize(
    ("activation", "params"),
    [
        ("Relu", None),
        ("Sigmoid", None),
        ("Tanh", None),
        ("LeakyRelu", [0.2]),
        ("Clip", [-0.5, 0.7]),
        ("HardSigmoid", [0.3, 0.4]),
    ],
)
def test_fused_conv(activation: str, params: list[float] | None) -> None:
    extra = {} if params is None else {"activation_params": params}
    check("FusedConv", {"x": X4, "w": W4, "b": f32(8)}, pads=[1, 1, 1, 1], activation=activation, **extra)


def test_fused_conv_adds_its_fourth_input() -> None:
    inputs = {"x": X4, "w": W4, "b": f32(8), "z": f32(2, 8, 4, 4)}
    check("FusedConv", inputs, activation="Relu")


def test_fused_gemm() -> None:
    inputs = {"a": f32(3, 4), "b": f32(5, 4), "c": f32(5)}
    check("FusedGemm", inputs, transB=1, alpha=0.5, activation="LeakyRelu", activation_alpha=0.3)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_fused_matmul(trans_a: int, trans_b: int, rank: int) -> None:
    batch = (2, 3)[: rank - 2]
    a = f32(*batch, *((5, 4) if trans_a else (4, 5)))
    b = f32(*batch, *((6, 5) if trans_b else (5, 6)))
    check("FusedMatMul", {"a": a, "b": b}, transA=trans_a, transB=trans_b, alpha=0.25)


@pytest.mark.parametrize("trans_a", [0, 1])
def test_fused_matmul_with_the_batch_behind(trans_a: int) -> None:
    """The left factor's rows come before its batch dimensions."""
    a = f32(5, 2, 3, 4) if trans_a else f32(4, 2, 3, 5)
    check("FusedMatMul", {"a": a, "b": f32(2, 3, 5, 6)}, transBatchA=1, transA=trans_a)


def test_fused_matmul_activation_is_the_product_and_its_activation() -> None:
    """onnxruntime has no CPU kernel for the fused one: the two steps are the reference."""
    inputs = {"a": f32(2, 4, 5), "b": f32(5, 6)}
    fused = oracle.node_model(
        "FusedMatMulActivation", inputs, 1, 21, MS, (), {MS: 1}, alpha=0.5, activation="LeakyRelu", activation_alpha=0.1
    )
    product = oracle.node_model("FusedMatMul", inputs, 1, 21, MS, (), {MS: 1}, alpha=0.5)
    (between,) = oracle.runtime(product, inputs)
    np.testing.assert_allclose(
        oracle.table(fused, inputs)[0], np.where(between > 0, between, 0.1 * between), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("op", ["Gelu", "QuickGelu", "FastGelu"])
def test_gelus(op: str) -> None:
    check(op, {"x": f32(3, 7)})


def test_quick_gelu_alpha() -> None:
    check("QuickGelu", {"x": f32(3, 7)}, alpha=1.0)
    check("QuickGelu", {"x": f32(3, 7)}, alpha=0.6)


@pytest.mark.parametrize("op", ["BiasGelu", "FastGelu"])
def test_gelus_with_bias(op: str) -> None:
    check(op, {"x": f32(3, 7), "b": f32(7)})


@pytest.mark.parametrize("bias", [False, True])
def test_skip_layer_normalization(bias: bool) -> None:
    inputs = {"x": f32(2, 3, 8), "s": f32(2, 3, 8), "g": f32(8), "be": f32(8), "b": f32(8) if bias else None}
    check("SkipLayerNormalization", inputs, epsilon=1e-5)


def test_skip_layer_normalization_broadcasts_and_gives_its_sum() -> None:
    inputs = {"x": f32(2, 3, 8), "s": f32(1, 3, 8), "g": f32(8), "be": f32(8), "b": f32(8)}
    model = oracle.node_model("SkipLayerNormalization", inputs, 4, 21, MS, (), {MS: 1}, epsilon=1e-5)
    del model.graph.output[1:3]
    del model.graph.node[0].output[:]
    model.graph.node[0].output.extend(["y0", "", "", "y3"])
    oracle.check(model, inputs)


@pytest.mark.parametrize("bias", [False, True])
def test_skip_simplified_layer_normalization(bias: bool) -> None:
    inputs = {"x": f32(2, 3, 8), "s": f32(2, 3, 8), "g": f32(8), "b": f32(8) if bias else None}
    check("SkipSimplifiedLayerNormalization", inputs, epsilon=1e-5)


@pytest.mark.parametrize("axis", [-1, 1])
def test_simplified_layer_normalization(axis: int) -> None:
    inputs = {"x": f32(2, 3, 8), "g": f32(8) if axis == -1 else f32(3, 8)}
    model = oracle.node_model("SimplifiedLayerNormalization", inputs, 1, 21, "", (), axis=axis, epsilon=1e-5)
    oracle.check(model, inputs)


def _ids(*shape: int, top: int = 10) -> np.ndarray:
    return RNG.integers(0, top, shape).astype(np.int32)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("placed", [False, True])
def test_embed_layer_normalization(masked: bool, segments: bool, placed: bool) -> None:
    inputs = {
        "ids": _ids(2, 4),
        "seg": _ids(2, 4, top=2) if segments else None,
        "words": f32(10, 8),
        "pos": f32(6, 8),
        "kinds": f32(2, 8) if segments else None,
        "g": f32(8),
        "be": f32(8),
        "mask": np.array([[1, 1, 0, 0], [1, 1, 1, 1]], np.int32) if masked else None,
        "places": _ids(2, 4, top=6) if placed else None,
    }
    check("EmbedLayerNormalization", inputs, 2, epsilon=1e-5)


MASKS: dict[str, np.ndarray | None] = {
    "none": None,
    "right": np.array([3, 5], np.int32),
    "both": np.array([5, 4, 1, 0], np.int32),
    "keys": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32),
    "queries": np.tril(np.ones((2, 5, 5), np.int32)),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(mask: str, causal: int) -> None:
    inputs = {"x": f32(2, 5, 8), "w": f32(8, 24, scale=0.4), "b": f32(24), "m": MASKS[mask]}
    check("Attention", inputs, num_heads=2, unidirectional=causal)


@pytest.mark.parametrize("mask", ["right", "keys", "queries"])
def test_attention_in_half_precision(mask: str) -> None:
    """The mask is no reason to leave half precision."""
    half = {"x": f32(2, 5, 8), "w": f32(8, 24, scale=0.4), "b": f32(24)}
    inputs = {**{name: value.astype(np.float16) for name, value in half.items()}, "m": MASKS[mask]}
    check("Attention", inputs, num_heads=2, atol=1e-2)


def test_attention_with_other_widths_and_bias() -> None:
    inputs = {"x": f32(2, 5, 6), "w": f32(6, 8 + 8 + 4), "b": f32(20), "m": None, "p": None, "a": f32(2, 2, 5, 5)}
    check("Attention", inputs, num_heads=2, qkv_hidden_sizes=[8, 8, 4], scale=0.3)


def test_attention_with_the_past() -> None:
    inputs = {"x": f32(2, 3, 8), "w": f32(8, 24), "b": f32(24), "m": None, "p": f32(2, 2, 2, 4, 4)}
    check("Attention", inputs, 2, num_heads=2, unidirectional=1)


MHA_MASKS = {k: v for k, v in MASKS.items() if k in ("none", "keys", "queries")}


@pytest.mark.parametrize("mask", MHA_MASKS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("causal", [0, 1])
def test_multi_head_attention(mask: str, bias: bool, causal: int) -> None:
    inputs = {
        "q": f32(2, 5, 8),
        "k": f32(2, 5, 8),
        "v": f32(2, 5, 8),
        "b": f32(24) if bias else None,
        "m": MHA_MASKS[mask],
        "a": f32(2, 2, 5, 5),
    }
    check("MultiHeadAttention", inputs, num_heads=2, unidirectional=causal)


def test_multi_head_attention_of_packed_values() -> None:
    """onnxruntime takes packed values on other devices only: the same values side by side are the reference."""
    qkv = f32(2, 5, 2, 3, 4)
    q, k, v = (qkv[:, :, :, i].reshape(2, 5, 8) for i in range(3))
    apart = {"q": q, "k": k, "v": v}
    (expected,) = oracle.runtime(
        oracle.node_model("MultiHeadAttention", apart, 1, 21, MS, (), {MS: 1}, num_heads=2), apart
    )
    for feed in ({"q": qkv}, {"q": q, "k": qkv[:, :, :, 1:]}):
        model = oracle.node_model("MultiHeadAttention", feed, 1, 21, MS, (), {MS: 1}, num_heads=2)
        np.testing.assert_allclose(oracle.table(model, feed)[0], expected, rtol=1e-4, atol=1e-5)


def test_multi_head_attention_across_with_heads_in_place() -> None:
    inputs = {"q": f32(2, 3, 8), "k": f32(2, 2, 5, 4), "v": f32(2, 2, 5, 4)}
    check("MultiHeadAttention", inputs, num_heads=2, scale=0.7)


def test_multi_head_attention_with_the_past() -> None:
    inputs = {
        "q": f32(2, 3, 8),
        "k": f32(2, 3, 8),
        "v": f32(2, 3, 8),
        "b": None,
        "m": None,
        "a": None,
        "pk": f32(2, 2, 4, 4),
        "pv": f32(2, 2, 4, 4),
    }
    check("MultiHeadAttention", inputs, 3, num_heads=2)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("one", [False, True])
def test_rotary_embedding(interleaved: int, rank: int, one: bool) -> None:
    x = f32(2, 3, 16) if rank == 3 else f32(2, 2, 3, 8)
    positions = np.array([2], np.int64) if one else np.array([[0, 1, 2], [4, 5, 6]], np.int64)
    inputs = {"x": x, "p": positions, "c": f32(10, 4), "s": f32(10, 4)}
    check("RotaryEmbedding", inputs, interleaved=interleaved)


@pytest.mark.parametrize("rotary", [0, 1])
@pytest.mark.parametrize("window", [-1, 2])
def test_group_query_attention(rotary: int, window: int) -> None:
    inputs = {
        "q": f32(2, 5, 64),
        "k": f32(2, 5, 32),
        "v": f32(2, 5, 32),
        "pk": None,
        "pv": None,
        "last": np.array([4, 4], np.int32),
        "total": np.array(5, np.int32),
        "cos": f32(8, 8) if rotary else None,
        "sin": f32(8, 8) if rotary else None,
    }
    check("GroupQueryAttention", inputs, 3, num_heads=4, kv_num_heads=2, do_rotary=rotary, local_window_size=window)


@pytest.mark.parametrize(("inner", "shape"), [(1, (2, 1, 1, 5)), (0, (1, 3, 4, 5))])
def test_bias_softmax(inner: int, shape: tuple[int, ...]) -> None:
    """onnxruntime's kernel is for other devices: numpy is the reference."""
    feed = {"x": f32(2, 3, 4, 5), "b": f32(*shape)}
    model = oracle.node_model("BiasSoftmax", feed, 1, 21, MS, (), {MS: 1}, axis=3, is_inner_broadcast=inner)
    e = np.exp(feed["x"] + feed["b"])
    np.testing.assert_allclose(oracle.table(model, feed)[0], e / e.sum(-1, keepdims=True), rtol=1e-5, atol=1e-6)


def test_is_all_finite() -> None:
    for values, expected in (([1.0, 2.0], True), ([1.0, np.inf], False), ([np.nan, 0.0], False)):
        feed = {"x": np.array(values, np.float32)}
        model = oracle.node_model("IsAllFinite", feed, 1, 21, MS, (), {MS: 1})
        assert oracle.table(model, feed)[0] == expected


def test_small_operators() -> None:
    check("Inverse", {"x": f32(2, 3, 3)}, atol=1e-3)
    check("ExpandDims", {"x": f32(2, 3), "axis": np.array(1, np.int32)})
    check("ExpandDims", {"x": f32(2, 3), "axis": np.array(-1, np.int32)})
    check("CDist", {"a": f32(3, 4), "b": f32(5, 4)}, metric="euclidean", atol=1e-4)
    check("CDist", {"a": f32(3, 4), "b": f32(5, 4)}, metric="sqeuclidean", atol=1e-4)
    check("Trilu", {"x": f32(4, 5)}, upper=1)
    check("GatherND", {"x": f32(3, 4), "i": np.array([[0, 1], [2, 3]], np.int64)})
    check("Pad", {"x": f32(3, 4), "p": np.array([0, 1, 2, 0], np.int64), "v": np.array([1.5], np.float32)})
    check("GridSample", {"x": f32(1, 2, 4, 4), "g": f32(1, 3, 3, 2, scale=0.5)}, align_corners=1)
    check(
        "ConvTransposeWithDynamicPads", {"x": X4, "w": W4.transpose(1, 0, 2, 3), "p": np.array([1, 0, 1, 0], np.int64)}
    )


def test_unique_in_order_of_appearance() -> None:
    check("Unique", {"x": np.array([2, 1, 1, 3, 4, 3], np.float32)}, 3)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", [False, True])
def test_matmul_nbits(bits: int, zero: bool) -> None:
    inner, outer, block = 48, 8, 16
    blocks = inner // block
    inputs = {
        "a": f32(2, 3, inner),
        "b": RNG.integers(0, 256, (outer, blocks, block * bits // 8)).astype(np.uint8),
        "s": np.abs(f32(outer, blocks)) * 0.1,
        "z": RNG.integers(0, 256, (outer, -(-blocks * bits // 8))).astype(np.uint8) if zero else None,
        "g": None,
        "bias": f32(outer),
    }
    check("MatMulNBits", inputs, K=inner, N=outer, bits=bits, block_size=block, atol=1e-3)


def by_numpy(op: str, feed: dict[str, np.ndarray], expected: np.ndarray, **attributes: Any) -> None:
    """For operators whose kernels are for other devices: a closed form is the reference."""
    model = oracle.node_model(op, feed, 1, 21, MS, (), {MS: 1}, **attributes)
    for record in (False, True):
        np.testing.assert_allclose(oracle.table(model, feed, record)[0], expected, rtol=1e-4, atol=1e-5)


def test_operators_of_other_devices() -> None:
    x, bias, skip = f32(2, 3, 8), f32(8), f32(2, 3, 8)
    by_numpy("BiasAdd", {"x": x, "b": bias, "s": skip}, x + bias + skip)
    left, right = np.split(x + bias, 2, -1)
    gelu = right * 0.5 * (1 + np.vectorize(math.erf)(right / np.sqrt(2)))
    by_numpy("BiasSplitGelu", {"x": x, "b": bias}, left * gelu)
    a, b = f32(3, 4, 2), f32(3, 4, 2)
    product = (a[..., 0] + 1j * a[..., 1]) * (b[..., 0] + 1j * b[..., 1])
    by_numpy("ComplexMul", {"a": a, "b": b}, np.stack([product.real, product.imag], -1))
    product = (a[..., 0] + 1j * a[..., 1]) * (b[..., 0] - 1j * b[..., 1])
    by_numpy("ComplexMulConj", {"a": a, "b": b}, np.stack([product.real, product.imag], -1))
    by_numpy("BiasDropout", {"x": x, "b": bias, "r": skip}, x + bias + skip)


def test_channels_last_convolutions() -> None:
    """Against the standard convolution with its values turned."""
    feed = {"x": X4, "w": W4, "b": f32(8)}
    (expected,) = oracle.runtime(oracle.node_model("Conv", feed, pads=[1, 1, 1, 1]), feed)
    last = expected.transpose(0, 2, 3, 1)
    x = X4.transpose(0, 2, 3, 1).copy()
    whole = {"x": x, "w": W4.transpose(0, 2, 3, 1).copy(), "b": feed["b"]}
    by_numpy("NhwcConv", whole, last, pads=[1, 1, 1, 1])
    fused = {"x": x, "w": W4, "b": feed["b"]}
    by_numpy("NhwcFusedConv", fused, np.maximum(last, 0), pads=[1, 1, 1, 1], activation="Relu")
