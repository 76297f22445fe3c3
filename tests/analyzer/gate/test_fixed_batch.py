"""Models that take one sample at a time are looked into as others are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.analyzer.gate.judging import judged
from tests.common.checks import load
from tests.common.models import assemble

X = np.random.default_rng(2).uniform(0.5, 1.0, (8, 6)).astype(np.float32)


def one_by_one() -> Any:
    """Weighted sums of logarithms, of a single row."""
    nodes = [
        helper.make_node("Log", ["x"], ["log"], name="logarithm"),
        helper.make_node("MatMul", ["log", "w"], ["scores"], name="head"),
    ]
    w = np.random.default_rng(3).standard_normal((6, 3)).astype(np.float32)
    shapes = {"x": (TensorProto.FLOAT, [1, 6])}
    return load(assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, [1, 3])}, {"w": w}))


@pytest.mark.parametrize("lost", [None, 5])
def test_every_value_is_looked_at(lost: int | None) -> None:
    x = X.copy()
    if lost is not None:
        x[lost, 2] = -1.0
    explain = {"method": "gradient", "target": "0"}
    status, message, outcome = judged(one_by_one(), x, {"kind": "finite", "where": ["activations"]}, explain=explain)
    assert status == ("pass" if lost is None else "fail"), message
    if lost is not None:
        assert "logarithm" in message and outcome.details["inputs"] == ["input5"]


def test_tensors_are_held_against_a_reference() -> None:
    check = {"kind": "tensor_sqnr", "min_db": 100.0}
    status, message, _ = judged(one_by_one(), X, check, reference=one_by_one(), explain={"method": "gradient"})
    assert status == "pass", message
