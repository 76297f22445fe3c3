"""Overlap and suppression against naive loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analyzer.targets.detection.boxes import iou, suppressed

Array = NDArray[Any]


def boxes(count: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 40, (count, 2))], axis=1)


def naive_iou(a: Array, b: Array) -> float:
    wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(tall, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def naive_nms(rects: Array, scores: Array, labels: Array, most: float) -> list[int]:
    selected: list[int] = []
    for i in sorted(range(len(rects)), key=lambda i: (-scores[i], i)):
        if all(labels[j] != labels[i] or naive_iou(rects[i], rects[j]) <= most for j in selected):
            selected.append(i)
    return selected


@pytest.mark.parametrize("seed", range(3))
def test_iou_is_the_naive_one(seed: int) -> None:
    found = boxes(50, seed)
    np.testing.assert_allclose(iou(found[0], found), [naive_iou(found[0], b) for b in found], rtol=1e-12)


def test_boxes_without_an_area_or_without_a_number_overlap_nothing() -> None:
    odd = np.array([[5, 5, 5, 9.0], [9, 9, 1, 1], [np.nan, 0, 9, 9], [0, 0, np.inf, 9]])
    assert iou(np.array([0, 0, 10, 10.0]), odd).tolist() == [0, 0, 0, 0]
    assert iou(np.array([3, 3, 3, 3.0]), np.array([[3, 3, 3, 3.0]])).tolist() == [0]


@pytest.mark.parametrize("most", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("classes", [1, 3])
def test_suppression_is_the_naive_one(most: float, classes: int) -> None:
    rng = np.random.default_rng(4)
    rects, labels = boxes(80, 5), rng.integers(0, classes, 80)
    scores = rng.integers(0, 20, 80) / 20  # with ties
    assert suppressed(rects, scores, labels, most).tolist() == naive_nms(rects, scores, labels, most)


def test_suppression_of_nothing() -> None:
    assert len(suppressed(np.zeros((0, 4)), np.zeros(0), np.zeros(0), 0.5)) == 0
