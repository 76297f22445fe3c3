"""Pixel-flipping: the exact map of a linear model passes; edge filters, chance and the reversed map fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from analyzer.errors import UsageError
from tests.analyzer.gate.judging import judged, toy
from tests.common.checks import load
from tests.common.models import assemble

CHECK: dict[str, Any] = {
    "kind": "pixel_flipping", "steps": 8, "baseline": [0.0, "mean"], "versus": ["random", "sobel"], "min_margin": 0.05,
    "test": "paired_bootstrap", "mostly": 0.6,
}  # fmt: skip
X = np.random.default_rng(8).uniform(0.2, 1, (24, 1, 8, 8)).astype(np.float32)


def linear(zero: bool = False) -> Any:
    draw = np.random.default_rng(7)
    weights = {"w": draw.uniform(0, 1, (64, 3)).astype(np.float32) ** 3 * (0 if zero else 1)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "w"], ["scores"], name="head"),
    ]
    shapes = {"x": (TensorProto.FLOAT, ["n", 1, 8, 8])}
    return load(assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, ["n", 3])}, weights))


def exact(context: Any) -> dict[str, Any]:
    found = context.engine.gradient().relevance
    return {name: value * context.inputs[name] for name, value in found.items()}


def edges(context: Any) -> dict[str, Any]:
    from scipy.ndimage import sobel

    return {n: np.hypot(sobel(v, 2), sobel(v, 3)).astype(np.float32) for n, v in context.inputs.items()}


def chance(context: Any) -> dict[str, Any]:
    draw = np.random.default_rng(9)
    return {n: draw.standard_normal(v.shape).astype(np.float32) for n, v in context.inputs.items()}


MAPS = {
    "exact": (exact, "pass"), "edges": (edges, "fail"), "chance": (chance, "fail"),
    "reversed": (lambda context: {n: -v for n, v in exact(context).items()}, "fail"),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_a_map_of_known_quality(name: str) -> None:
    maps, status = MAPS[name]
    with toy(f"toy-{name}", maps):
        found, message, outcome = judged(linear(), X, CHECK, explain={"method": f"toy-{name}"})
    assert found == status, message
    areas = outcome.details["mean areas"]
    assert set(areas) == {"explanation", "random", "sobel"}
    if name == "reversed":
        assert max(areas.values()) == areas["explanation"]
    least = np.minimum(outcome.values["margin over random"], outcome.values["margin over sobel"])
    assert [e.id for e in outcome.exhibits] == [f"input{at}" for at in np.argsort(least, kind="stable")[:4]]


def test_the_mean_margin_is_the_difference_of_the_areas() -> None:
    with toy("toy-exact", exact):
        outcome = judged(linear(), X, {**CHECK, "versus": ["sobel"]}, explain={"method": "toy-exact"})[2]
    areas = outcome.details["mean areas"]
    expected = (areas["sobel"] - areas["explanation"]) / outcome.details["mean score"]
    assert outcome.tests[0].estimate == pytest.approx(expected)
    assert len(outcome.tests) == 2


def test_scores_of_zero_are_inconclusive() -> None:
    status, message, _ = judged(linear(zero=True), X, CHECK, explain={"method": "gradient"})
    assert status == "inconclusive" and "is 0" in message


@pytest.mark.parametrize("fill", ["blurr", "samples:nowhere.csv"])
def test_a_baseline_that_is_none_names_check_and_key(fill: str) -> None:
    with pytest.raises(UsageError) as caught:
        judged(linear(), X, {**CHECK, "id": "faithful", "baseline": [fill]}, explain={"method": "gradient"})
    assert caught.value.code == "config.gate"
    assert "'faithful'" in caught.value.message and "baseline" in caught.value.message
