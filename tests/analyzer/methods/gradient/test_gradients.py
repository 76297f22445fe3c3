"""Gradients, squared and times the input, in closed form."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

import analyzer
from tests.common.models import assemble

A = np.array([[2.0, 0.5], [0.5, -1.0]], np.float32)
B = np.array([1.0, -3.0], np.float32)


def quadratic() -> analyzer.Model:
    """x' A x / 2 + b' x, whose gradient is A x + b."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["ax"]),
        helper.make_node("Mul", ["x", "ax"], ["xax"]),
        helper.make_node("Mul", ["xax", "half"], ["curved"]),
        helper.make_node("Mul", ["x", "b"], ["straight"]),
        helper.make_node("Add", ["curved", "straight"], ["both"]),
        helper.make_node("ReduceSum", ["both", "axes"], ["y"], keepdims=1),
    ]
    weights = {"a": A, "b": B, "half": np.array(0.5, np.float32), "axes": np.array([1], np.int64)}
    shapes = {"x": (TensorProto.FLOAT, ["n", 2])}
    return analyzer.load(assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["n", 1])}, weights), "cpu", threads=1)


def test_gradient_times_input_sensitivity() -> None:
    """(df/dx)^2 x: of the input's sign, so the map is a signed one."""
    x = np.array([[1.5, -0.5], [-2.0, 1.0]], np.float32)
    slopes = x.astype(np.float64) @ A + B
    found = quadratic().explain(x, "sensitivity", target=0, times_input=True)
    np.testing.assert_allclose(found.attribution, slopes**2 * x, rtol=1e-5)
    assert found.signed
    assert (found.attribution < 0).any()
    plain = quadratic().explain(x, "sensitivity", target=0)
    np.testing.assert_allclose(plain.attribution, slopes**2, rtol=1e-5)
    assert not plain.signed


def test_it_compiles() -> None:
    x = np.array([[1.5, -0.5]], np.float32)
    made = analyzer.compile(quadratic(), "sensitivity", 0, times_input=True)
    session = onnxruntime.InferenceSession(made.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(["relevance"], {"x": x})
    np.testing.assert_allclose(got, (x @ A + B) ** 2 * x, rtol=1e-5)
