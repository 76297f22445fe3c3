"""Finiteness: what isn't finite is found in weights, inside the model and in maps, and the first place is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.analyzer.gate.judging import judged, toy
from tests.common.checks import load
from tests.common.models import Case, assemble, cases, mlp

CHECK: dict[str, Any] = {"kind": "finite", "where": ["weights", "activations", "relevance"]}
ROWS = (TensorProto.FLOAT, ["n", 6])
X = np.random.default_rng(4).standard_normal((6, 6)).astype(np.float32)


def model(nodes: list[Any], **weights: Any) -> Any:
    arrays = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    return load(assemble(nodes, {"x": ROWS}, {"scores": ROWS}, arrays))


@pytest.mark.parametrize("case", cases(4), ids=lambda case: case.name)
def test_models_of_all_kinds_pass(case: Case) -> None:
    status, message, _ = judged(load(case.proto), case.feed, CHECK, explain={"method": "gradient-x-input"})
    assert status == "pass", message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_fails_by_name(value: float) -> None:
    weight = np.eye(6)
    weight[2, 3] = value
    nodes = [helper.make_node("MatMul", ["x", "broken"], ["scores"], name="linear")]
    status, message, outcome = judged(model(nodes, broken=weight), X, CHECK)
    assert (status, outcome.code) == ("fail", "numeric.nonfinite_weight") and "broken" in message
    status, message, outcome = judged(model(nodes, broken=weight), X, {**CHECK, "where": ["activations"]})
    assert (status, outcome.code) == ("fail", "numeric.nonfinite_activation")
    assert "'linear'" in message


def test_an_overflow_that_outputs_do_not_show_names_its_node_and_input() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "large"], ["far"], name="stretch"),
        helper.make_node("Mul", ["far", "large"], ["beyond"], name="overflow"),
        helper.make_node("Sigmoid", ["beyond"], ["scores"], name="squash"),
    ]
    overflowing = model(nodes, large=1e38)
    x = np.zeros((6, 6), np.float32)
    x[3] = 1.0
    assert np.isfinite(overflowing.predict(x)["scores"]).all()
    status, message, outcome = judged(overflowing, x, CHECK)
    assert (status, outcome.code) == ("fail", "numeric.nonfinite_activation")
    assert "'overflow' makes an infinite value" in message and "input3" in message and "1 of 6" in message
    assert list(outcome.values["activations are finite"]) == [1, 1, 1, 0, 1, 1]
    assert all(exhibit.id == "input3" for exhibit in outcome.exhibits)
    assert judged(overflowing, np.zeros((6, 6), np.float32), {**CHECK, "where": ["activations"]})[0] == "pass"


@pytest.mark.parametrize(("kept", "status"), [(3, "pass"), (0, "fail")])
def test_minus_infinity_in_a_mask_is_no_fault_but_what_a_softmax_makes_of_nothing_else_is(
    kept: int, status: str
) -> None:
    mask = np.where(np.arange(6) < kept, 0.0, -np.inf)
    nodes = [
        helper.make_node("Add", ["x", "mask"], ["masked"], name="mask_out"),
        helper.make_node("Softmax", ["masked"], ["shares"], name="attention", axis=1),
        helper.make_node("Mul", ["shares", "x"], ["scores"], name="weigh"),
    ]
    found, message, _ = judged(model(nodes, mask=mask), X, {**CHECK, "where": ["weights", "activations"]})
    assert found == status, message
    assert status == "pass" or "'attention' makes NaN" in message


def test_a_map_that_is_not_finite_fails() -> None:
    def broken(context: Any) -> Any:
        return {n: np.where(v > 1.0, np.nan, v).astype(np.float32) for n, v in context.inputs.items()}

    x = np.zeros((6, 6), np.float32)
    x[1, 2] = 2.0
    with toy("broken", broken):
        status, message, outcome = judged(load(mlp()), x, CHECK, explain={"method": "broken"})
        assert (status, outcome.code) == ("fail", "numeric.nonfinite_relevance") and "input1" in message
        assert outcome.details["inputs"] == ["input1"]
        assert judged(load(mlp()), x, {**CHECK, "where": ["weights"]}, explain={"method": "broken"})[0] == "pass"


def test_a_score_that_is_not_finite_is_the_models_fault() -> None:
    nodes = [helper.make_node("Log", ["x"], ["scores"], name="logarithm")]
    status, message, _ = judged(model(nodes), np.abs(X) - 0.1, CHECK)
    assert status == "fail" and "'logarithm' makes NaN" in message
