"""Class sensitivity: maps that ignore the class fail; guided backpropagation is known to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.analyzer.gate.judging import judged, toy
from tests.common.checks import load
from tests.common.models import mlp

LOGIT: dict[str, Any] = {"kind": "random_logit", "max_similarity": 0.9}


def ignoring_the_class(context: Any) -> dict[str, Any]:
    """How the sum of all scores depends on the input."""
    weights = np.ones_like(context.target.weights)
    found = context.engine_on(dict(context.inputs), weights).gradient().relevance
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.parametrize("method", ["lrp", "gradient"])
def test_a_map_of_the_class_passes(shapes: Any, method: str) -> None:
    status, message, _ = judged(*shapes, LOGIT, explain={"method": method})
    assert status == "pass", message


def test_maps_that_ignore_the_class_fail(shapes: Any) -> None:
    with toy("classless", ignoring_the_class):
        status, message, outcome = judged(*shapes, LOGIT, explain={"method": "classless"})
    assert status == "fail", message
    np.testing.assert_allclose(outcome.values["similarity"], 1.0, atol=1e-6)
    status, message, _ = judged(*shapes, LOGIT, explain={"method": "guided-backprop"})
    assert status == "fail", message


def test_what_explains_no_class_is_inconclusive() -> None:
    x = np.random.default_rng(3).standard_normal((6, 6)).astype(np.float32)
    status, message, outcome = judged(load(mlp()), x, LOGIT, explain={"method": "gradient", "target": "scores[:,0:2]"})
    assert status == "inconclusive" and "no class" in message
    assert sum(outcome.left_out.values()) == 6
