"""Pictures of a layer's weights: kernels as a grid or curves, products as a heat map, first layers in colours.

Belongs here: from weights to what is drawn. Not here: drawing (``analyzer.report``), finding weights
(``analyzer.visualization``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.report.picture_grid import MOST, draw_maps, draw_rows, draw_tiles
from analyzer.visualization.filters import Filter

Array = NDArray[Any]


def filter_picture(shown: Filter, title: str, *, bgr: bool = False) -> tuple[NDArray[np.uint8], str]:
    """The picture of a layer's weights, uint8 (height, width, 3), and in words what it shows.

    Kernels come with the largest weights first. Of a layer that reads a picture of three channels each is drawn in its colours;
    of others its mean over the channels that it reads.

    Parameters
    ----------
    bgr
        Whether the model reads blue first.
    """
    weights = np.asarray(shown.weights, np.float64)
    head = f"{title}: {shown.layer.operator} {shown.layer.value}"
    matrix = weights.reshape(*weights.shape[:2]) if shown.kind == "convolution" and _is_pointwise(weights) else None
    if shown.kind == "product" or matrix is not None:
        stack = weights if matrix is None else matrix
        stack = stack.reshape(-1, *stack.shape[-2:])
        size = f"{stack.shape[1]} outputs down, {stack.shape[2]} inputs across"
        what = "weights as a heat map" + (f", {len(stack)} of a stack" if len(stack) > 1 else "")
        labels = [str(at) for at in range(len(stack))] if len(stack) > 1 else [""]
        return draw_maps(head, stack, labels, [f"{what}: {size}"], "weight"), what
    order = np.argsort(-np.abs(weights).reshape(len(weights), -1).max(axis=1), kind="stable")
    named = [str(at) for at in order]
    kept = f"the largest weights first{f'; {MOST} of {len(order)}' if len(order) > MOST else ''}"
    weights = weights[order]
    if shown.colours and weights.ndim == 4:
        what = "filters in colours"
        words = f"{what}, {kept}; each scaled by its own largest weight, grey is zero"
        return draw_tiles(head, _coloured(weights[:, ::-1] if bgr else weights), named, [words]), what
    inputs = weights.shape[1]
    what = "filters" if inputs == 1 else f"mean of each filter over the {inputs} channels that it reads"
    kernels = weights.mean(axis=1)
    if kernels.ndim == 2:
        return draw_rows(head, kernels, [f"filter {name}" for name in named], [f"{what}, {kept}"]), what
    if kernels.ndim > 3:
        what += f", and over {kernels.ndim - 3} axes of the kernel"
        kernels = kernels.reshape(len(kernels), -1, *kernels.shape[-2:]).mean(axis=1)
    return draw_maps(head, kernels, named, [f"{what}, {kept}"], "weight"), what


def _is_pointwise(weights: Array) -> bool:
    return all(size == 1 for size in weights.shape[2:])


def _coloured(weights: Array) -> NDArray[np.uint8]:
    """(filters, 3, height, width) as pixels, zero as the middle grey."""
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1).reshape(-1, 1, 1, 1)
    unit = 0.5 + 0.5 * weights / np.where(largest > 0, largest, 1)
    return np.round(255 * np.nan_to_num(unit, nan=0.5)).astype(np.uint8).transpose(0, 2, 3, 1)
