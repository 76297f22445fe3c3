"""Operators on images and regions, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analyzer.importer.oracle import check, node_model, runtime, table

QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def random(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_depth_to_space(mode: str, dtype: str) -> None:
    feed = {"x": np.arange(2 * 8 * 3 * 4).reshape(2, 8, 3, 4).astype(dtype)}
    check(node_model("DepthToSpace", feed, mode=mode, blocksize=2), feed)


def test_space_to_depth() -> None:
    feed = {"x": random(2, 3, 4, 6)}
    check(node_model("SpaceToDepth", feed, blocksize=2), feed)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_space_to_depth_inverts_depth_to_space(mode: str) -> None:
    x = random(2, 8, 3, 4)
    wide = table(node_model("DepthToSpace", {"x": x}, opset=28, mode=mode, blocksize=2), {"x": x})[0]
    back = table(node_model("SpaceToDepth", {"x": wide}, opset=28, mode=mode, blocksize=2), {"x": wide})[0]
    np.testing.assert_array_equal(back, x)


@QUICK
@given(
    st.sampled_from(["bilinear", "nearest", "bicubic"]),
    st.sampled_from(["zeros", "border", "reflection"]),
    st.integers(0, 1),
    st.booleans(),
    st.integers(0, 3),
)
def test_grid_sample(mode: str, padding: str, align: int, new: bool, seed: int) -> None:
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode) if new else mode
    feed = {"x": random(2, 3, 4, 5), "grid": random(2, 3, 2, 2, seed=seed)}
    model = node_model(
        "GridSample", feed, opset=20 if new else 16, mode=mode, padding_mode=padding, align_corners=align
    )
    check(model, feed)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample_of_volumes(mode: str, padding: str) -> None:
    feed = {"x": random(2, 3, 3, 4, 5), "grid": random(2, 2, 3, 2, 3, seed=1)}
    check(node_model("GridSample", feed, opset=20, mode=mode, padding_mode=padding), feed)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 3, 4, 5, 2)])
def test_affine_grid(align: int, size: tuple[int, ...]) -> None:
    dims = len(size) - 2
    feed = {"theta": random(2, dims, dims + 1), "size": np.array(size, np.int64)}
    check(node_model("AffineGrid", feed, opset=20, initializers=("size",), align_corners=align), feed)


def boxes(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-3, 22, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(-1, 12, (count, 2))], 1).astype(np.float32)


@QUICK
@given(
    st.sampled_from(["avg", "max"]),
    st.integers(0, 3),
    st.sampled_from(["half_pixel", "output_half_pixel", None]),
    st.sampled_from([1.0, 0.5]),
    st.integers(0, 5),
)
def test_roi_align(mode: str, sampling: int, transform: str | None, scale: float, seed: int) -> None:
    feed = {"x": random(2, 3, 10, 12), "rois": boxes(4, seed), "batch": np.array([0, 1, 1, 0], np.int64)}
    attributes: dict[str, Any] = {"mode": mode, "sampling_ratio": sampling, "spatial_scale": scale}
    attributes |= {"output_height": 3, "output_width": 2}
    if transform:
        attributes["coordinate_transformation_mode"] = transform
    check(node_model("RoiAlign", feed, opset=16 if transform else 10, **attributes), feed, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_max_roi_pool(scale: float, seed: int) -> None:
    numbers = np.array([[0], [1], [1], [0]], np.float32)
    feed = {"x": random(2, 3, 10, 12), "rois": np.concatenate([numbers, boxes(4, seed)], 1)}
    check(node_model("MaxRoiPool", feed, pooled_shape=[3, 2], spatial_scale=scale), feed)


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("ImageScaler", {"scale": 0.5, "bias": [1.0, 2.0, 3.0]}),
        ("Crop", {"border": [1, 2, 1, 1]}),
        ("Crop", {"border": [1, 2, 0, 0], "scale": [2, 3]}),
        ("Affine", {"alpha": 2.0, "beta": -1.0}),
        ("ScaledTanh", {"alpha": 2.0, "beta": 0.5}),
        ("ParametricSoftplus", {"alpha": 2.0, "beta": 0.5}),
        ("Scale", {"scale": 3.0}),
    ],
)
def test_operators_from_before_version_1(op_type: str, attributes: dict[str, Any]) -> None:
    feed = {"x": random(1, 3, 6, 7)}
    check(node_model(op_type, feed, opset=7, **attributes), feed)


def test_style_transfer_from_core_ml(shared: Path) -> None:
    """A whole model of such operators."""
    path = shared / "data/models/candy_coreml.onnx"
    if not path.exists():
        pytest.skip("the model is not here")
    model = onnx.load(path)
    x = np.random.default_rng(0).random((1, 3, 720, 720)).astype(np.float32) * 255
    feed = {model.graph.input[0].name: x}
    expected, got = runtime(model, feed)[0], table(model, feed)[0]
    assert np.abs(got - expected).max() / np.abs(expected).max() < 1e-4
