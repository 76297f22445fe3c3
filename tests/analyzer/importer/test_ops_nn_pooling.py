"""Pools against onnxruntime, their attributes made by hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analyzer.importer.oracle import check, node_model

QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def random(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@st.composite
def pools(draw: st.DrawFn, dims: int, dilated: bool) -> tuple[dict[str, Any], list[int]]:
    """Attributes of a pool whose padding is smaller than its kernel, and spatial sizes."""
    each = st.integers
    kernel = [draw(each(1, 3)) for _ in range(dims)]
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if draw(st.booleans()):
        attributes["strides"] = [draw(each(1, 3)) for _ in range(dims)]
    mode = draw(st.sampled_from(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if mode != "NOTSET":
        attributes["auto_pad"] = mode
        # onnxruntime refuses SAME where the kernel leaves gaps, for its padding would be negative
        strides = attributes.get("strides", [1] * dims)
        attributes["strides"] = [min(s, k) for s, k in zip(strides, kernel, strict=True)]
    else:
        attributes["ceil_mode"] = draw(each(0, 1))
        if dilated and draw(st.booleans()):
            attributes["dilations"] = [draw(each(1, 2)) for _ in range(dims)]
        if draw(st.booleans()):
            attributes["pads"] = [draw(each(0, k - 1)) for _ in range(2) for k in kernel]
    return attributes, [draw(each(5, 8)) for _ in range(dims)]


@QUICK
@given(st.data(), st.integers(1, 3), st.sampled_from([10, 12, 22]))
def test_max_pool(data: st.DataObject, dims: int, opset: int) -> None:
    attributes, spatial = data.draw(pools(dims, True))
    feed = {"x": random(2, 3, *spatial)}
    check(node_model("MaxPool", feed, opset=opset, **attributes), feed)


@QUICK
@given(st.data(), st.integers(1, 3), st.integers(0, 1))
def test_max_pool_indices(data: st.DataObject, dims: int, order: int) -> None:
    attributes, spatial = data.draw(pools(dims, True))
    feed = {"x": random(2, 3, *spatial)}
    check(node_model("MaxPool", feed, outputs=2, storage_order=order, **attributes), feed)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float64", "float16"])
def test_max_pool_dtypes(dtype: str) -> None:
    feed = {"x": (random(1, 2, 6, 6) * 20).astype(dtype)}
    check(node_model("MaxPool", feed, kernel_shape=[3, 3], pads=[1, 0, 1, 1]), feed)


@QUICK
@given(st.data(), st.integers(1, 3), st.integers(0, 1), st.sampled_from([7, 10, 11, 19, 22]))
def test_average_pool(data: st.DataObject, dims: int, include: int, opset: int) -> None:
    attributes, spatial = data.draw(pools(dims, opset >= 19))
    if opset < 10:
        attributes.pop("ceil_mode", None)
    feed = {"x": random(2, 3, *spatial)}
    check(node_model("AveragePool", feed, opset=opset, count_include_pad=include, **attributes), feed)


@QUICK
@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.sampled_from([11, 18, 22]))
def test_lp_pool(data: st.DataObject, dims: int, power: int, opset: int) -> None:
    attributes, spatial = data.draw(pools(dims, opset >= 18))
    if opset < 18:
        attributes.pop("ceil_mode", None)
    feed = {"x": random(2, 3, *spatial)}
    check(node_model("LpPool", feed, opset=opset, p=power, **attributes), feed)


@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 4, 5), (1, 2, 3, 4, 5)])
def test_global_pools(op_type: str, shape: tuple[int, ...]) -> None:
    feed = {"x": random(*shape)}
    check(node_model(op_type, feed), feed)


@pytest.mark.parametrize("power", [1, 3])
def test_global_lp_pool_powers(power: int) -> None:
    feed = {"x": random(2, 3, 4, 5)}
    check(node_model("GlobalLpPool", feed, p=power), feed)


@pytest.mark.parametrize("shape", [None, (1, 2, 8, 8), (1, 2, 8, 9)])
def test_max_unpool(shape: tuple[int, ...] | None) -> None:
    rng = np.random.default_rng(0)
    feed = {"x": random(1, 2, 4, 4), "index": rng.permutation(126)[:32].reshape(1, 2, 4, 4)}
    if shape:
        feed["shape"] = np.array(shape, np.int64)
    check(node_model("MaxUnpool", feed, kernel_shape=[2, 2], strides=[2, 2]), feed)
