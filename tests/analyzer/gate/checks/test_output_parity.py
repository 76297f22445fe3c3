"""Output parity: good traces pass, planted faults of one operator are found and named, at the outputs and inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from analyzer.importer import table
from analyzer.importer.table import operator
from tests.analyzer.gate.judging import judged
from tests.common.checks import load
from tests.common.models import Case, assemble, cases, untraceable

CHECK: dict[str, Any] = {"kind": "output_parity", "rtol": 1e-4, "atol": 1e-5, "stat": "max", "layerwise": True}


@pytest.fixture(params=[1.0, 1.001])
def factor(request: pytest.FixtureRequest) -> Iterator[float]:
    """What the trace makes of an operator that hands its input on: the very same, or a thousandth more."""

    @operator("SampleOp", domain="com.microsoft")
    def sample_op(node: Any, x: Any) -> Any:
        return x * request.param

    yield request.param
    del table._TABLE["com.microsoft", "SampleOp"]


def with_the_operator(visible: bool) -> Any:
    """A linear model through the operator; or one whose output adds 0 times what the operator gives."""
    draw = np.random.default_rng(3)
    weights = {"w": draw.standard_normal((6, 3)).astype(np.float32), "zero": np.zeros(3, np.float32)}
    nodes = [
        helper.make_node("SampleOp", ["x"], ["same"], name="strange", domain="com.microsoft"),
        helper.make_node("MatMul", ["same", "w"], ["through"], name="linear"),
        helper.make_node("MatMul", ["x", "w"], ["past"], name="past"),
        helper.make_node("Mul", ["through", "zero"], ["nothing"], name="nothing"),
        helper.make_node("Add", ["past", "through" if visible else "nothing"], ["scores"], name="sum"),
    ]
    shapes = {"x": (TensorProto.FLOAT, ["n", 6])}
    return load(
        assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, ["n", 3])}, weights, domains={"com.microsoft": 1})
    )


X = np.random.default_rng(4).standard_normal((6, 6)).astype(np.float32)


def test_a_fault_of_one_operator_fails_and_is_named(factor: float) -> None:
    status, message, outcome = judged(with_the_operator(True), X, CHECK)
    assert status == ("pass" if factor == 1 else "fail")
    assert outcome.tests[0].estimate == (1.0 if factor == 1 else 0.0)
    if factor != 1:
        assert "'strange' is the first to differ" in message


def test_a_fault_that_outputs_do_not_show_is_found_layer_by_layer(factor: float) -> None:
    model = with_the_operator(False)
    status, message, outcome = judged(model, X, CHECK)
    assert status == ("pass" if factor == 1 else "fail")
    assert outcome.details["outputs"]["scores"] < 1
    if factor != 1:
        assert "'strange' is the first to differ" in message
        assert "'strange'" in outcome.details["layers"][0]["node"] or "'linear'" in outcome.details["layers"][0]["node"]
    assert judged(model, X, {**CHECK, "layerwise": False})[0] == "pass"


@pytest.mark.parametrize("case", cases(6), ids=lambda case: case.name)
def test_models_of_all_kinds_pass(case: Case) -> None:
    status, message, _ = judged(load(case.proto), case.feed, {"kind": "output_parity"})
    assert status == "pass", message


def test_what_has_no_trace_or_draws_at_random_is_inconclusive() -> None:
    status, message, outcome = judged(load(untraceable("custom")[0]), X, CHECK)
    assert (status, outcome.code) == ("inconclusive", "op.unsupported") and "strange" in message
    noise = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"], name="noise"),
        helper.make_node("Add", ["x", "noise"], ["scores"], name="sum"),
    ]
    kind = (TensorProto.FLOAT, ["n", 6])
    status, message, _ = judged(load(assemble(noise, {"x": kind}, {"scores": kind}, {})), X, CHECK)
    assert status == "inconclusive" and "RandomNormalLike" in message


def test_a_fixed_batch_and_few_inputs() -> None:
    from tests.common.models import mlp

    assert judged(load(mlp(4)), X, CHECK)[0] == "pass"
    assert judged(load(mlp()), X, CHECK, min_n=59)[0] == "inconclusive"
