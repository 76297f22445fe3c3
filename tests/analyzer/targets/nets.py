"""Small models for targets: one with an embedding and a reconstruction, one with a class map; with their values in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.common.models import assemble

Array = NDArray[Any]
_RNG = np.random.default_rng(0)
W1, W2, W3 = (_RNG.standard_normal(size).astype(np.float32) for size in ((6, 8), (8, 5), (8, 6)))
X = _RNG.standard_normal((2, 6)).astype(np.float32)
KERNEL = _RNG.standard_normal((3, 2, 3, 3)).astype(np.float32)
PICTURES = _RNG.standard_normal((2, 2, 6, 4)).astype(np.float32)


def twin(batch: int | str = "n", opset: int = 17, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """``y`` (n, 5), ``r`` (n, 6) behind a sigmoid and ``s`` (n, 1), of ``x`` (n, 6)."""
    node, dtype = helper.make_node, helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        node("MatMul", ["x", "w1"], ["h"]), node("Tanh", ["h"], ["t"], name="body"), node("MatMul", ["t", "w2"], ["y"]),
        node("MatMul", ["t", "w3"], ["q"]), node("Sigmoid", ["q"], ["r"]), node("MatMul", ["t", "w4"], ["s"]),
    ]  # fmt: skip
    weights = {"w1": W1, "w2": W2, "w3": W3, "w4": np.ascontiguousarray(W2[:, :1])}
    outputs = {name: (kind, [batch, size]) for name, size in (("y", 5), ("r", 6), ("s", 1))}
    return assemble(nodes, {"x": (kind, [batch, 6])}, outputs, {k: v.astype(dtype) for k, v in weights.items()}, opset)


def values(x: Array) -> dict[str, Array]:
    """The values of :func:`twin` in float64."""
    t = np.tanh(x.astype(np.float64) @ W1.astype(np.float64))
    q = t @ W3.astype(np.float64)
    return {
        "t": t,
        "y": t @ W2.astype(np.float64),
        "q": q,
        "r": 1 / (1 + np.exp(-q)),
        "s": t @ W2[:, :1].astype(np.float64),
    }


def class_map(batch: int | str = "n", softmax: bool = True) -> onnx.ModelProto:
    """A 3x3 convolution of (n, 2, 6, 4) to three classes, with or without a softmax over them."""
    nodes = [helper.make_node("Conv", ["x", "k"], ["z"], pads=[1, 1, 1, 1])]
    nodes += [helper.make_node("Softmax", ["z"], ["y"], axis=1)] if softmax else []
    shapes = {"x": (TensorProto.FLOAT, [batch, 2, 6, 4])}
    return assemble(nodes, shapes, {"y" if softmax else "z": (TensorProto.FLOAT, [batch, 3, 6, 4])}, {"k": KERNEL})
