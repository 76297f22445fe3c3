"""Resize and Upsample against onnxruntime, their attributes made by hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import build
from analyzer.importer.interpreter import Interpreter, run_graph
from analyzer.importer.recorder import Recorder
from tests.analyzer.importer.oracle import check, node_model

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
TRANSFORMS = [
    "half_pixel",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "half_pixel_symmetric",
    "tf_crop_and_resize",
]


def random(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@st.composite
def resizes(draw: st.DrawFn, mode: str) -> tuple[dict[str, np.ndarray], dict[str, Any], int]:
    """Inputs, attributes and opset of a Resize of the last two dimensions."""
    opset = draw(st.sampled_from([11, 13, 18, 19]))
    size = [draw(st.integers(2, 8)) for _ in range(2)]
    transform = draw(st.sampled_from(TRANSFORMS if opset >= 19 else [t for t in TRANSFORMS if "symm" not in t]))
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": transform}
    if transform == "tf_crop_and_resize":
        attributes["extrapolation_value"] = draw(st.sampled_from([0.0, 7.5]))
    if mode == "nearest":
        attributes["nearest_mode"] = draw(st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]))
    if mode == "cubic":
        attributes["exclude_outside"] = draw(st.integers(0, 1))
        attributes["cubic_coeff_a"] = draw(st.sampled_from([-0.75, -0.5]))
    roi = [0, 0, *(draw(st.sampled_from([0.0, 0.1, -0.2])) for _ in range(2))]
    roi += [1, 1, *(draw(st.sampled_from([1.0, 0.8, 1.3])) for _ in range(2))]
    feed = {"x": random(1, 2, *size), "roi": np.array(roi, np.float32)}
    if draw(st.booleans()):
        scales = [1, 1, *(draw(st.sampled_from([0.6, 0.8, 1.0, 1.5, 2.0, 2.3, 3.0])) for _ in range(2))]
        feed["scales"] = np.array(scales, np.float32)
    else:
        feed["scales"] = np.zeros(0, np.float32)
        feed["sizes"] = np.array([1, 2, *(draw(st.integers(1, 12)) for _ in range(2))], np.int64)
    return feed, attributes, opset


def compare(feed: dict[str, np.ndarray], attributes: dict[str, Any], opset: int) -> None:
    baked = tuple(k for k in feed if k and k != "x")
    model = node_model("Resize", feed, opset=opset, initializers=baked, **attributes)
    check(model, {"x": feed["x"]})


@QUICK
@given(resizes("nearest"))
def test_nearest(case: tuple[dict[str, np.ndarray], dict[str, Any], int]) -> None:
    compare(*case)


def test_a_coordinate_just_below_a_half() -> None:
    """onnxruntime takes 0.49999997 for 0.5."""
    roi = np.array([0, 0, 0.1, 0, 1, 1, 1.3, 1], np.float32)
    feed = {"x": random(1, 2, 2, 2), "roi": roi, "scales": np.zeros(0, np.float32), "sizes": np.array([1, 2, 4, 1])}
    for rounding in ("round_prefer_floor", "round_prefer_ceil"):
        attributes = {"coordinate_transformation_mode": "tf_crop_and_resize", "nearest_mode": rounding}
        compare(feed, {"mode": "nearest", **attributes}, 11)


def test_a_symmetric_coordinate_just_below_a_whole_number() -> None:
    feed = {"x": random(1, 2, 2, 5), "roi": np.zeros(0, np.float32), "": np.zeros(0, np.float32)}
    feed["sizes"] = np.array([1, 2, 1, 3])
    attributes = {"coordinate_transformation_mode": "half_pixel_symmetric", "nearest_mode": "floor"}
    compare(feed, {"mode": "nearest", **attributes}, 19)


def test_a_fractional_scale_that_doubles_the_size() -> None:
    """2 * 2.3 gives 4 elements, but not as a scale of 2 would."""
    feed = {"x": random(1, 2, 2, 2), "roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 0.6, 2.3], np.float32)}
    compare(feed, {"mode": "nearest", "nearest_mode": "floor"}, 11)


@QUICK
@given(resizes("linear"))
def test_linear(case: tuple[dict[str, np.ndarray], dict[str, Any], int]) -> None:
    compare(*case)


@QUICK
@given(resizes("cubic"))
def test_cubic(case: tuple[dict[str, np.ndarray], dict[str, Any], int]) -> None:
    compare(*case)


@QUICK
@given(
    st.sampled_from(["linear", "cubic"]),
    st.sampled_from(["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]),
    st.integers(0, 1),
    st.lists(st.integers(1, 12), min_size=2, max_size=2),
)
def test_antialias(mode: str, transform: str, exclude: int, target: list[int]) -> None:
    feed = {
        "x": random(1, 2, 9, 8),
        "roi": np.zeros(0, np.float32),
        "": np.zeros(0, np.float32),
        "sizes": np.array([1, 2, *target], np.int64),
    }
    attributes = {"mode": mode, "coordinate_transformation_mode": transform, "antialias": 1}
    compare(feed, attributes | {"exclude_outside": exclude}, 18)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_aspect_ratio_policy_and_axes(policy: str, mode: str) -> None:
    feed = {
        "x": random(1, 2, 5, 6),
        "roi": np.zeros(0, np.float32),
        "": np.zeros(0, np.float32),
        "sizes": np.array([9, 8], np.int64),
    }
    compare(feed, {"mode": mode, "axes": [2, 3], "keep_aspect_ratio_policy": policy}, 19)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("shape", [(4, 6), (1, 2, 3, 4, 5)])
def test_other_ranks(mode: str, shape: tuple[int, ...]) -> None:
    scales = [1.0] * (len(shape) - 2) + [1.7, 0.6] if len(shape) < 5 else [1, 1, 1.7, 2, 0.6]
    feed = {"x": random(*shape), "roi": np.zeros(0, np.float32), "scales": np.array(scales, np.float32)}
    compare(feed, {"mode": mode}, 19)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_dtypes(mode: str, dtype: str) -> None:
    feed = {
        "x": (random(1, 2, 4, 4) * 30 + 100).astype(dtype),
        "roi": np.zeros(0, np.float32),
        "scales": np.array([1, 1, 1.7, 2.2], np.float32),
    }
    model = node_model("Resize", feed, opset=19, initializers=("roi", "scales"), mode=mode)
    check(model, {"x": feed["x"]}, rtol=2e-3)


@QUICK
@given(
    st.sampled_from(["nearest", "linear"]), st.lists(st.sampled_from([0.5, 0.7, 1.0, 2.0, 2.6]), min_size=2, max_size=2)
)
def test_resize_10(mode: str, factors: list[float]) -> None:
    feed = {"x": random(1, 2, 5, 6), "scales": np.array([1, 1, *factors], np.float32)}
    check(node_model("Resize", feed, opset=10, initializers=("scales",), mode=mode), {"x": feed["x"]})


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [7, 9])
def test_upsample(mode: str, opset: int) -> None:
    feed = {"x": random(1, 2, 3, 4)}
    scales = [1.0, 1.0, 2.0, 3.0]
    if opset == 7:
        check(node_model("Upsample", feed, opset=7, mode=mode, scales=scales), feed)
    else:
        feed["scales"] = np.array(scales, np.float32)
        check(node_model("Upsample", feed, opset=9, initializers=("scales",), mode=mode), feed)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, "nearest2d"),
        ({"mode": "linear"}, "bilinear2d"),
        ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, "bilinear2d"),
        ({"mode": "cubic"}, "bicubic2d"),
        ({"mode": "cubic", "coordinate_transformation_mode": "align_corners"}, "bicubic2d"),
    ],
)
def test_what_torch_has_is_one_operator(attributes: dict[str, Any], expected: str) -> None:
    feed = {"x": random(1, 2, 5, 6), "roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 1.7, 2.3], np.float32)}
    model = node_model("Resize", feed, opset=19, initializers=("roi", "scales"), **attributes)
    check(model, {"x": feed["x"]})
    recorder = Recorder()
    with torch.no_grad(), recorder:
        x = recorder.placeholder("x", as_tensor(feed["x"]))
        run_graph(build(model, numpy_helper.to_array), {"x": x}, Interpreter(recorder))
    called = [node.target for node in recorder.graph.nodes if node.op == "call_function"]
    assert called == [getattr(torch.ops.aten, f"upsample_{expected}").default]


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialias_of_integers(mode: str, dtype: str) -> None:
    """Fixed-point arithmetic may round the other way in a few elements."""
    x = np.random.default_rng(1).integers(0, 250, (1, 2, 7, 8)).astype(dtype)
    feed = {"x": x, "roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 0.6, 1.4], np.float32)}
    model = node_model("Resize", feed, opset=19, initializers=("roi", "scales"), mode=mode, antialias=1)
    check(model, {"x": x}, rtol=0, atol=1)
