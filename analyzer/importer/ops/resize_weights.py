"""Where each element of a resized axis comes from: coordinates, nearest neighbours, weight matrices.

Belongs here: the arithmetic of one axis in NumPy, in float32 as onnxruntime computes it (a coordinate that falls
between two neighbours must fall to the same side). Not here: tensors of data (``resize``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """How one axis is resized.

    Attributes
    ----------
    size, out
        Length before and after.
    scale
        The factor that coordinates are computed with; not always ``out / size``.
    transform
        ``coordinate_transformation_mode``.
    roi
        Start and end of the region for ``tf_crop_and_resize``, as fractions.
    """

    size: int
    out: int
    scale: float
    transform: str
    roi: tuple[float, float] = (0.0, 1.0)

    @property
    def identity(self) -> bool:
        """Whether the axis stays as it is; onnxruntime ignores even a region of interest where the scale is 1."""
        return self.size == self.out and self.scale == 1.0

    def coordinates(self) -> Floats:
        """Position in the input for every output element."""
        x = np.arange(self.out, dtype=np.float32)
        scale, size = np.float32(self.scale), np.float32(self.size)
        half = np.float32(0.5)
        match self.transform:
            case "asymmetric":
                return x / scale
            case "align_corners":
                return x * (size - 1) / np.float32(self.out - 1) if self.out > 1 else np.zeros_like(x)
            case "pytorch_half_pixel":
                return (x + half) / scale - half if self.out > 1 else np.zeros_like(x)
            case "tf_half_pixel_for_nn":
                return (x + half) / scale
            case "half_pixel_symmetric":
                adjustment = np.float32(self.out) / (scale * size)
                offset = float(size / 2 * (1 - adjustment))
                exact = offset + (x.astype(np.float64) + 0.5) / self.scale - 0.5  # only this mode in float64
                return exact.astype(np.float32)
            case "tf_crop_and_resize":
                start, end = (np.float32(v) for v in self.roi)
                if self.out > 1:
                    return start * (size - 1) + x * (end - start) * (size - 1) / np.float32(self.out - 1)
                return np.full_like(x, half * (start + end) * (size - 1))
            case "half_pixel":
                return (x + half) / scale - half
        raise ValueError(f"unknown coordinate_transformation_mode {self.transform!r}")

    def outside(self) -> NDArray[np.bool_]:
        """Which output elements lie outside the input and are not interpolated (``tf_crop_and_resize``)."""
        if self.transform != "tf_crop_and_resize" or self.identity:
            return np.zeros(self.out, bool)
        x = self.coordinates()
        return (x < 0) | (x > self.size - 1)


def nearest(axis: Axis, rounding: str) -> Integers:
    """Index of the input element that each output element repeats."""
    x = axis.coordinates()
    match rounding:
        case "round_prefer_floor" | "round_prefer_ceil":
            # onnxruntime takes what lies within a millionth of the middle for the middle
            middle = np.abs(x - np.floor(x) - np.float32(0.5)) < 1e-6
            preferred = np.floor(x) if rounding == "round_prefer_floor" else np.ceil(x)
            index = np.where(middle, preferred, np.rint(x))
        case "floor":
            index = np.floor(x)
        case "ceil":
            index = np.ceil(x)
        case "simple":  # before opset 11
            index = np.ceil(x) if axis.scale < 1 else np.trunc(x)
        case _:
            raise ValueError(f"unknown nearest_mode {rounding!r}")
    return np.clip(index, 0, axis.size - 1).astype(np.int64)


def linear(axis: Axis) -> Floats:
    """Weight matrix (out, size) of linear interpolation."""
    x = np.clip(axis.coordinates(), 0, axis.size - 1)
    low = np.floor(x).astype(np.int64)
    share = (x - low).astype(np.float64)
    return _scattered(axis, [low, np.minimum(low + 1, axis.size - 1)], [1 - share, share])


def cubic(axis: Axis, a: float, exclude_outside: bool) -> Floats:
    """Weight matrix (out, size) of cubic convolution with parameter ``a`` (Keys 1981)."""
    x = axis.coordinates().astype(np.float64)
    low = np.floor(x).astype(np.int64)
    taps = [low + k for k in (-1, 0, 1, 2)]
    weights = [cubic_kernel(x - tap, a) for tap in taps]
    if exclude_outside:
        weights = [np.where((t < 0) | (t >= axis.size), 0.0, w) for t, w in zip(taps, weights, strict=True)]
        total = np.sum(weights, axis=0)  # 0 far outside, where the node's extrapolation value stands
        weights = list(np.asarray(weights) / np.where(total == 0, 1.0, total))
    return _scattered(axis, [np.clip(t, 0, axis.size - 1) for t in taps], weights)


def cubic_kernel(distance: Floats, a: float) -> Floats:
    """Keys' cubic convolution kernel at a distance."""
    d = np.abs(distance)
    near: Floats = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    kernel: Floats = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
    return kernel


def triangle_kernel(distance: Floats) -> Floats:
    """Kernel of linear interpolation at a distance."""
    kernel: Floats = np.maximum(0.0, 1 - np.abs(distance))
    return kernel


def antialiased(axis: Axis, kernel: Callable[[Floats], Floats], reach: float, exclude_outside: bool) -> Floats:
    """Weight matrix (out, size) of a kernel that is widened by the factor by which the axis shrinks."""
    widening = max(1.0, 1.0 / axis.scale)
    support = reach * widening
    center = axis.coordinates().astype(np.float64) + 0.5
    first = np.floor(center - support + 0.5).astype(np.int64)
    last = np.floor(center + support + 0.5).astype(np.int64)
    matrix: Floats = np.zeros((axis.out, axis.size))
    for row in range(axis.out):
        taps = np.arange(first[row], last[row])
        weights = kernel((taps - center[row] + 0.5) / widening)
        if exclude_outside:
            weights = np.where((taps < 0) | (taps >= axis.size), 0.0, weights)
        np.add.at(matrix[row], np.clip(taps, 0, axis.size - 1), weights)
    matrix /= matrix.sum(1, keepdims=True)
    return matrix


def _scattered(axis: Axis, indices: list[Integers], weights: list[Floats]) -> Floats:
    matrix: Floats = np.zeros((axis.out, axis.size))
    rows = np.arange(axis.out)
    for index, weight in zip(indices, weights, strict=True):
        np.add.at(matrix, (rows, index), weight)
    return matrix
