"""A detector of which the answer is known: two boxes stand fast, what scores them is the sum over a patch each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from tests.common.models import assemble

Array = NDArray[Any]
SIDE = 16
#: Lines and columns that a box's class score depends on, and the boxes x0, y0, x1, y1 in pixels.
PATCHES = ((slice(0, 4), slice(8, 12)), (slice(12, 16), slice(0, 4)))
BOXES = np.array([[6.0, 1, 14, 7], [1, 9, 8, 15]], np.float32)


def picture(batch: int = 1) -> Array:
    """A picture of ones, of which both boxes are found."""
    return np.ones((batch, 3, SIDE, SIDE), np.float32)


def detector(form: str, batch: int | str = "n") -> onnx.ModelProto:
    """The detector with its output in one of several forms.

    ``rows``: (n, 2, x0 y0 x1 y1 and two class probabilities). ``columns``: the same transposed. ``split``: boxes, and class
    logits in an output of their own. ``ready``: (n, 2, x0 y0 x1 y1 score class). ``owned``: (detections, batch x0 y0 x1 y1
    class score), only those that score above 0.3. ``single``: boxes, labels and scores of one picture, as many.
    """
    weights = np.zeros((3, SIDE, SIDE, 2, 2), np.float32)
    for box, patch in enumerate(PATCHES):
        weights[:, *patch, box, box] = 4 / 48  # box 0 is of class 0, box 1 of class 1
    constants = {
        "w": weights.reshape(-1, 4), "b": np.float32([-1.5, -4, -4, -2]), "boxes0": BOXES[None], "flat": np.int64([0, -1]),
        "two": np.int64([0, 2, 2]), "one_column": np.int64([0, 2, 1]), "all": np.int64([-1]), "zero": np.int64([0]),
        "one": np.int64([1]), "tail": np.int64([2, 4]), "rows7": np.int64([-1, 7]), "limit": np.float32([0.3]),
        "ids": np.float32([[[0], [1]]]), "like": np.zeros((1, 2, 1), np.float32), "four": np.int64([-1, 4]),
        "column": np.int64([-1, 1, 1]),
    }  # fmt: skip
    n = helper.make_node
    nodes: list[NodeProto] = [
        n("Reshape", ["x", "flat"], ["row"]), n("Gemm", ["row", "w", "b"], ["four_logits"]),
        n("Reshape", ["four_logits", "two"], ["logits"]), n("Sigmoid", ["logits"], ["probabilities"]),
        n("Shape", ["x"], ["shape"]), n("Slice", ["shape", "zero", "one"], ["count"]),
        n("Concat", ["count", "tail"], ["box_shape"], axis=0), n("Expand", ["boxes0", "box_shape"], ["boxes"]),
        n("ReduceMax", ["probabilities"], ["score"], axes=[2], keepdims=1),
        n("Add", ["ids", "like"], ["id"]), n("Mul", ["score", "like"], ["nought"]), n("Add", ["nought", "id"], ["class"]),
    ]  # fmt: skip
    kind, outputs = TensorProto.FLOAT, {"out": (TensorProto.FLOAT, [batch, 2, 6])}
    if form == "rows":
        nodes += [n("Concat", ["boxes", "probabilities"], ["out"], axis=2)]
    elif form == "columns":
        nodes += [
            n("Concat", ["boxes", "probabilities"], ["joined"], axis=2),
            n("Transpose", ["joined"], ["out"], perm=[0, 2, 1]),
        ]
        outputs = {"out": (kind, [batch, 6, 2])}
    elif form == "split":
        outputs = {"logits": (kind, [batch, 2, 2]), "boxes": (kind, [batch, 2, 4])}
    elif form == "ready":
        nodes += [n("Concat", ["boxes", "score", "class"], ["out"], axis=2)]
    elif form == "owned":
        nodes += [
            n("Constant", [], ["none"], value_int=0), n("Constant", [], ["step"], value_int=1),
            n("Squeeze", ["count", "zero"], ["scalar"]), n("Range", ["none", "scalar", "step"], ["range"]),
            n("Cast", ["range"], ["owner1"], to=kind), n("Reshape", ["owner1", "column"], ["owner0"]),
            n("Add", ["nought", "owner0"], ["owner"]), n("Concat", ["owner", "boxes", "class", "score"], ["joined"], axis=2),
            n("Reshape", ["joined", "rows7"], ["every"]), *_kept("every"),
        ]  # fmt: skip
        outputs = {"out": (kind, ["found", 7])}
    else:
        nodes += [
            n("Reshape", ["boxes", "four"], ["every"]), *_kept("every"), n("Reshape", ["class", "all"], ["classes"]),
            n("Cast", ["classes"], ["numbers"], to=TensorProto.INT64), n("Compress", ["numbers", "keep"], ["labels"], axis=0),
            n("Compress", ["scores1", "keep"], ["scores"], axis=0),
        ]  # fmt: skip
        integers = (TensorProto.INT64, ["found"])
        outputs = {"out": (kind, ["found", 4]), "labels": integers, "scores": (kind, ["found"])}
    return assemble(nodes, {"x": (kind, [batch, 3, SIDE, SIDE])}, outputs, constants)


def _kept(name: str) -> list[NodeProto]:
    """Rows of a value for boxes that score above the limit, as ``out``."""
    return [
        helper.make_node("Reshape", ["score", "all"], ["scores1"]), helper.make_node("Greater", ["scores1", "limit"], ["keep"]),
        helper.make_node("Compress", [name, "keep"], ["out"], axis=0),
    ]  # fmt: skip


CORNERS = ["x0", "y0", "x1", "y1"]
SPECS: dict[str, dict[str, Any]] = {
    "rows": {"row": [*CORNERS, "classes"]},
    "columns": {"row": [*CORNERS, "classes"], "layout": "CN"},
    "split": {"boxes": "boxes", "scores": "logits", "activation": "sigmoid"},
    "ready": {"row": [*CORNERS, "score", "class"]},
    "owned": {"row": ["batch", *CORNERS, "class", "score"]},
    "single": {"boxes": "out", "labels": "labels", "scores": "scores"},
}


def probability(box: int, pixels: Array) -> Array:
    """The best class probability of a box for pictures (n, 3, SIDE, SIDE), float64."""
    patch = pixels[:, :, *PATCHES[box]].astype(np.float64)
    logit = patch.sum(axis=(1, 2, 3)) * 4 / 48 - (1.5, 2)[box]
    return 1 / (1 + np.exp(-logit))
