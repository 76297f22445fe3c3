"""Gradients of single operators compiled for every batch, against the torch backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

import analyzer
from tests.analyzer.compiler.compiling import run
from tests.kinks import equal_up_to_flips

SHAPE = (4, 6, 6)
DRAW = np.random.default_rng(0)
Node = Callable[..., NodeProto]


def values(*shape: int, low: float = -1, high: float = 1) -> np.ndarray:
    return DRAW.uniform(low, high, shape).astype(np.float32)


def node(op: str, *more: str, outputs: Sequence[str] = ("y",), **attributes: Any) -> list[NodeProto]:
    """One node on the input and on weights by name."""
    return [helper.make_node(op, ["x", *more], list(outputs), **attributes)]


def variance(exponent: str) -> list[NodeProto]:
    """A variance written out, and its root."""
    return [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3]),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["var"], axes=[2, 3]),
        helper.make_node(exponent, ["var"], ["root"]),
        helper.make_node("Div", ["centred", "root"], ["y"]),
    ]


WEIGHTS = {
    "low": np.float32(-0.3), "high": np.float32(0.4), "other": values(*SHAPE), "slope": values(4, 1, 1, low=0.1, high=0.4),
    "two": np.array([2], np.int64), "g": values(4), "b": values(4), "channels": np.array([2, 2], np.int64),
    "axes": np.array([1], np.int64), "axis": np.array(3, np.int64), "divisor": np.float32(0.37),
    "sizes": np.array([0, 0, 9, 4], np.int64), "kernel": values(4, 3, 3, 2), "matrix": values(6, 5),
    "last": np.array([-1], np.int64),
}  # fmt: skip
MODELS: dict[str, list[NodeProto]] = {
    "clip": node("Clip", "low", "high"), "min": node("Min", "other"), "max": node("Max", "other", "low"),
    "reduce l1": node("ReduceL1", axes=[1]), "reduce l2": node("ReduceL2", axes=[2, 3]),
    "l2 normalisation": node("LpNormalization", axis=1, p=2), "l1 normalisation": node("LpNormalization", axis=1, p=1),
    "variance": variance("Sqrt"), "product": node("ReduceProd", axes=[3]),
    "products": node("ReduceProd", axes=[1, 3], keepdims=0), "top": node("TopK", "two", outputs=["y", "places"], axis=1),
    "smallest": node("TopK", "two", outputs=["y", "places"], axis=3, largest=0), "mod": node("Mod", "divisor", fmod=1),
    "running sum": node("CumSum", "axis", reverse=1, exclusive=1), "instance norm": node("InstanceNormalization", "g", "b"),
    "prelu": node("PRelu", "slope"), "atanh": node("Atanh"), "asinh": node("Asinh"),
    "hard shrink": node("Shrink", lambd=0.4, bias=0.0), "soft shrink": node("Shrink", lambd=0.4, bias=0.4),
    "transposed convolution": node("ConvTranspose", "kernel", strides=[2, 2], pads=[1, 0, 0, 1], output_padding=[1, 0]),
    "einsum": node("Einsum", "matrix", equation="nchw,wk->nkc"), "diagonal": node("Einsum", equation="ncii->nci"),
    "log-sum-exp": node("ReduceLogSumExp", axes=[2]), "softsign": node("Softsign"), "mish": node("Mish"),
}  # fmt: skip
for _mode, _how in (
    ("nearest", "asymmetric"), ("linear", "half_pixel"), ("linear", "align_corners"), ("cubic", "half_pixel"),
):  # fmt: skip
    MODELS[f"resize {_mode} {_how}"] = [
        helper.make_node("Concat", ["n", "resized"], ["wanted"], axis=0),
        helper.make_node("Resize", ["x", "", "", "wanted"], ["y"], mode=_mode, coordinate_transformation_mode=_how),
    ]
for _reduction in ("add", "mul", "max", "min"):
    MODELS[f"scatter {_reduction}"] = [
        helper.make_node("Slice", ["x", "zero", "three", "rows"], ["updates"]),
        helper.make_node("ScatterElements", ["x", "indices", "updates"], ["y"], axis=2, reduction=_reduction),
    ]
for _padding in ("zeros", "border", "reflection"):
    for _mode in ("bilinear", "bicubic", "nearest"):
        MODELS[f"grid {_mode} {_padding}"] = [
            helper.make_node("Slice", ["x", "zero", "two", "axes"], ["places"]),
            helper.make_node("Transpose", ["places"], ["moved"], perm=[0, 2, 3, 1]),
            helper.make_node("Mul", ["moved", "wide"], ["grid"]),
            helper.make_node("GridSample", ["x", "grid"], ["y"], mode=_mode, padding_mode=_padding),
        ]
WEIGHTS |= {
    "zero": np.array([0], np.int64), "three": np.array([3], np.int64), "rows": np.array([2], np.int64),
    "indices": DRAW.permuted(np.tile(np.arange(6)[None, None, :, None], (1, 4, 1, 6)), axis=2)[:, :, :3],
    "wide": np.float32(1.7), "resized": np.array([4, 9, 4], np.int64),
}  # fmt: skip


def model(name: str) -> analyzer.Model:
    """The operator between an input of any batch and scores that weigh all that it gives."""
    nodes = list(MODELS[name])
    read = {i for each in nodes for i in each.input}
    weights = {key: value for key, value in WEIGHTS.items() if key in read}
    if "wanted" in {o for each in nodes for o in each.output}:
        nodes.insert(0, helper.make_node("Shape", ["x"], ["n"], start=0, end=1))
    if "indices" in read:
        nodes.insert(0, helper.make_node("Shape", ["x"], ["n"], start=0, end=1))
        nodes.insert(1, helper.make_node("Concat", ["n", "rest"], ["whole"], axis=0))
        nodes.insert(2, helper.make_node("Expand", ["one indices", "whole"], ["indices"]))
        weights["rest"] = np.array([4, 3, 6], np.int64)
        weights["one indices"] = weights.pop("indices")
    flat = [helper.make_node("Flatten", ["y"], ["flat"])]
    probe = _made([*nodes, *flat], weights, "flat", None)
    width = analyzer.load(probe, device="cpu").predict({"x": values(1, *SHAPE)})["flat"].shape[1]
    weights["w"] = values(width, 3)
    nodes += [*flat, helper.make_node("MatMul", ["flat", "w"], ["scores"])]
    return analyzer.load(_made(nodes, weights, "scores", 3), device="cpu", threads=1)


def _made(nodes: list[NodeProto], weights: dict[str, np.ndarray], output: str, width: int | None) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()],
    )
    recent = {"ScatterElements", "Resize", "Mish"} & {each.op_type for each in nodes}
    opset = 18 if recent else 17
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    content: bytes = made.SerializeToString()
    return content


@pytest.mark.parametrize("name", MODELS)
def test_equal_to_torch_at_every_batch(name: str) -> None:
    explained = model(name)
    example = np.random.default_rng(0).uniform(-0.9, 0.9, (1, *SHAPE)).astype(np.float32)
    compiled = analyzer.compile(explained, "gradient", example=example)
    assert compiled.batch is None, compiled.reason
    onnx.checker.check_model(compiled.proto, full_check=True)
    for count in (1, 3):
        feed = {"x": np.random.default_rng(count).uniform(-0.9, 0.9, (count, *SHAPE)).astype(np.float32)}

        def again(feed: dict[str, np.ndarray] = feed) -> np.ndarray:
            return explained.explain(feed, method="gradient", backend="torch").raw

        want = again()
        assert want.any()
        equal_up_to_flips(run(compiled, feed)["x"], want, again, what=name)
