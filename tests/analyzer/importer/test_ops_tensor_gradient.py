"""Gradients through recorded traces, replayed at other values than those they were recorded with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import build
from analyzer.importer.interpreter import Interpreter, run_graph
from analyzer.importer.recorder import Recorder
from tests.analyzer.importer.oracle import node_model

rng = np.random.default_rng(0)


def i64(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


X = rng.uniform(0.5, 2, (3, 4))
THREES = np.full((1, 2), 3.0)
CASES: dict[str, tuple[str, dict[str, np.ndarray], int, dict[str, Any]]] = {
    "slice backwards": ("Slice", {"s": i64(9), "e": i64(-9), "a": i64(1), "t": i64(-2)}, 13, {}),
    "slice with steps": ("Slice", {"s": i64(0, 1), "e": i64(3, 4), "a": i64(0, 1), "t": i64(2, 3)}, 13, {}),
    "pad with zeros": ("Pad", {"p": i64(1, 0, -1, 2)}, 13, {}),
    "pad by reflection": ("Pad", {"p": i64(2, 3, 1, 0)}, 13, {"mode": "reflect"}),
    "pad with the edge": ("Pad", {"p": i64(2, 3, 1, 0)}, 13, {"mode": "edge"}),
    "pad by wrapping": ("Pad", {"p": i64(2, 3, 1, 0)}, 19, {"mode": "wrap"}),
    "gather": ("Gather", {"i": i64([0, -1], [1, 0])}, 13, {"axis": 1}),
    "gather one": ("Gather", {"i": np.array(-1)}, 13, {"axis": 1}),
    "gather elements": ("GatherElements", {"i": i64([0, 1, 1, -1])}, 13, {"axis": 0}),
    "gather tuples": ("GatherND", {"i": i64([0, 1], [2, -1])}, 13, {}),
    "scatter elements": ("ScatterElements", {"i": i64([0, 2]), "u": np.ones((1, 2))}, 13, {"axis": 1}),
    "scatter and add": ("ScatterElements", {"i": i64([0, 0]), "u": THREES}, 16, {"axis": 1, "reduction": "add"}),
    "scatter and multiply": ("ScatterElements", {"i": i64([0, 0]), "u": THREES}, 16, {"axis": 1, "reduction": "mul"}),
    "scatter tuples": ("ScatterND", {"i": i64([0, 1]), "u": np.ones(1)}, 16, {}),
    "scatter rows for the largest": ("ScatterND", {"i": i64([0], [1]), "u": np.ones((2, 4))}, 18, {"reduction": "max"}),
    "largest values": ("TopK", {"k": i64(2)}, 11, {"axis": 1}),
    "smallest values": ("TopK", {"k": i64(2)}, 11, {"axis": 0, "largest": 0}),
    "running sum": ("CumSum", {"a": np.array(1)}, 14, {"exclusive": 1, "reverse": 1}),
    "running product": ("CumProd", {"a": np.array(1)}, 26, {}),
    "sum": ("ReduceSum", {"a": i64(1)}, 13, {}),
    "mean": ("ReduceMean", {"a": i64(0)}, 18, {}),
    "product": ("ReduceProd", {}, 18, {}),
    "maximum": ("ReduceMax", {"a": i64(1)}, 18, {}),
    "euclidean norm": ("ReduceL2", {"a": i64(1)}, 18, {}),
    "logarithm of a sum of exponentials": ("ReduceLogSumExp", {"a": i64(1)}, 18, {}),
    "square": ("Pow", {"e": np.array(2.0)}, 15, {}),
    "erf": ("Erf", {}, 13, {}),
    "product with a matrix": ("MatMul", {"w": rng.normal(size=(4, 2))}, 13, {}),
    "contraction": ("Einsum", {"w": rng.normal(size=(4, 2))}, 12, {"equation": "ij,jk->ki"}),
    "triangle": ("Trilu", {"k": np.array(1)}, 14, {}),
    "tiles": ("Tile", {"r": i64(2, 3)}, 13, {}),
    "expansion": ("Expand", {"s": i64(2, 3, 4)}, 13, {}),
    "compression": ("Compress", {"c": np.array([True, False, True])}, 11, {"axis": 0}),
    "reversal": ("ReverseSequence", {"n": i64(1, 2, 3, 2)}, 10, {}),
    "spectrum": ("DFT", {}, 17, {}),
    "unique": ("Unique", {}, 11, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_gradient(case: str) -> None:
    """The recorded trace, replayed at another point, has the gradient that finite differences have there."""
    op, constants, opset, attributes = CASES[case]
    x = X[..., None] if op == "DFT" else X
    feed = {"x": x, **constants}
    outputs = {"TopK": 2}.get(op, 1)
    model = node_model(op, feed, outputs, opset, initializers=tuple(constants), **attributes)
    graph = build(model, numpy_helper.to_array)
    with torch.no_grad(), Recorder() as recorder:
        out = run_graph(graph, {"x": recorder.placeholder("x", as_tensor(x))}, Interpreter(recorder))
    module = recorder.finish({"y": out["y0"]})
    other = torch.from_numpy(rng.uniform(0.5, 2, x.shape) if op != "Unique" else x.copy()).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: module(v)[0], (other,))


def test_values_chosen_by_the_data_keep_their_gradient() -> None:
    """Unique, TopK and Gather hand relevance to the elements that they took, and to nothing else."""
    x = np.array([[3.0, 1.0, 2.0, 5.0]])
    model = node_model("TopK", {"x": x, "k": i64(2)}, 2, 11, initializers=("k",))
    graph = build(model, numpy_helper.to_array)
    with torch.no_grad(), Recorder() as recorder:
        out = run_graph(graph, {"x": recorder.placeholder("x", as_tensor(x))}, Interpreter(recorder))
    module = recorder.finish({"y": out["y0"]})
    point = torch.tensor([[9.0, 8.0, 1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    module(point)[0].sum().backward()
    assert point.grad is not None
    np.testing.assert_array_equal(point.grad.numpy(), [[1, 1, 0, 0]])
