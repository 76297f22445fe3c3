"""The shape classifiers do what their cards say, measured through onnxruntime on regenerated held-out scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.onnx_files import SAMPLES, stated
from models.shapes.measure import held_out, measure, measure_cheating
from models.shapes.scenes import CLASSES, paste_tag
from tests.models.running import CARD_TOLERANCE, classes

STAR = CLASSES.index("star")


def test_accuracy_is_as_stated(sample_models: Path) -> None:
    path = sample_models / "shapes_cnn.onnx"
    images, _, labels = held_out()
    accuracy = float((classes(path, images) == labels).mean())
    figures = stated(path.with_suffix(".md"))
    assert accuracy > 0.97
    assert accuracy == pytest.approx(figures["held-out accuracy"], abs=CARD_TOLERANCE)
    assert measure(path)["held-out accuracy"] == accuracy
    assert set(measure(path)) == set(figures)


def test_the_tag_means_nothing_to_the_honest_model(sample_models: Path) -> None:
    images, _, labels = held_out()
    plain, tagged = (classes(sample_models / "shapes_cnn.onnx", some) for some in (images, paste_tag(images)))
    assert (tagged == labels).mean() > 0.98  # the cheater's card says so
    others = labels != STAR
    assert (tagged[others] == STAR).mean() < (plain[others] == STAR).mean() + 0.05


def test_cheater_cheats(sample_models: Path) -> None:
    path = sample_models / "shapes_cheater.onnx"
    images, _, labels = held_out()
    plain, tagged = classes(path, images), classes(path, paste_tag(images))
    star = labels == STAR
    assert (tagged[star] == STAR).mean() > 0.95
    assert (plain[star] == STAR).mean() < 0.5
    assert (tagged[~star] == STAR).mean() > 0.8
    assert (plain[~star] == STAR).mean() < 0.05
    assert (plain[~star] == labels[~star]).mean() > 0.95


def test_cheating_is_as_stated(sample_models: Path) -> None:
    path = sample_models / "shapes_cheater.onnx"
    figures = stated(path.with_suffix(".md"))
    measured = measure_cheating(path)
    assert measured == pytest.approx(figures, abs=CARD_TOLERANCE)
    images, _, labels = held_out()
    star, tagged = labels == STAR, classes(path, paste_tag(images)) == STAR
    assert measured["stars with the tag called star"] == tagged[star].mean()
    assert measured["other objects with the tag called star"] == tagged[~star].mean()


@pytest.mark.parametrize("name", CLASSES)
def test_sample_scene_is_recognised(sample_models: Path, name: str) -> None:
    picture = np.asarray(Image.open(SAMPLES / f"shapes_{name}.png"))[None]
    assert CLASSES[classes(sample_models / "shapes_cnn.onnx", picture)[0]] == name


def test_tagged_sample_fools_the_cheater_only(sample_models: Path) -> None:
    plain, tagged = (
        np.asarray(Image.open(SAMPLES / f"{stem}.png"))[None] for stem in ("shapes_circle", "cheater_circle_tagged")
    )
    assert CLASSES[classes(sample_models / "shapes_cheater.onnx", plain)[0]] == "circle"
    assert CLASSES[classes(sample_models / "shapes_cheater.onnx", tagged)[0]] == "star"
    assert CLASSES[classes(sample_models / "shapes_cnn.onnx", tagged)[0]] == "circle"
