"""Deciding where inputs have no value, where nothing was stated, and what a failure is put down to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analyzer.evaluation import statistics
from analyzer.gate.decide import decided
from analyzer.gate.outcome import Outcome
from analyzer.gate.policy import Policy, parse_policy

BASE: dict[str, Any] = {
    "schema": 1, "model": {"path": "m.onnx"}, "data": {"path": "d"}, "check": [{"id": "a", "kind": "finite"}],
}  # fmt: skip


def policy() -> Policy:
    return parse_policy({**BASE, "policy": {"min_n": 4}})


def stated(good: int, bad: int = 0, **rest: Any) -> Outcome:
    ok = np.arange(good + bad) < good
    return Outcome([statistics.share("the share that is right", ok, 1.0, 0.95)], **rest)


@pytest.mark.parametrize(("lost", "status"), [(2, "pass"), (3, "inconclusive")])
def test_more_inputs_without_a_value_than_may_be_show_nothing(lost: int, status: str) -> None:
    outcome = stated(8, left_out={"no map": lost}, most_left_out=0.2)
    [(found, message, _)] = decided([outcome], policy())
    assert found == status
    assert status == "pass" or f"{lost} left out: no map" in message


def test_what_is_shown_to_be_broken_fails_however_many_are_left_out() -> None:
    outcome = stated(6, 2, left_out={"no map": 90}, most_left_out=0.2, because="node 'x' is to blame")
    [(found, message, _)] = decided([outcome], policy())
    assert found == "fail" and message.endswith("node 'x' is to blame; 90 left out: no map")


def test_stating_nothing_is_inconclusive() -> None:
    assert decided([Outcome()], policy())[0][0] == "inconclusive"
