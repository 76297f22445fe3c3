"""NonMaxSuppression, number for number as onnxruntime: arithmetic in float32, equal scores by lower index."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.recorder import concrete
from analyzer.importer.table import operator

Floats = NDArray[np.float32]


@operator("NonMaxSuppression", since=10)
def non_max_suppression(
    node: Node,
    boxes: Tensor,
    scores: Tensor,
    most: Tensor | None = None,
    overlap: Tensor | None = None,
    least: Tensor | None = None,
) -> Tensor:
    """Boxes that survive, as rows (batch, class, box); the trace holds for its input only."""
    limit = 0 if most is None else int(concrete(most).reshape(-1)[0])
    threshold = np.float32(0 if overlap is None else concrete(overlap).reshape(-1)[0])
    lowest = None if least is None else np.float32(concrete(least).reshape(-1)[0])
    rectangles = _corners(concrete(boxes).astype(np.float32), bool(node.attr("center_point_box", 0)))
    points = concrete(scores).astype(np.float32)
    chosen: list[tuple[int, int, int]] = []
    if limit > 0:
        for batch, per_class in enumerate(points):
            for label, row in enumerate(per_class):
                selected = _keep(rectangles[batch], row, limit, threshold, lowest)
                chosen.extend((batch, label, box) for box in selected)
    return torch.tensor(chosen, dtype=torch.int64).reshape(-1, 3)


def _corners(boxes: Floats, centred: bool) -> Floats:
    """Boxes as (x low, y low, x high, y high) on the last axis."""
    if centred:
        half = boxes[..., 2:] / np.float32(2)
        return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], -1)
    first, second = boxes[..., [1, 0]], boxes[..., [3, 2]]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], -1)


def _keep(boxes: Floats, scores: Floats, limit: int, threshold: np.float32, lowest: np.float32 | None) -> list[int]:
    """Greedy choice by score; a box that overlaps a chosen one by more than the threshold is dropped."""
    candidates = np.arange(scores.size) if lowest is None else np.flatnonzero(scores > lowest)
    remaining = candidates[np.argsort(-scores[candidates], kind="stable")]
    selected: list[int] = []
    while remaining.size and len(selected) < limit:
        best = int(remaining[0])
        selected.append(best)
        remaining = remaining[1:]
        remaining = remaining[~_overlaps(boxes[best], boxes[remaining], threshold)]
    return selected


def _overlaps(box: Floats, others: Floats, threshold: np.float32) -> NDArray[np.bool_]:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    meet = (sides > 0).all(1)
    common = sides[:, 0] * sides[:, 1]
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    union = area + areas - common
    valid = meet & (common > 0) & (area > 0) & (areas > 0) & (union > 0)
    ratio = np.divide(common, union, out=np.zeros_like(common), where=valid)
    overlapping: NDArray[np.bool_] = valid & (ratio > threshold)
    return overlapping
