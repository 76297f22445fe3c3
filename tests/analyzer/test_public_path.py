"""Single operators through the public path, inputs as odd as operators allow: empty, infinite, without a batch axis."""

from __future__ import annotations

import numpy as np
import pytest

import analyzer
from tests.analyzer.importer.oracle import node_model

CASES = {
    "no axes": ("ReduceSum", {"x": np.ones((2, 3), np.float32), "axes": np.zeros(0, np.int64)}, {}),
    "no elements": ("Relu", {"x": np.zeros((0, 3), np.float32)}, {}),
    "no number": ("IsNaN", {"x": np.array([np.nan, np.inf, 1], np.float32)}, {}),
    "no axis at all": ("Exp", {"x": np.array(1.5, np.float32)}, {}),
    "truth values": ("Not", {"x": np.array([True, False])}, {}),
    "empty matrix": ("Trilu", {"x": np.zeros((0, 5), np.int64)}, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_odd_inputs_reach_the_operator(name: str) -> None:
    op, feed, attributes = CASES[name]
    model = analyzer.load(node_model(op, feed, **attributes))
    got, expected = model.predict(feed, backend="torch")["y0"], model.predict(feed)["y0"]
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-6)
