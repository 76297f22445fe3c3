"""Determinism: random operators, rows that depend on each other and methods that ignore the seed are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.analyzer.gate.judging import judged, toy
from tests.common.checks import load
from tests.common.models import assemble, cnn, mlp

CHECK: dict[str, Any] = {
    "kind": "determinism", "repeats": 3, "vary": ["threads", "batch"], "atol": 1e-6, "explanation_spearman": 0.9999,
}  # fmt: skip
X = np.random.default_rng(4).standard_normal((6, 6)).astype(np.float32)
ROWS = (TensorProto.FLOAT, ["n", 6])


def two_nodes(*nodes: Any) -> Any:
    return load(assemble(nodes, {"x": ROWS}, {"scores": ROWS}, {"small": np.float32(1e-4)}))


NOISY = two_nodes(
    helper.make_node("RandomNormalLike", ["x"], ["noise"], name="noise"),
    helper.make_node("Mul", ["noise", "small"], ["little"], name="scale"),
    helper.make_node("Add", ["x", "little"], ["scores"], name="sum"),
)
BY_BATCH = two_nodes(
    helper.make_node("ReduceMean", ["x"], ["mean"], name="mean", axes=[0], keepdims=1),
    helper.make_node("Sub", ["x", "mean"], ["scores"], name="centre"),
)


@pytest.mark.parametrize("method", ["gradient-x-input", "lrp", "occlusion", "smoothgrad"])
def test_models_and_methods_that_are_deterministic_pass(method: str) -> None:
    x = np.random.default_rng(1).standard_normal((6, 3, 8, 8)).astype(np.float32)
    params = {"smoothgrad": {"samples": 3}, "occlusion": {"window": 4}}.get(method, {})
    status, message, _ = judged(
        load(cnn()),
        x,
        {**CHECK, "vary": ["threads", "batch", "optimisation"]},
        explain={"method": method, "params": params},
    )
    assert status == "pass", message


def test_random_numbers_fail_and_the_operator_is_named() -> None:
    status, message, outcome = judged(NOISY, X, CHECK)
    assert status == "fail" and "RandomNormalLike draws random numbers" in message
    assert outcome.tests[0].estimate == 0


def test_rows_that_depend_on_each_other_fail_by_batch() -> None:
    status, message, outcome = judged(BY_BATCH, X, CHECK, explain={"method": "gradient"})
    assert status == "fail" and "most by batch" in message
    kinds = outcome.details["difference over what is allowed"]
    assert kinds["repeats"] == kinds["threads"] == 0


def test_a_method_that_ignores_the_seed_fails() -> None:
    fresh = np.random.default_rng()
    with toy("restless", lambda c: {n: fresh.standard_normal(v.shape).astype(np.float32) for n, v in c.inputs.items()}):
        status, message, outcome = judged(load(mlp()), X, CHECK, explain={"method": "restless"})
    assert status == "fail" and "whose maps keep" in message
    assert outcome.exhibits and outcome.exhibits[0].other is not None


def test_a_map_of_zeros_is_the_same_again() -> None:
    with toy("nothing", lambda c: {n: np.zeros_like(v) for n, v in c.inputs.items()}):
        assert judged(load(mlp(2)), X, CHECK, explain={"method": "nothing"})[0] == "pass"


def test_a_few_inputs_whose_outputs_may_differ_do_not_excuse_maps() -> None:
    model = two_nodes(  # where an input is zero, its scores are the mean of the batch
        helper.make_node("Cast", ["x"], ["bright"], name="bright", to=TensorProto.BOOL),
        helper.make_node("ReduceMean", ["x"], ["mean"], name="mean", axes=[0], keepdims=1),
        helper.make_node("Where", ["bright", "x", "mean"], ["scores"], name="choose"),
    )
    x = np.concatenate([np.zeros((1, 6)), np.ones((11, 6))]).astype(np.float32)
    fresh = np.random.default_rng()
    check = {**CHECK, "mostly": 0.5}
    with toy("restless", lambda c: {n: fresh.standard_normal(v.shape).astype(np.float32) for n, v in c.inputs.items()}):
        status, message, outcome = judged(model, x, check, explain={"method": "restless", "target": "0"})
    assert outcome.tests[0].holds and outcome.tests[0].estimate == pytest.approx(11 / 12)
    assert status == "fail" and "whose maps keep" in message
