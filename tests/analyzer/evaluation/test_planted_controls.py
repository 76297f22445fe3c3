"""What is known of methods on a model with known objects must come out of the metrics: means over scenes, far apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import analyzer
from models.shapes import scenes
from tests.analyzer.evaluation.maps import Array, with_map

SCENES = 6


@pytest.fixture(scope="module")
def model(sample_models: Path) -> analyzer.Model:
    return analyzer.load(sample_models / "shapes_cnn.onnx", "cpu", threads=1)


@pytest.fixture(scope="module")
def drawn() -> tuple[Array, Array, list[int]]:
    images, masks, labels = scenes.dataset(SCENES, 20_261_127)
    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / 255
    return x, np.asarray(masks), [int(label) for label in labels]


Drawn = tuple[Array, Array, list[int]]
LRP = ("lrp", {"composite": "epsilon-plus"})
EPSILON = ("lrp", {"composite": "epsilon"})


def test_relevance_lies_on_the_object_and_chance_does_not(model: analyzer.Model, drawn: Drawn) -> None:
    x, masks, labels = drawn
    e = model.explain(x, LRP[0], target=labels, **LRP[1])
    chance = with_map(e, np.random.default_rng(0).standard_normal(x.shape).astype(np.float32))
    for metric in ("relevance-mass", "relevance-rank", "top-k-intersection", "localisation-auc"):
        good, none = (analyzer.evaluate(model, x, each, metric, mask=masks) for each in (e, chance))
        assert good.value > none.value + 0.15, metric
        assert good.n_valid == none.n_valid == SCENES
    area = analyzer.evaluate(model, x, chance, "relevance-mass", mask=masks).record["mass_over_area"]
    assert np.mean(area) == pytest.approx(1, abs=0.1)


def test_randomised_weights_change_maps_of_methods_that_use_them(model: analyzer.Model, drawn: Drawn) -> None:
    """Guided backpropagation follows edges: random upper layers hardly change its map (Adebayo et al. 2018)."""
    x, _, labels = (each[:3] for each in drawn)
    likeness = {}
    for name, params in (("gradient", {}), EPSILON, ("guided-backprop", {})):
        e = model.explain(x, name, target=labels, **params)
        likeness[name] = analyzer.evaluate(model, x, e, "parameter-randomisation", steps=4)
        assert likeness[name].n_valid == 3
    assert max(likeness["gradient"].value, likeness["lrp"].value) < 0.2
    assert likeness["guided-backprop"].value > 0.4
    first = likeness["guided-backprop"].curves["top-down"].y[:, 1]
    assert first.mean() > 0.6  # three layers are random, and the map is nearly what it was


def test_methods_that_ignore_the_class_give_other_classes_the_same_map(model: analyzer.Model, drawn: Drawn) -> None:
    x, _, labels = drawn
    found = {}
    for name, params in (LRP, ("deconvnet", {}), ("guided-backprop", {})):
        e = model.explain(x, name, target=labels, **params)
        found[name] = analyzer.evaluate(model, x, e, "random-logit").value
    assert found["lrp"] < 0 < 0.4 < found["deconvnet"]
    assert found["guided-backprop"] > 0.8


def test_smoothing_makes_the_gradient_less_sensitive(model: analyzer.Model, drawn: Drawn) -> None:
    x, _, labels = (each[:2] for each in drawn)
    found = {}
    for name, params in (("gradient", {}), ("smoothgrad", {"samples": 8, "noise": 0.15, "reduce": "mean"})):
        e = model.explain(x, name, target=labels, **params)
        found[name] = analyzer.evaluate(model, x, e, "average-sensitivity", samples=3).value
    assert found["smoothgrad"] < 0.8 * found["gradient"]
