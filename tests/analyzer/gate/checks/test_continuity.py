"""Continuity: a smooth model passes, one whose gradient jumps under invisible noise fails; class changes are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.analyzer.gate.judging import judged
from tests.common.checks import load
from tests.common.models import assemble

CHECK: dict[str, Any] = {
    "kind": "continuity", "noise": "uniform", "radius_px": 2, "samples": 4, "stat": "p95", "max": 1.0,
    "skip_if_class_changes": True, "max_skipped": 0.2,
}  # fmt: skip
EXPLAIN = {"method": "gradient", "target": "0"}
DRAW = np.random.default_rng(5)
X = DRAW.uniform(0, 1, (12, 1, 8, 8)).astype(np.float32)


def waves(frequency: float, offset: float = 100.0) -> Any:
    """Scores are sums of sines of the pixels, so that the gradient is their cosines; class 0 leads by an offset."""
    draw = np.random.default_rng(6)
    weights = {
        "frequency": np.float32(frequency), "w": draw.standard_normal((64, 2)).astype(np.float32),
        "b": np.array([offset, 0], np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Mul", ["x", "frequency"], ["angle"], name="angle"),
        helper.make_node("Sin", ["angle"], ["wave"], name="wave"),
        helper.make_node("Flatten", ["wave"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "w", "b"], ["scores"], name="head"),
    ]
    shapes = {"x": (TensorProto.FLOAT, ["n", 1, 8, 8])}
    return load(assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, ["n", 2])}, weights))


@pytest.mark.parametrize(("frequency", "status"), [(1.0, "pass"), (1e4, "fail")])
def test_gradients_that_jump_fail(frequency: float, status: str) -> None:
    found, message, outcome = judged(waves(frequency), X, {**CHECK, "stat": "median"}, explain=EXPLAIN)
    assert found == status, message
    # cosines of independent angles change by sqrt(2) of their norm; the largest of four by a little more
    expected = pytest.approx(1.5, abs=0.25) if frequency > 1 else pytest.approx(0.0, abs=0.05)
    assert np.median(outcome.values["change"]) == expected
    assert outcome.exhibits[0].id == f"input{np.argmax(outcome.values['change'])}"


@pytest.mark.parametrize(("radius", "status"), [(2, "pass"), (2e5, "fail")])
def test_the_radius_is_in_grey_levels(radius: float, status: str) -> None:
    check = {**CHECK, "radius_px": radius, "stat": "max"}
    found, message, outcome = judged(waves(1.0), X, check, explain=EXPLAIN)
    assert found == status, message
    assert outcome.details["radius"] == pytest.approx(radius / 255)


def test_the_preprocessing_tells_what_a_grey_level_is(sample_models: Any) -> None:
    import analyzer
    from tests.analyzer.gate.judging import gate_of

    model = analyzer.load(sample_models / "shapes_cnn.onnx", "cpu", preprocess="imagenet", threads=1)
    gate = gate_of(model, np.zeros((1, 3, 64, 64), np.float32), CHECK)
    check: Any = gate.policy.check[0]
    found = check._radius(gate)
    assert found["scale"] == "absolute"
    assert found["radius"] == pytest.approx(2 / 255 * np.mean(1 / np.array([0.229, 0.224, 0.225])), rel=1e-5)


def test_inputs_whose_neighbours_change_class_are_skipped_and_many_make_it_inconclusive() -> None:
    model = waves(1e4, offset=0.0)
    explain = {"method": "gradient"}
    check = {**CHECK, "max": 100.0, "stat": "median"}
    status, message, outcome = judged(model, X, check, explain=explain)
    assert status == "inconclusive" and "in another class" in message
    assert sum(outcome.left_out.values()) == np.isnan(outcome.values["change"]).sum() > 2
    assert judged(model, X, {**check, "skip_if_class_changes": False}, explain=explain)[0] == "pass"


def test_a_slope_is_beside_the_inputs_own_change() -> None:
    check = {**CHECK, "measure": "slope", "stat": "median"}
    slow, fast = (judged(waves(each), X, {**check, "max": 10.0}, explain=EXPLAIN) for each in (1.0, 1e4))
    assert (slow[0], fast[0]) == ("pass", "fail")
    assert np.nanmedian(fast[2].values["slope"]) > 50 * np.nanmedian(slow[2].values["slope"])
