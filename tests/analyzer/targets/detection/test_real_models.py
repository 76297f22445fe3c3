"""Real detectors on real pictures: the detections that were verified elsewhere, and maps that lie in their boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import analyzer
from analyzer.inputs import Preprocess, read_input, read_picture
from analyzer.targets.detection.finding import find
from tests.analyzer.targets.detection.test_boxes import naive_iou

Array = NDArray[Any]
HOW: dict[str, tuple[Preprocess, Any]] = {
    "yolox_nano": (Preprocess(color="BGR", resize=(416, 416), letterbox=114, letterbox_at="top-left"), "yolox"),
    "ultraface_rfb320": (
        Preprocess(resize=(240, 320), mean=(127.0,), std=(128.0,)),
        {"boxes": "boxes", "scores": "scores", "background": 0, "units": "fraction", "threshold": 0.7, "nms": 0.3},
    ),
}
PERSON, BUS = 0, 5


def opened(shared: Path, name: str, picture: str) -> tuple[analyzer.Model, Array, Array]:
    """A model, a picture as its input, and the factors (x, y) from the input's pixels to the picture's."""
    how, spec = HOW[name]
    model = analyzer.load(shared / "data" / "models" / f"{name}.onnx", "cpu", preprocess=how, decode=spec, threads=1)
    (entry, known), *_ = model.inputs.items()
    path = shared / "data" / "images" / picture
    height, width = read_picture(path).pixels.shape[:2]
    factors = [max(height, width) / 416] * 2 if name == "yolox_nano" else [width / 320, height / 240]
    return model, read_input(path, entry, known.dtype, known.shape, how).array, np.array(factors)


def test_yolox_finds_what_was_verified(shared: Path) -> None:
    model, x, factors = opened(shared, "yolox_nano", "bus.jpg")
    (proposals,) = find(model, model.feed(x), "detection:0").proposals
    found = proposals.take(proposals.detections())
    reference = next(m for m in json.loads((shared / "data" / "models.json").read_text()) if m["name"] == "yolox_nano")
    for name, score, box in reference["verified"]["bus.jpg"]:
        alike = [
            i for i, number in enumerate(found.classes)
            if number == {"person": PERSON, "bus": BUS}[name]
            and naive_iou(found.boxes[i] * np.tile(factors, 2), np.array(box, float)) > 0.98
        ]  # fmt: skip
        assert len(alike) == 1
        assert abs(found.scores[alike[0]] - score) < 0.006  # given to two decimals


@pytest.mark.parametrize("picture", ["skimage_astronaut.png", "both.png"])
def test_ultraface_finds_what_was_verified(shared: Path, picture: str) -> None:
    model, x, factors = opened(shared, "ultraface_rfb320", picture)
    found = find(model, model.feed(x), "detection:0")
    entries = json.loads((shared / "data" / "models.json").read_text())
    reference = next(m for m in entries if m["name"] == "ultraface_rfb320")["verified"][f"data_photos/{picture}"]
    (detection,), (proposals,) = found.resolved.detections, found.proposals
    np.testing.assert_allclose(detection.box * np.tile(factors, 2), reference["box"], atol=0.2)
    assert detection.score == pytest.approx(reference["max_score"], abs=1e-5)
    assert int((proposals.scores > 0.7).sum()) == reference["n_over_0_7"]


@pytest.mark.parametrize(
    ("name", "picture", "target"),
    [("yolox_nano", "bus.jpg", "detection:1"), ("ultraface_rfb320", "skimage_astronaut.png", "detection:0")],
)
@pytest.mark.parametrize(
    ("method", "params"),
    [("rise", {"masks": 150, "grid": 8}), ("occlusion", {"window": 40, "stride": 40})],
)
def test_the_map_lies_in_the_box(
    shared: Path, name: str, picture: str, target: str, method: str, params: dict[str, Any]
) -> None:
    """Measured with 300 masks: 0.27 and 0.31 of the positive relevance in 0.067 and 0.037 of the area; occlusion more."""
    model, x, _ = opened(shared, name, picture)
    made = model.explain(x, method, target, **params)
    drawn = made.attribution[0].sum(axis=0).clip(0)
    x0, y0, x1, y1 = (max(0, round(v)) for v in made.record["detection"][0]["box"])
    inside = drawn[y0:y1, x0:x1]
    assert inside.sum() / drawn.sum() > 2 * inside.size / drawn.size


def test_a_white_box_method_walks_back_from_the_proposal(shared: Path) -> None:
    model, x, _ = opened(shared, "yolox_nano", "bus.jpg")
    made = model.explain(x, "gradient", "detection:0")
    row = find(model, model.feed(x), "detection:0").resolved.detections[0].row
    expected = model.explain(x, "gradient", f"output[:,{row},{5 + BUS}]")
    np.testing.assert_array_equal(made.attribution, expected.attribution)
    drawn = np.abs(made.attribution[0]).sum(axis=0)
    x0, y0, x1, y1 = (max(0, round(v)) for v in made.record["detection"][0]["box"])
    assert drawn[y0:y1, x0:x1].sum() / drawn.sum() > 0.6  # of 0.35 of the area
