"""A target that names a rank is held fixed where changed inputs are explained, whatever lies behind what is explained."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

import analyzer
from tests.common.models import assemble


def test_an_element_before_a_reshaping_is_held() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["flat"]), helper.make_node("Reshape", ["flat", "shape"], ["picture"]),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    w = rng.standard_normal((5, 6)).astype(np.float32)
    shapes = {"x": (TensorProto.FLOAT, ["n", 5])}
    made = {"w": w, "shape": np.array([-1, 1, 2, 3], np.int64)}
    model = analyzer.load(assemble(nodes, shapes, {"picture": (TensorProto.FLOAT, ["n", 1, 2, 3])}, made), "cpu")
    x = rng.standard_normal((3, 5)).astype(np.float32)
    e = model.explain(x, "gradient")
    np.testing.assert_allclose(e.attribution, w.T[(x @ w).argmax(axis=1)], rtol=1e-5)
    found = analyzer.evaluate(model, x, e, "max-sensitivity", samples=4, radius=2.0)
    np.testing.assert_allclose(found.values, 0, atol=1e-6)  # another element's derivatives would differ
