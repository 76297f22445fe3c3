"""Relevance on the object, held by the scenes' own masks, class by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.analyzer.gate.linear import SIDE, given, linear
from tests.analyzer.gate.scenes import judged, policy, scenes, tagged_stars, write

CHECK = {"kind": "region_mass"}


@pytest.mark.parametrize(("model", "status"), [("shapes_cnn", "pass"), ("shapes_cheater", "fail")])
def test_the_cheaters_class_has_its_relevance_elsewhere(tmp_path: Path, model: str, status: str) -> None:
    images, objects, labels = scenes(120)
    data = write(tmp_path, tagged_stars(images, labels), labels, objects)
    found = judged(policy(model, data, {**CHECK, "min_n_per_class": 15}))
    assert found.status == status, found.message
    if status == "fail":
        assert "in class star" in found.message
        whole = found.outcome.tests[0]  # the other classes are fine, and so are all inputs together
        assert whole.part == ""
        assert whole.holds
        assert not [test for test in found.outcome.tests if test.part not in ("", "class star") and not test.holds]


def test_small_classes_are_named_as_not_judged(tmp_path: Path) -> None:
    images, objects, labels = scenes(120)
    data = write(tmp_path, images, labels, objects)
    found = judged(policy("shapes_cnn", data, CHECK))
    assert len(found.outcome.tests) == 1
    assert found.outcome.details["not judged by themselves"]["class star"] == 20


def test_inputs_without_positive_relevance_are_left_out(tmp_path: Path) -> None:
    weights = np.ones((SIDE * SIDE, 2)) * [[-1.0, -2.0]]  # both classes only speak against
    x = np.random.default_rng(0).uniform(0.1, 1, (70, 1, SIDE, SIDE)).astype(np.float32)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:2] = True
    np.savez(tmp_path / "data.npz", image=x, mask=mask)
    model = linear(tmp_path / "model.onnx", weights)
    found = judged(given(model, tmp_path / "data.npz", CHECK))
    assert found.status == "inconclusive"
    assert found.outcome.left_out == {"no positive relevance": 70}
    absolute = judged(
        given(model, tmp_path / "data.npz", {**CHECK, "relevance": "absolute", "min_mass_over_area": 0.5})
    )
    assert absolute.status == "pass"
    expected = np.abs(x[:, 0, :2]).sum(axis=(1, 2)) / np.abs(x).sum(axis=(1, 2, 3)) / 0.25
    np.testing.assert_allclose(absolute.outcome.values["mass over area"], expected, rtol=1e-5)
