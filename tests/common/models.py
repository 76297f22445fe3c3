"""Tiny ONNX models made node by node, one per kind of network. Not here: what is checked on them.

All have an output ``scores`` of three classes, batch first, and weights drawn from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]
LABELS = ("ant", "bee", "cat")


def assemble(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[Any]]],
    outputs: Mapping[str, tuple[int, Sequence[Any] | None]],
    weights: dict[str, Array],
    opset: int = 17,
    domains: dict[str, int] | None = None,
    **graph_parts: Any,
) -> onnx.ModelProto:
    """A model of nodes; inputs and outputs as name -> (element type, shape of numbers and names)."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()],
        **graph_parts,
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in {"": opset, **(domains or {})}.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


@dataclass(frozen=True)
class Case:
    """A model with inputs that fit it.

    Attributes
    ----------
    modality
        One of the registry's words: image, table, series, tokens.
    """

    name: str
    proto: onnx.ModelProto
    feed: dict[str, Array]
    modality: str

    @property
    def x(self) -> Array:
        """The first input."""
        return next(iter(self.feed.values()))


def _draw(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _bias(size: int, bias: bool, seed: int) -> Array:
    return _draw(seed, size) * 0.1 if bias else np.zeros(size, np.float32)


def _end(nodes: list[NodeProto], last: str, end: str) -> list[NodeProto]:
    """The nodes with the given operator (softmax, sigmoid, none) between ``last`` and the output."""
    if not end:
        return [*nodes, helper.make_node("Add", [last, "zero"], ["scores"])]
    return [*nodes, helper.make_node(end, [last], ["scores"])]


def cnn(
    batch: int | str = "n",
    *,
    nhwc: bool = False,
    bias: bool = True,
    end: str = "",
    dtype: Any = np.float32,
    disguise: bool = False,
) -> onnx.ModelProto:
    """Convolution, ReLU, convolution, ReLU, global average pooling, linear layer; input (batch, 3, 8, 8).

    ``disguise`` multiplies the ended scores by one, so that what ends them can't be taken off.
    """
    weights = {
        "w1": _draw(1, 4, 3, 3, 3) * 0.4,
        "b1": _bias(4, bias, 2),
        "w2": _draw(3, 5, 4, 3, 3) * 0.4,
        "b2": _bias(5, bias, 4),
        "w3": _draw(5, 5, 3),
        "b3": _bias(3, bias, 6),
        "zero": np.zeros(3, np.float32),
        "unit": np.ones(3, np.float32),
    }
    weights = {name: value.astype(dtype) for name, value in weights.items()}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    first = "nchw" if nhwc else "x"
    nodes = [
        *([helper.make_node("Transpose", ["x"], ["nchw"], name="to_nchw", perm=[0, 3, 1, 2])] if nhwc else []),
        helper.make_node("Conv", [first, "w1", "b1"], ["z1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["z1"], ["a1"], name="relu1"),
        helper.make_node("Conv", ["a1", "w2", "b2"], ["z2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["z2"], ["a2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["a2"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], name="head"),
    ]
    if disguise:
        nodes += [
            helper.make_node(end, ["logits"], ["ended"], name="end"),
            helper.make_node("Mul", ["ended", "unit"], ["scores"], name="disguise"),
        ]
    else:
        nodes = _end(nodes, "logits", end)
    shape = [batch, 8, 8, 3] if nhwc else [batch, 3, 8, 8]
    return assemble(nodes, {"x": (kind, shape)}, {"scores": (kind, [batch, 3])}, weights)


def mlp(batch: int | str = "n", *, bias: bool = True, end: str = "") -> onnx.ModelProto:
    """Two linear layers with a ReLU between them; input (batch, 6)."""
    weights = {
        "w1": _draw(11, 6, 7) * 0.6,
        "b1": _bias(7, bias, 12),
        "w2": _draw(13, 7, 3),
        "b2": _bias(3, bias, 14),
        "zero": np.zeros(3, np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["z1"], name="first"),
        helper.make_node("Relu", ["z1"], ["a1"], name="relu"),
        helper.make_node("Gemm", ["a1", "w2", "b2"], ["logits"], name="second"),
    ]
    shapes = {"x": (TensorProto.FLOAT, [batch, 6])}
    return assemble(_end(nodes, "logits", end), shapes, {"scores": (TensorProto.FLOAT, [batch, 3])}, weights)


def series(batch: int | str = "n", *, bias: bool = True) -> onnx.ModelProto:
    """Two 1-D convolutions with ReLUs, global average pooling, linear layer; input (batch, 2, 16)."""
    weights = {
        "w1": _draw(21, 4, 2, 3) * 0.6,
        "b1": _bias(4, bias, 22),
        "w2": _draw(23, 5, 4, 3) * 0.5,
        "w3": _draw(24, 5, 3),
        "zero": np.zeros(3, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["z1"], name="conv1", pads=[1, 1]),
        helper.make_node("Relu", ["z1"], ["a1"], name="relu1"),
        helper.make_node("Conv", ["a1", "w2"], ["z2"], name="conv2", pads=[1, 1]),
        helper.make_node("Relu", ["z2"], ["a2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["a2"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "w3"], ["logits"], name="head"),
    ]
    shapes = {"x": (TensorProto.FLOAT, [batch, 2, 16])}
    return assemble(_end(nodes, "logits", ""), shapes, {"scores": (TensorProto.FLOAT, [batch, 3])}, weights)


def tokens(batch: int | str = "n") -> onnx.ModelProto:
    """Embedding of eleven words, a ReLU layer per word, mean over the words, linear layer; input (batch, 7) int64."""
    weights = {
        "table": _draw(31, 11, 4),
        "w1": _draw(32, 4, 6) * 0.7,
        "w2": _draw(33, 6, 3),
        "zero": np.zeros(3, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"], name="embed"),
        helper.make_node("MatMul", ["embedded", "w1"], ["z1"], name="first"),
        helper.make_node("Relu", ["z1"], ["a1"], name="relu"),
        helper.make_node("ReduceMean", ["a1"], ["mean"], name="mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "w2"], ["logits"], name="second"),
    ]
    shapes = {"ids": (TensorProto.INT64, [batch, 7])}
    return assemble(_end(nodes, "logits", ""), shapes, {"scores": (TensorProto.FLOAT, [batch, 3])}, weights)


def masked_tokens(batch: int | str = "n") -> onnx.ModelProto:
    """As :func:`tokens`, the mean taken over unmasked words; inputs ids (batch, 7) int64 and mask (batch, 7)."""
    weights = {
        "table": _draw(31, 11, 4),
        "w1": _draw(32, 4, 6) * 0.7,
        "w2": _draw(33, 6, 3),
        "last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"], name="embed"),
        helper.make_node("MatMul", ["embedded", "w1"], ["z1"], name="first"),
        helper.make_node("Relu", ["z1"], ["a1"], name="relu"),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"], name="widen"),
        helper.make_node("Mul", ["a1", "wide"], ["a2"], name="drop"),
        helper.make_node("ReduceMean", ["a2"], ["mean"], name="mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "w2"], ["scores"], name="second"),
    ]
    shapes = {"ids": (TensorProto.INT64, [batch, 7]), "mask": (TensorProto.FLOAT, [batch, 7])}
    return assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, [batch, 3])}, weights)


def two_inputs(batch: int | str = "n") -> onnx.ModelProto:
    """A convolution over a picture and a linear layer over a row, added up; inputs (batch, 3, 8, 8) and (batch, 4)."""
    weights = {
        "w1": _draw(41, 5, 3, 3, 3) * 0.4,
        "w2": _draw(42, 5, 3),
        "v1": _draw(43, 4, 6),
        "v2": _draw(44, 6, 3),
    }
    nodes = [
        helper.make_node("Conv", ["picture", "w1"], ["z1"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["z1"], ["a1"], name="relu1"),
        helper.make_node("GlobalAveragePool", ["a1"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "w2"], ["from_picture"], name="head1"),
        helper.make_node("MatMul", ["row", "v1"], ["z2"], name="first"),
        helper.make_node("Relu", ["z2"], ["a2"], name="relu2"),
        helper.make_node("MatMul", ["a2", "v2"], ["from_row"], name="head2"),
        helper.make_node("Add", ["from_picture", "from_row"], ["scores"], name="sum"),
    ]
    shapes = {"picture": (TensorProto.FLOAT, [batch, 3, 8, 8]), "row": (TensorProto.FLOAT, [batch, 4])}
    return assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, [batch, 3])}, weights)


def untraceable(kind: str) -> tuple[onnx.ModelProto, str]:
    """A model on (batch, 6) that onnxruntime runs and no trace can hold, and the name of the node in the way."""
    w = _draw(51, 6, 3)
    shapes = {"x": (TensorProto.FLOAT, ["n", 6])}
    outputs: dict[str, tuple[int, Sequence[int | str] | None]] = {"scores": (TensorProto.FLOAT, ["n", 3])}
    if kind == "custom":
        nodes = [helper.make_node("SampleOp", ["x"], ["same"], name="strange", domain="com.microsoft")]
    else:
        nodes = [
            helper.make_node("Cast", ["x"], ["text"], name="strange", to=TensorProto.STRING),
            helper.make_node("Cast", ["text"], ["same"], name="back", to=TensorProto.FLOAT),
        ]
    nodes.append(helper.make_node("MatMul", ["same", "w"], ["scores"], name="linear"))
    return assemble(nodes, shapes, outputs, {"w": w}, domains={"com.microsoft": 1}), "strange"


def cases(batch: int = 3) -> list[Case]:
    """One model of each kind with a batch of inputs."""
    ids = np.random.default_rng(6).integers(0, 11, (batch, 7))
    return [
        Case("cnn", cnn(), {"x": _draw(61, batch, 3, 8, 8)}, "image"),
        Case("nhwc", cnn(nhwc=True), {"x": _draw(61, batch, 3, 8, 8).transpose(0, 2, 3, 1).copy()}, "image"),
        Case("mlp", mlp(), {"x": _draw(62, batch, 6)}, "table"),
        Case("series", series(), {"x": _draw(63, batch, 2, 16)}, "series"),
        Case("tokens", tokens(), {"ids": ids}, "tokens"),
        Case("two", two_inputs(), {"picture": _draw(64, batch, 3, 8, 8), "row": _draw(65, batch, 4)}, "image"),
        Case("half", cnn(dtype=np.float16), {"x": _draw(61, batch, 3, 8, 8).astype(np.float16)}, "image"),
    ]
