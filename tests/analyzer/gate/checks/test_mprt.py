"""Model randomisation: a map of the model passes, one that ignores the model fails, in both variants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.analyzer.gate.judging import judged, toy

MPRT: dict[str, Any] = {
    "kind": "mprt", "variant": "efficient", "order": "bottom_up", "max_spearman": 0.5, "min_entropy_rise": 0.0, "draws": 1,
}  # fmt: skip


def ignoring_the_model(context: Any) -> dict[str, Any]:
    return {name: np.abs(value - 0.5) for name, value in context.inputs.items()}


@pytest.mark.parametrize("variant", ["efficient", "full"])
def test_a_map_of_the_model_passes_randomisation(shapes: Any, variant: str) -> None:
    check = {**MPRT, "variant": variant, "steps": 2}
    status, message, outcome = judged(*shapes, check, explain={"method": "lrp", "preset": "epsilon-gamma-box"})
    assert status == "pass", message
    assert len(outcome.tests) == (2 if variant == "efficient" else 1)


@pytest.mark.parametrize("variant", ["efficient", "full"])
def test_a_map_that_ignores_the_model_fails_randomisation(shapes: Any, variant: str) -> None:
    with toy("ignorant", ignoring_the_model):
        check = {**MPRT, "variant": variant, "steps": 2}
        status, message, outcome = judged(*shapes, check, explain={"method": "ignorant"})
    assert status == "fail" and "randomised model" in message
    np.testing.assert_allclose(outcome.values["rank correlation"], 1.0)
    assert len(outcome.exhibits) == 4
