"""Attention and what belongs to it, against onnxruntime and plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analyzer.importer.oracle import check, node_model, table

QUICK = settings(max_examples=60, deadline=None, derandomize=True)


def random(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@QUICK
@given(
    flat=st.booleans(),
    groups=st.sampled_from([1, 2, 4]),
    mask=st.sampled_from(["none", "bool", "float", "float4"]),
    past=st.booleans(),
    causal=st.booleans(),
    softcap=st.sampled_from([0.0, 2.0]),
    scale=st.sampled_from([None, 0.3]),
    mode=st.sampled_from([0, 1, 2, 3]),
)
def test_attention(
    flat: bool,
    groups: int,
    mask: str,
    past: bool,
    causal: bool,
    softcap: float,
    scale: float | None,
    mode: int,
) -> None:
    batch, heads, queries, keys, size, value_size, before = 2, 4, 3, 5, 6, 7, 2 if past else 0
    feed = {
        "q": random(batch, heads, queries, size),
        "k": random(batch, groups, keys, size, seed=1),
        "v": random(batch, groups, keys, value_size, seed=2),
    }
    attributes: dict[str, Any] = {"softcap": softcap, "is_causal": int(causal), "qk_matmul_output_mode": mode}
    if scale:
        attributes["scale"] = scale
    if flat:
        feed = {k: x.transpose(0, 2, 1, 3).reshape(batch, x.shape[2], -1) for k, x in feed.items()}
        attributes |= {"q_num_heads": heads, "kv_num_heads": groups}
    shape = (queries, keys + before)
    if mask == "bool":
        feed["mask"] = np.random.default_rng(3).random(shape) > 0.3
        feed["mask"][:, 0] = True
    elif mask != "none":
        feed["mask"] = random(*((batch, 1) if mask == "float4" else ()), *shape, seed=3)
    if past:
        if mask == "none":
            feed[""] = np.zeros(0, np.float32)
        feed["past_key"] = random(batch, groups, before, size, seed=4)
        feed["past_value"] = random(batch, groups, before, value_size, seed=5)
    model = node_model("Attention", feed, outputs=4, opset=23, **attributes)
    check(model, {k: v for k, v in feed.items() if k})


@pytest.mark.parametrize("hidden", [False, -np.inf, np.finfo(np.float32).min])
@pytest.mark.parametrize("mode", [2, 3])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("baked", [(), ("mask",)])
def test_a_query_that_sees_nothing_gives_zeros(
    hidden: float | bool, mode: int, causal: int, baked: tuple[str, ...]
) -> None:
    feed = {"q": random(1, 1, 2, 4), "k": random(1, 1, 3, 4), "v": random(1, 1, 3, 4)}
    feed["mask"] = np.array([[False, False, False], [True, False, True]])
    if hidden is not False:
        feed["mask"] = np.where(feed["mask"], 0, hidden).astype(np.float32)
    attributes = {"qk_matmul_output_mode": mode, "is_causal": causal}
    model = node_model("Attention", feed, outputs=4, opset=23, initializers=baked, **attributes)
    check(model, feed)
    assert (table(model, feed)[0][0, 0, 0] == 0).all()


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("causal", [0, 1])
def test_padded_cache(causal: int) -> None:
    """Keys beyond a sample's valid length are hidden, and causality counts from its end."""
    q, k, v = random(2, 1, 2, 4), random(2, 1, 5, 4, seed=1), random(2, 1, 5, 3, seed=2)
    valid = np.array([3, 5])
    feed = {"q": q, "k": k, "v": v, "": np.zeros(0, np.float32), "valid": valid}
    node = node_model("Attention", feed, opset=24, is_causal=causal)
    node.graph.node[0].input[:] = ["q", "k", "v", "", "", "", "valid"]
    got = table(node, {name: x for name, x in feed.items() if name})[0]
    for sample, length in enumerate(valid):
        scores = q[sample, 0] @ k[sample, 0].T / 2
        for row in range(2):
            last = length - 2 + row if causal else length - 1
            scores[row, last + 1 :] = -np.inf
        np.testing.assert_allclose(got[sample, 0], softmax(scores) @ v[sample, 0], rtol=1e-5, atol=1e-6)


def test_sliding_window() -> None:
    q, k, v = random(1, 1, 4, 4), random(1, 1, 6, 4, seed=1), random(1, 1, 6, 3, seed=2)
    feed = {"q": q, "k": k, "v": v}
    model = node_model("Attention", feed, opset=25, left_window_size=2, right_window_size=1)
    scores = q[0, 0] @ k[0, 0].T / 2
    for row in range(4):
        hidden = [j for j in range(6) if not row - 2 <= j <= row + 1]
        scores[row, hidden] = -np.inf
    np.testing.assert_allclose(table(model, feed)[0][0, 0], softmax(scores) @ v[0, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", [1, 11])
def test_attention_in_half_precision(precision: int) -> None:
    feed = {name: random(1, 2, 3, 4, seed=i, dtype="float16") for i, name in enumerate("qkv")}
    expected = softmax(feed["q"].astype(float) @ feed["k"].astype(float).swapaxes(2, 3) / 2) @ feed["v"]
    got = table(node_model("Attention", feed, opset=23, softmax_precision=precision), feed)[0]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, expected, rtol=1e-2, atol=5e-3)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("turned", [0, 4])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("positions", [False, True])
def test_rotary_embedding(interleaved: int, turned: int, flat: bool, positions: bool) -> None:
    batch, heads, tokens, size = 2, 3, 4, 8
    half = (turned or size) // 2
    angles = random(10, half) if positions else random(batch, tokens, half)
    x = random(batch, tokens, heads * size) if flat else random(batch, heads, tokens, size)
    feed = {"x": x, "cos": np.cos(angles), "sin": np.sin(angles)}
    if positions:
        feed["positions"] = np.random.default_rng(1).integers(0, 10, (batch, tokens))
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": turned}
    if flat or turned:
        attributes["num_heads"] = heads
    check(node_model("RotaryEmbedding", feed, opset=23, **attributes), feed)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter(mode: str) -> None:
    start = np.array([1, 0] if mode == "linear" else [3, 0])
    feed = {"cache": random(2, 3, 4, 5), "update": random(2, 3, 2, 5, seed=1), "start": start}
    expected = feed["cache"].copy()
    for sample in range(2):
        for step in range(2):
            expected[sample, :, (start[sample] + step) % 4] = feed["update"][sample, :, step]
    got = table(node_model("TensorScatter", feed, opset=24, mode=mode), feed)[0]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("per_key", [False, True])
def test_linear_attention(rule: str, per_key: bool) -> None:
    """Against the recurrence as the standard writes it, token by token and head by head."""
    batch, tokens, heads, groups, size, width = 2, 3, 4, 2, 3, 5
    feed = {
        "q": random(batch, tokens, heads * size),
        "k": random(batch, tokens, groups * size, seed=1),
        "v": random(batch, tokens, groups * width, seed=2),
        "past": random(batch, groups, size, width, seed=3),
        "decay": -np.abs(random(batch, tokens, groups * size if per_key else groups, seed=4)),
        "beta": np.random.default_rng(5).random((batch, tokens, groups)).astype(np.float32),
    }
    model = node_model(
        "LinearAttention", feed, outputs=2, opset=27, q_num_heads=heads, kv_num_heads=groups, update_rule=rule
    )
    out, present = table(model, feed)
    state = feed["past"].astype(float).copy()
    for b in range(batch):
        for g in range(groups):
            s = state[b, g]
            for t in range(tokens):
                k, v = feed["k"][b, t].reshape(groups, size)[g], feed["v"][b, t].reshape(groups, width)[g]
                if "gated" in rule:
                    s = s * np.exp(feed["decay"][b, t].reshape(groups, -1)[g])[:, None]
                if "delta" in rule:
                    v = feed["beta"][b, t, g] * (v - s.T @ k)
                s = s + np.outer(k, v)
                for h in range(g * 2, g * 2 + 2):
                    q = feed["q"][b, t].reshape(heads, size)[h]
                    mine = out[b, t].reshape(heads, width)[h]
                    np.testing.assert_allclose(mine, q @ s / np.sqrt(size), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(present[b, g], s, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("length", [2, 6])
def test_causal_convolution(activation: str, past: bool, length: int) -> None:
    x, weight, bias = random(2, 3, length), random(3, 1, 4, seed=1), random(3, seed=2)
    feed = {"x": x, "weight": weight, "bias": bias}
    state = random(2, 3, 3, seed=3) if past else np.zeros((2, 3, 3), np.float32)
    if past:
        feed["past"] = state
    out, present = table(node_model("CausalConvWithState", feed, outputs=2, opset=27, activation=activation), feed)
    both = np.concatenate([state, x], -1)
    windows = np.lib.stride_tricks.sliding_window_view(both, 4, axis=-1)
    expected = (windows * weight[:, 0][None, :, None]).sum(-1) + bias[None, :, None]
    if activation == "silu":
        expected = expected / (1 + np.exp(-expected))
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(present, both[..., -3:])
