"""The detection target: which detection is meant, and the similarity against a naive implementation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.inputs import Labels
from analyzer.inputs.decode import Decode
from analyzer.targets.detection.proposals import Decoder, Proposals
from analyzer.targets.detection.target import DetectionTarget, resolve_detections, similarities
from tests.analyzer.targets.detection.test_boxes import naive_iou

Array = NDArray[Any]
LABELS = Labels(("cat", "dog", "traffic light", "10,20"))
BOX = ["x0", "y0", "x1", "y1"]


def some_rows(count: int, classes: int, objectness: bool, seed: int, batch: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 30, (batch, count, 2))
    rest = rng.random((batch, count, classes + objectness)) ** 2
    return np.concatenate([corner, corner + rng.uniform(5, 30, (batch, count, 2)), rest], axis=2)


def found(
    target: object, rows: Array, spec: dict[str, Any], labels: Labels | None = None
) -> tuple[DetectionTarget, list[Proposals]]:
    decoder = Decoder(Decode.model_validate(spec), ("out",), (64, 64), "x")
    return resolve_detections(target, decoder, {"out": rows}, len(rows), labels)


def naive_similarity(target: tuple[Array, Array], box: Array, probabilities: Array, objectness: float) -> float:
    """Petsiuk et al. 2021: s = IoU x cosine x objectness."""
    wanted, vector = target
    dot = sum(a * b for a, b in zip(vector, probabilities, strict=True))
    length = math.sqrt(sum(a * a for a in vector)) * math.sqrt(sum(b * b for b in probabilities))
    return naive_iou(wanted, box) * (dot / length if length else 0.0) * objectness


@pytest.mark.parametrize("objectness", [True, False])
@pytest.mark.parametrize("background", [None, 0, -1])
def test_similarity_is_the_naive_one(objectness: bool, background: int | None) -> None:
    rows = some_rows(40, 4, objectness, 1)
    row = [*BOX, "objectness", "classes"] if objectness else [*BOX, "classes"]
    spec = {"row": row, "background": background, "threshold": 0.0}
    resolved, (proposals,) = found("detection:3", rows, spec)
    (detection,) = resolved.detections
    start = 5 if objectness else 4
    assert detection.probabilities is not None
    np.testing.assert_array_equal(detection.probabilities, rows[0, detection.row, start:])
    expected = []
    for each in rows[0]:
        independent = max(each[4:]) if background is None else 1.0  # without objectness
        trust = each[4] if objectness else independent
        expected.append(naive_similarity((detection.box, detection.probabilities), each[:4], each[start:], trust))
    np.testing.assert_allclose(similarities(detection, proposals), expected, rtol=1e-9, atol=1e-12)
    assert resolved.before[0] == pytest.approx(max(expected), rel=1e-9)


@pytest.mark.parametrize("target", ["detection:0", "detection:2:0", "detection:2:5,5,20,25", "detection:5,5,20,25"])
def test_similarity_of_ready_detections(target: str) -> None:
    """Class numbers: the same class or not, times the score."""
    rng = np.random.default_rng(2)
    rows = some_rows(30, 1, False, 3)
    rows = np.concatenate([rows, rng.integers(0, 4, (1, 30, 1))], axis=2)
    resolved, (proposals,) = found(target, rows, {"row": [*BOX, "score", "class"]})
    (detection,) = resolved.detections
    any_class = target == "detection:5,5,20,25"
    expected = [
        naive_iou(detection.box, each[:4]) * each[4] * (any_class or each[5] == detection.number) for each in rows[0]
    ]
    np.testing.assert_allclose(similarities(detection, proposals), expected, rtol=1e-9, atol=1e-12)


def test_similarity_to_a_box_of_ones_own() -> None:
    rows = some_rows(30, 3, True, 4)
    spec = {"row": [*BOX, "objectness", "classes"]}
    resolved, (proposals,) = found("detection:5,5,20,25.5", rows, spec)
    box = np.array([5, 5, 20, 25.5])
    expected = [naive_iou(box, each[:4]) * each[4] for each in rows[0]]
    np.testing.assert_allclose(similarities(resolved.detections[0], proposals), expected, rtol=1e-9)
    assert resolved.names == ("any class in 5, 5, 20, 26",)
    assert resolved.detections[0].row == int(np.argmax(expected))
    resolved, (proposals,) = found("detection:dog:5,5,20,25.5", rows, spec, LABELS)
    expected = [naive_similarity((box, np.eye(3)[1]), each[:4], each[5:], each[4]) for each in rows[0]]
    np.testing.assert_allclose(similarities(resolved.detections[0], proposals), expected, rtol=1e-9)
    assert resolved.classes == (1,)


def test_a_box_of_any_class_is_as_likely_as_it_is_no_background() -> None:
    rows = some_rows(20, 3, False, 5)
    rows[..., 4:] /= rows[..., 4:].sum(axis=-1, keepdims=True)
    resolved, (proposals,) = found("detection:5,5,20,25", rows, {"row": [*BOX, "classes"], "background": -1})
    expected = [naive_iou(np.array([5, 5, 20, 25.0]), each[:4]) * (1 - each[6]) for each in rows[0]]
    np.testing.assert_allclose(similarities(resolved.detections[0], proposals), expected, rtol=1e-9, atol=1e-12)


def test_ranks_follow_the_score_after_suppression() -> None:
    rows = np.array([[[0, 0, 10, 10, 0.2, 0.7], [0, 0, 10, 9, 0.1, 0.9], [0, 0, 9, 10, 0.8, 0.1], [20, 20, 30, 30, 0.5, 0.6],
                      [40, 40, 50, 50, 0.3, 0.2]]])  # fmt: skip
    spec = {"row": [*BOX, "classes"], "threshold": 0.25}
    order = [found(f"detection:{k}", rows, spec)[0].detections[0].row for k in range(4)]
    assert order == [1, 2, 3, 4]  # 0 is suppressed by 1; 2 is of another class
    assert found("detection:1:1", rows, spec)[0].detections[0].row == 3
    assert found("detection:0", rows, spec)[0].detections[0].score == 0.9


@pytest.mark.parametrize(
    ("target", "row"),
    [("detection:dog", 1), ("detection: Dog :0", 1), ("detection:traffic_light", 2), ("detection:1:0", 1), ("detection:0:0", 0)],
)  # fmt: skip
def test_classes_by_number_and_label(target: str, row: int) -> None:
    rows = np.concatenate([np.array([[[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]]]), np.eye(3)[None] * 0.9], axis=2)
    resolved, _ = found(target, rows, {"row": [*BOX, "classes"]}, LABELS)
    assert resolved.detections[0].row == row
    assert resolved.names[0] == f"{LABELS.name(row)} ({row}) in {20 * row}, 0, {20 * row + 9}, 9"


def test_one_target_for_each_sample() -> None:
    rows = some_rows(20, 3, True, 6, batch=2)
    spec = {"row": [*BOX, "objectness", "classes"], "threshold": 0}
    both, _ = found(["detection:0", "detection:5"], rows, spec)
    for sample, target in enumerate(("detection:0", "detection:5")):
        single, _ = found(target, rows[sample : sample + 1], spec)
        assert both.names[sample] == single.names[0]
        assert both.score_copies(sample, {"out": rows})[sample] == single.before[0] == both.before[sample]


@pytest.mark.parametrize(
    ("target", "code", "says"),
    [
        ("detection:", "target.syntax", "can't read the target"),
        ("detection:cat:", "target.syntax", "can't read the target"),
        ("detection::3", "target.syntax", "can't read the target"),
        ("detection:9,9,3,12", "target.syntax", "is empty"),
        ("detection:99", "target.out_of_range", "detection 99 doesn't exist: "),
        ("detection:0:99", "target.out_of_range", "detection 99 of cat (0) doesn't exist"),
        ("detection:7:0", "target.out_of_range", "class 7 doesn't exist: the model scores 3 classes"),
        ("detection:10,20:0", "target.out_of_range", "class 3 doesn't exist"),
        ("detection:wolf:0", "target.unknown_label", "no class is called 'wolf'"),
        (["detection:0", "detection:1"], "target.count", "2 targets were given for a batch of 1"),
        (["top1"], "target.syntax", "'top1' stands among detections"),
    ],
)
def test_targets_that_mean_nothing(target: object, code: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        found(target, some_rows(20, 3, False, 7), {"row": [*BOX, "classes"]}, LABELS)
    assert caught.value.code == code
    assert says in caught.value.message
    assert "\n" not in str(caught.value)


def test_a_label_without_labels() -> None:
    with pytest.raises(UsageError, match="no labels are known"):
        found("detection:dog:0", some_rows(9, 3, False, 7), {"row": [*BOX, "classes"]})


def test_nothing_found_says_how_near_it_was() -> None:
    rows = some_rows(20, 3, False, 8) * [1, 1, 1, 1, 0.1, 0.1, 0.1]
    best = rows[..., 4:].max()
    with pytest.raises(UsageError, match=f"0 score at least 0.25; the best proposal scores {best:.3g}"):
        found("detection:0", rows, {"row": [*BOX, "classes"]})
    with pytest.raises(UsageError, match=r"0 score at least 0\.25; detections"):
        found("detection:0", rows[:, :0], {"row": [*BOX, "classes"]})
