"""Detectors without a decode spec: usual outputs are read as what they are, and others aren't taken for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import UsageError
from analyzer.targets.detection.proposals import Decoder
from analyzer.targets.detection.recognition import classes_named, recognised
from tests.common.models import assemble

Array = NDArray[Any]
SIZE, CLASSES = (64, 96), 7
STRIDES = (8, 16, 32)
#: The object: its box x0, y0, x1, y1, its class, and the level and cell that see it.
BOX, NUMBER = np.array([30.0, 12, 58, 44]), 3
LEVEL, LINE, COLUMN = 1, 1, 2


def cells(strides: tuple[int, ...] = STRIDES) -> Array:
    """x, y, stride of every cell, level by level, line by line."""
    grids = [(math.ceil(SIZE[0] / s), math.ceil(SIZE[1] / s), s) for s in strides]
    return np.array([(x, y, s) for tall, wide, s in grids for y in range(tall) for x in range(wide)], float)


SEEN = math.ceil(SIZE[0] / 8) * math.ceil(SIZE[1] / 8) + LINE * math.ceil(SIZE[1] / 16) + COLUMN


def decoded() -> Array:
    """(cells, 4) of cx, cy, w, h: boxes of two strides around their cells, the object's own at the cell that sees it."""
    table = cells()
    rows = np.concatenate([(table[:, :2] + 0.5) * table[:, 2:], np.repeat(2 * table[:, 2:], 2, axis=1)], axis=1)
    rows[SEEN] = [*(BOX[:2] + BOX[2:]) / 2, *(BOX[2:] - BOX[:2])]
    return rows


def probabilities(count: int, classes: int = CLASSES) -> Array:
    """(count, classes), the object's class at the cell that sees it."""
    found = np.random.default_rng(0).uniform(0, 0.05, (count, classes))
    found[SEEN, NUMBER] = 0.9
    return found


def distributions(strides: tuple[int, ...], bins: int, offset: float) -> Array:
    """(cells, 4 bins): logits whose softmax has the distances to the box's sides, in strides, for its mean."""
    table, count = cells(strides), bins - 1
    logits = np.random.default_rng(1).normal(0, 0.5, (len(table), 4, bins))
    x, y, stride = table[SEEN]
    point = (np.array([x, y]) + offset) * stride
    for side, distance in enumerate(np.concatenate([point - BOX[:2], BOX[2:] - point]) / stride):
        low = min(int(distance), count - 1)
        logits[SEEN, side] = -30.0
        logits[SEEN, side, low : low + 2] = np.log(np.maximum([1 - (distance - low), distance - low], 1e-12))
    return logits.reshape(len(table), -1)


def by_level(rows: Array, strides: tuple[int, ...] = STRIDES) -> list[Array]:
    """Rows cut into levels."""
    counts = [math.ceil(SIZE[0] / s) * math.ceil(SIZE[1] / s) for s in strides]
    return np.split(rows, np.cumsum(counts)[:-1])


def logit(p: Array) -> Array:
    return np.asarray(np.log(p + 1e-6) - np.log(1 - p))


def grid_of(rows: Array, stride: int) -> Array:
    """One level's rows as (numbers, lines, columns)."""
    return rows.T.reshape(-1, math.ceil(SIZE[0] / stride), math.ceil(SIZE[1] / stride))


def outputs_of(form: str) -> dict[str, Array]:
    """The same detection as a detector of some family gives it."""
    boxes, scores = decoded(), probabilities(len(cells()))
    four = (8, 16, 32, 64)
    if form.startswith("yolov8"):
        rows = np.concatenate([boxes, scores], axis=1)
        if form == "yolov8":
            return {"output0": rows.T[None]}
        if form == "yolov8 transposed":
            return {"output0": rows[None]}
        if form == "yolov8 segmentation":
            extra = np.random.default_rng(2).normal(size=(len(rows), 32))
            return {"output0": np.hstack([rows, extra]).T[None], "output1": np.zeros((1, 32, 16, 24)) + 0.5}
        if form == "yolov8 pose":
            points = np.random.default_rng(2).uniform(0, 64, (len(rows), 51))
            return {"output0": np.hstack([boxes, scores[:, NUMBER : NUMBER + 1], points]).T[None]}
        raw = np.concatenate([distributions(STRIDES, 16, 0.5), logit(scores)], axis=1)
        return {f"out{s}": grid_of(part, s)[None] for s, part in zip(STRIDES, by_level(raw), strict=True)}
    if form == "yolov5":
        rows = np.concatenate([boxes, np.ones((len(boxes), 1)), scores], axis=1)
        thrice = [np.concatenate([part] * 3) for part in by_level(rows)]
        return {"output": np.concatenate(thrice)[None]}
    if form == "yolox":
        table = cells()
        raw = np.hstack([boxes[:, :2] / table[:, 2:] - table[:, :2], np.log(boxes[:, 2:] / table[:, 2:])])
        return {"output": np.concatenate([raw, np.full((len(raw), 1), 0.95), scores], axis=1)[None]}
    if form.startswith("nanodet split"):
        dis, level = by_level(distributions(STRIDES, 8, 0.5)), by_level(scores)
        names = ("dis", "cls") if form.endswith("named") else ("7", "6")
        return {f"{names[0]}_{s}": d[None] for s, d in zip(STRIDES, dis, strict=True)} | {
            f"{names[1]}_{s}": c[None] for s, c in zip(STRIDES, level, strict=True)
        }
    if form == "nanodet plus":
        count = len(cells(four))
        return {"output": np.hstack([probabilities(count), distributions(four, 8, 0.0)])[None]}
    if form == "yolov10":
        found = np.zeros((1, 20, 6))
        found[0, :, 2:4], found[0, :, 4] = 10, np.linspace(0.2, 0.01, 20)
        found[0, 0] = [*BOX, 0.9, NUMBER]
        return {"output0": found}
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    behind = np.hstack([1 - scores.sum(axis=1, keepdims=True).clip(0, 1), scores])
    behind /= behind.sum(axis=1, keepdims=True)
    return {"scores": behind[None], "boxes": (corners / [*SIZE[::-1], *SIZE[::-1]])[None]}


FORMS = [
    "yolov8", "yolov8 transposed", "yolov8 segmentation", "yolov8 pose", "yolov8 heads", "yolov5", "yolox",
    "nanodet split, named", "nanodet split, numbered", "nanodet plus", "yolov10", "boxes and scores",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_same_detection_is_read_from_the_outputs_of_every_family(form: str) -> None:
    got = {name: value.astype(np.float32) for name, value in outputs_of(form).items()}
    spec = recognised(got, SIZE, CLASSES if form == "yolov8 transposed" else None)
    assert spec is not None
    (found,) = Decoder(spec, spec.boxes or (), SIZE, "x")(got)
    best = found.take(found.detections()[:1])
    np.testing.assert_allclose(best.boxes[0], BOX, atol=1e-2)
    expected = {"yolov8 pose": 0, "boxes and scores": NUMBER + 1}.get(form, NUMBER)
    assert best.classes.tolist() == [expected]
    assert 0.7 < best.scores[0] < 0.95
    if form in ("yolov8 segmentation", "boxes and scores", "nanodet plus", "nanodet split, named"):
        assert found.raw_classes is not None
        assert found.raw_classes.shape[1] == CLASSES + (form == "boxes and scores")


@pytest.mark.parametrize(
    "values",
    [
        {"logits": (1, 1000)}, {"map": (1, 21, 64, 96)}, {"tokens": (1, 24, 64)}, {"tokens": (1, 197, 768)},
        {"p3": (1, 256, 8, 12), "p4": (1, 256, 4, 6), "p5": (1, 256, 2, 3)}, {"a": (1, 126, 4), "b": (1, 126, 9)},
        {"rows": (1, 126, 11)}, {"columns": (1, 11, 126)}, {"one": (1, 20, 6)},
    ],
)  # fmt: skip
def test_other_outputs_are_not_taken_for_detections(values: dict[str, tuple[int, ...]]) -> None:
    """Of the right shapes even: numbers of either sign are no boxes with probabilities."""
    rng = np.random.default_rng(0)
    assert recognised({k: rng.standard_normal(s).astype(np.float32) for k, s in values.items()}, SIZE, None) is None


def test_the_number_of_classes_in_the_metadata() -> None:
    assert classes_named({"names": "{0: 'person', 1: 'bus'}"}) == 2
    assert classes_named({"names": "person"}) is None
    assert classes_named({}) is None


def detector(form: str) -> analyzer.Model:
    """A model whose outputs are a family's, where a patch of the picture raises the object's class probability."""
    nodes: list[Any] = []
    weights: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    patch = np.zeros((1, 3, *SIZE), np.float32)
    patch[:, :, 16:24, 40:48] = 1 / 192
    weights |= {"patch": patch, "axes": np.array([1, 2, 3], np.int64), "one": np.array([1, 1, 1], np.int64)}
    nodes += [
        helper.make_node("Mul", ["x", "patch"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "axes"], ["strength4"], keepdims=0),
        helper.make_node("Reshape", ["strength4", "one"], ["strength"]),
    ]
    for at, (name, value) in enumerate(outputs_of(form).items()):
        likely = value.min() >= 0 and value.max() <= 1
        part = (
            np.where(value == 0.9, -0.8, 0).astype(np.float32)
            if likely or form == "yolov8"
            else np.zeros(1, np.float32)
        )
        weights |= {f"value{at}": value.astype(np.float32), f"part{at}": part, f"less{at}": np.ones(1, np.float32)}
        nodes += [
            helper.make_node("Sub", [f"less{at}", "strength"], [f"missing{at}"]),
            helper.make_node("Mul", [f"missing{at}", f"part{at}"], [f"change{at}"]),
            helper.make_node("Add", [f"value{at}", f"change{at}"], [name]),
        ]
        outputs[name] = (TensorProto.FLOAT, list(value.shape))
    return analyzer.load(assemble(nodes, {"x": (TensorProto.FLOAT, [1, 3, *SIZE])}, outputs, weights), "cpu", threads=1)


@pytest.mark.parametrize("form", ["yolov8", "nanodet split, named"])
def test_the_best_detection_is_the_default_and_the_map_shows_what_it_sees(form: str) -> None:
    x = np.ones((1, 3, *SIZE), np.float32)
    done = detector(form).explain(x, "occlusion", window=8, stride=8)
    np.testing.assert_allclose(done.record["detection"][0]["box"], BOX, atol=1e-2)
    assert done.record["detection"][0]["class"] == NUMBER
    assert np.unravel_index(done.attribution[0].sum(axis=0).argmax(), SIZE) in [
        (line, column) for line in range(16, 24) for column in range(40, 48)
    ]
    assert any("are read as" in note and "--decode" in note for note in done.record["notes"])
    assert any("best detection is explained" in note for note in done.record["notes"])
    slope = detector(form).explain(x, "gradient").attribution[0]
    assert (slope[:, 16:24, 40:48] > 0).all()
    assert np.count_nonzero(slope) == 3 * 64


def test_a_detector_that_is_sure_of_nothing_explains_its_best_proposal() -> None:
    done = detector("yolov8").explain(np.zeros((1, 3, *SIZE), np.float32), "occlusion", window=32, stride=32)
    assert any("no detection scores at least 0.25: the best proposal" in note for note in done.record["notes"])
    with pytest.raises(UsageError, match="doesn't exist"):
        detector("yolov8").explain(np.zeros((1, 3, *SIZE), np.float32), "occlusion", "detection:0")
