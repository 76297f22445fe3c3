"""Conservation: promised sums, what biases take, leaks by node, parts that cancel, and what has no sum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph_rules.applicability import LAYERS
from graph_rules.rule import Call, Needs
from graph_rules.rule_format import RULES, NamedRule, register_rule
from tests.analyzer.gate.judging import judged, toy
from tests.common.checks import load
from tests.common.models import assemble, cnn, mlp

CHECK: dict[str, Any] = {"kind": "conservation", "max_rel_error": 0.05, "max_abs_over_output": 100.0, "mostly": 0.6}
X = np.random.default_rng(1).standard_normal((12, 6)).astype(np.float32)
PICTURES = np.random.default_rng(1).standard_normal((12, 3, 8, 8)).astype(np.float32)
LRP = {"method": "lrp", "preset": "epsilon-plus"}


def gradient_x_input(context: Any) -> dict[str, Any]:
    found = context.engine.gradient().relevance
    return {name: value * context.inputs[name] for name, value in found.items()}


def promising_the_score(context: Any, found: Any) -> Any:
    return context.complete(found, context.score)


def test_a_map_of_a_model_without_biases_sums_to_its_score() -> None:
    status, message, outcome = judged(load(cnn(bias=False)), PICTURES, {**CHECK, "biases": "leak"}, explain=LRP)
    assert status == "pass", message
    assert np.nanmax(outcome.values["relative error"]) < 1e-3


@pytest.mark.parametrize(("biases", "status"), [("declared", "pass"), ("leak", "fail")])
def test_planted_biases_are_told_and_fail_where_they_count_as_leaks(biases: str, status: str) -> None:
    proto = cnn()
    bias = next(t for t in proto.graph.initializer if t.name == "b2")
    bias.CopyFrom(numpy_helper.from_array(np.full(5, 2.0, np.float32), "b2"))
    found, message, outcome = judged(load(proto), PICTURES, {**CHECK, "biases": biases}, explain=LRP)
    assert found == status, message
    if biases == "declared":
        assert np.nanmedian(outcome.values["share of biases"]) > 0.2 and "less what biases take" in message
    else:
        assert "'conv2'" in message and outcome.details["leaks"][0]["node"] == "conv2"


@dataclass(frozen=True)
class Lossy(NamedRule):
    """Hands on four fifths of what a bias-free linear layer gets."""

    name: ClassVar[str] = "lossy"
    needs: ClassVar[Needs] = Needs.VALUES
    kinds: ClassVar[frozenset[str]] = LAYERS

    def backward(self, call: Call, relevance: Any) -> Sequence[Any]:
        z = call.output + 1e-12
        return [0.8 * call.inputs[0] * call.vjp(relevance / z)[0]]


@pytest.fixture
def lossy() -> Iterator[None]:
    register_rule()(Lossy)
    yield
    del RULES["lossy"]


@pytest.mark.usefixtures("lossy")
def test_a_rule_that_loses_relevance_fails_and_its_node_is_named() -> None:
    params = {"composite": "epsilon", "rules": {"first": "lossy"}}
    explain = {"method": "lrp", "params": params}
    status, message, outcome = judged(load(mlp(bias=False)), X, CHECK, explain=explain)
    assert status == "fail" and "most is lost at node 'first'" in message
    assert outcome.details["leaks"][0] == {"node": "first", "share of the score": pytest.approx(0.2, abs=1e-3)}


@pytest.mark.parametrize(("bias", "status"), [(False, "pass"), (True, "fail")])
def test_a_method_that_promises_a_sum_that_it_does_not_keep(bias: bool, status: str) -> None:
    check = {**CHECK, "max_rel_error": 1e-3}
    with toy("promising", gradient_x_input, promising_the_score):
        found, message, outcome = judged(load(mlp(bias=bias)), X, check, explain={"method": "promising"})
    assert found == status, message
    assert len(outcome.exhibits) == 4 and "sums to" in outcome.exhibits[0].caption


def test_parts_that_cancel_fail() -> None:
    def cancelling(context: Any) -> dict[str, Any]:
        found = gradient_x_input(context)
        return {name: value + 1e4 * np.array([1, -1] * 3, np.float32) for name, value in found.items()}

    with toy("cancelling", cancelling, promising_the_score):
        status, message, _ = judged(load(mlp(bias=False)), X, CHECK, explain={"method": "cancelling"})
    assert status == "fail" and "Σ|R|" in message


def test_without_a_promise_or_a_score_it_is_inconclusive() -> None:
    status, message, _ = judged(load(mlp()), X, CHECK, explain={"method": "gradient"})
    assert status == "inconclusive" and "gradient promises no sum" in message
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"], name="head")]
    rows, classes = (TensorProto.FLOAT, ["n", 6]), (TensorProto.FLOAT, ["n", 3])
    zero_head = load(assemble(nodes, {"x": rows}, {"scores": classes}, {"w": np.zeros((6, 3), np.float32)}))
    status, message, outcome = judged(zero_head, X, CHECK, explain=LRP)
    assert status == "inconclusive" and "the score is 0" in message
    assert outcome.left_out == {"the score is 0": 12}


def test_some_inputs_without_a_score_are_left_out_many_make_it_inconclusive() -> None:
    model = load(mlp(bias=False))
    x = X.copy()
    x[:2] = 0
    status, message, outcome = judged(model, x, CHECK, explain=LRP)
    assert status == "pass" and outcome.left_out == {"the score is 0": 2}, message
    x[:5] = 0
    status, message, _ = judged(model, x, CHECK, explain=LRP)
    assert status == "inconclusive" and "5 left out: the score is 0" in message


def test_a_fixed_batch_is_counted_once() -> None:
    values = [judged(load(cnn(batch)), PICTURES, CHECK, explain=LRP)[2].values["share of biases"] for batch in ("n", 4)]
    np.testing.assert_allclose(*values, rtol=1e-4)


def test_deeplift_promises_a_difference(shapes: Any) -> None:
    check = {**CHECK, "biases": "leak"}
    assert judged(*shapes, check, explain={"method": "deeplift"})[0] == "pass"
    status, message, _ = judged(*shapes, {**check, "max_abs_over_output": 1.0}, explain={"method": "deeplift"})
    assert status == "fail" and "Σ|R|" in message  # which gradients' noise makes large
