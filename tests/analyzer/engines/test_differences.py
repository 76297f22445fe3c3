"""Gradients in double precision against finite differences, for every smooth activation of the operator table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from analyzer import load
from analyzer.model import Model

#: operator -> attributes; the inputs stay away from the few corners
SMOOTH: dict[str, dict[str, Any]] = {
    "Sigmoid": {}, "Tanh": {}, "Elu": {"alpha": 0.7}, "Celu": {"alpha": 1.3}, "Selu": {"alpha": 1.5, "gamma": 1.1},
    "Gelu": {}, "Gelu-tanh": {"approximate": "tanh"}, "Softplus": {}, "Softsign": {}, "Mish": {}, "HardSwish": {},
    "HardSigmoid": {"alpha": 0.15, "beta": 0.4}, "LeakyRelu": {"alpha": 0.2}, "ThresholdedRelu": {"alpha": 0.3},
    "Relu": {}, "Erf": {}, "Exp": {}, "Abs": {}, "Neg": {}, "Sin": {}, "Cos": {}, "Tan": {}, "Atan": {}, "Sinh": {},
    "Cosh": {}, "Asinh": {}, "Reciprocal": {}, "Softmax": {"axis": 1}, "LogSoftmax": {"axis": 1},
    "LpNormalization": {"axis": 1, "p": 2},
    "Shrink": {"lambd": 0.1, "bias": 0.05}, "Identity": {},
}  # fmt: skip
#: operators that need a positive input
POSITIVE: dict[str, dict[str, Any]] = {"Sqrt": {}, "Log": {}}
REDUCTIONS = [
    "ReduceMean",
    "ReduceSum",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceProd",
    "ReduceMax",
    "ReduceSumSquare",
    "ReduceL1",
]


def network(op: str, attributes: dict[str, Any], positive: bool = False) -> Model:
    """Linear layer, the operator, linear layer."""
    rng = np.random.default_rng(7)
    constants = {"w": rng.standard_normal((4, 6)), "b": rng.standard_normal(6), "u": rng.standard_normal((6, 3))}
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="/in")]
    if positive:
        constants["one"] = np.array(1.0)
        nodes += [
            helper.make_node("Mul", ["h", "h"], ["s"], name="/s"),
            helper.make_node("Add", ["s", "one"], ["a"], name="/a"),
        ]
    given = "a" if positive else "h"
    if op.startswith("Reduce"):
        constants["axis"] = np.array([1])
        nodes.append(helper.make_node(op, [given, "axis"], ["r"], name="/act", keepdims=1))
        nodes.append(helper.make_node("Mul", ["r", given], ["m"], name="/m"))
    else:
        nodes.append(helper.make_node(op.split("-")[0], [given], ["m"], name="/act", **attributes))
    nodes.append(helper.make_node("MatMul", ["m", "u"], ["y"], name="/out"))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(v.astype(np.float32) if v.dtype == np.float64 else v, k) for k,
            v in constants.items()],
    )  # fmt: skip
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), device="cpu")


def differences(model: Model, x: np.ndarray, target: int, step: float = 1e-6) -> np.ndarray:
    """Central differences of the trace in double precision, one input element after the other."""
    run = model.trace({"x": x}, torch.float64)
    slopes = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        shift = np.zeros(x.shape)
        shift[index] = step
        up, down = (run.run({"x": torch.from_numpy(x + sign * shift)})["y"][:, target].sum().item() for sign in (1, -1))
        slopes[index] = (up - down) / (2 * step)
    return slopes


CASES = [
    *[(op, attributes, False) for op, attributes in SMOOTH.items()],
    *[(op, attributes, True) for op, attributes in POSITIVE.items()],
    *[(op, {}, False) for op in REDUCTIONS],
]


@pytest.mark.parametrize(("op", "attributes", "positive"), CASES, ids=[case[0] for case in CASES])
def test_gradient(op: str, attributes: dict[str, Any], positive: bool) -> None:
    model = network(op, attributes, positive)
    x = np.random.default_rng(5).standard_normal((2, 4)).astype(np.float32)
    found = model.explain(x, method="gradient", target=1, score="logit", precision="float64").attribution
    expected = differences(model, x, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7 * max(1.0, np.abs(expected).max()))
    assert np.abs(found).max() > 1e-3


def test_gradient_of_a_prelu() -> None:
    rng = np.random.default_rng(7)
    constants = {"w": rng.standard_normal((4, 6)), "slope": rng.uniform(0.1, 0.5, 6), "u": rng.standard_normal((6, 3))}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="/in"),
        helper.make_node("PRelu", ["h", "slope"], ["m"], name="/act"),
        helper.make_node("MatMul", ["m", "u"], ["y"], name="/out"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )  # fmt: skip
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), device="cpu")
    x = rng.standard_normal((2, 4)).astype(np.float32)
    found = model.explain(x, method="gradient", target=1, precision="float64").attribution
    np.testing.assert_allclose(found, differences(model, x, 1), rtol=1e-6, atol=1e-7)
