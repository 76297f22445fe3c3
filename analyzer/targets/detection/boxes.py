"""Overlap and suppression of boxes, float64 rows x0, y0, x1, y1.

Belongs here: plain geometry. Not here: where boxes come from (``proposals``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def iou(box: Array, boxes: Array) -> Array:
    """Intersection over union of one box (4,) with boxes (n, 4): (n,) in [0, 1], 0 where a box is empty or not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
        shared = np.clip(sides, 0, None).prod(axis=1)
        areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
        union = np.clip(box[2:] - box[:2], 0, None).prod() + areas - shared
    found = np.zeros(len(boxes))
    defined = np.isfinite(union) & (union > 0)
    found[defined] = shared[defined] / union[defined]
    return found


def suppressed(boxes: Array, scores: Array, labels: Array, max_iou: float) -> Array:
    """Greedy non-maximum suppression within each class.

    Parameters
    ----------
    boxes, scores, labels
        (n, 4), (n,), (n,).
    most
        A box that overlaps a better one of the same class by more than this IoU is suppressed.

    Returns
    -------
    ndarray
        Indices of the remaining boxes, best score first; equal scores in their order.
    """
    order = np.argsort(-scores, kind="stable")
    selected = []
    while len(order):
        best, rest = order[0], order[1:]
        selected.append(best)
        order = rest[(iou(boxes[best], boxes[rest]) <= max_iou) | (labels[rest] != labels[best])]
    return np.asarray(selected, np.int64)
