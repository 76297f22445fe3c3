"""Resize and Upsample, all versions.

Belongs here: reading sizes, scales and modes, and applying what ``resize_weights`` computes. Where torch's own
interpolation is exactly what the node defines, it is recorded as that one ATen operator; otherwise every resized axis
is one product with a weight matrix, or one selection of indices.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.ops import resize_weights
from analyzer.importer.ops.normalization import at_least_float32
from analyzer.importer.ops.resize_weights import Axis
from analyzer.importer.recorder import concrete, integers
from analyzer.importer.table import operator

aten = torch.ops.aten
_NEAREST = (aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_nearest3d)
_LINEAR = (aten.upsample_linear1d, aten.upsample_bilinear2d, aten.upsample_trilinear3d)


@operator("Resize", since=11)
def resize(
    node: Node, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    rank = x.dim()
    which = [axis % rank for axis in node.attr("axes") or range(rank)]
    transform = node.attr("coordinate_transformation_mode", "half_pixel")
    factors, targets = _targets(node, [x.shape[axis] for axis in which], scales, sizes)
    region = [0.0] * len(which) + [1.0] * len(which)
    if transform == "tf_crop_and_resize" and roi is not None and roi.numel():
        region = [float(v) for v in concrete(roi).reshape(-1)]
    axes = [Axis(size, size, 1.0, "half_pixel") for size in x.shape]
    for position, axis in enumerate(which):
        bounds = region[position], region[position + len(which)]
        axes[axis] = Axis(x.shape[axis], targets[position], factors[position], transform, bounds)
    return _interpolated(node, x, axes, node.attr("nearest_mode", "round_prefer_floor"))


def _from_first(node: Node, x: Tensor, scales: Tensor) -> Tensor:
    """Versions before 11 know scales only, and count coordinates from the first element."""
    factors, targets = _targets(node, list(x.shape), scales, None)
    axes = [
        Axis(size, target, factor, "asymmetric") for size, target, factor in zip(x.shape, targets, factors, strict=True)
    ]
    return _interpolated(node, x, axes, "simple")


@operator("Resize", since=10)
def resize_by_scales(node: Node, x: Tensor, scales: Tensor) -> Tensor:
    return _from_first(node, x, scales)


@operator("Upsample", since=9)
def upsample(node: Node, x: Tensor, scales: Tensor) -> Tensor:
    return _from_first(node, x, scales)


@operator("Upsample", since=7)
def upsample_by_attribute(node: Node, x: Tensor) -> Tensor:
    return _from_first(node, x, torch.tensor(node.required("scales"), dtype=torch.float32))


@operator("Upsample", since=1)
def upsample_height_and_width(node: Node, x: Tensor) -> Tensor:
    factors = [1.0, 1.0, node.required("height_scale"), node.required("width_scale")]
    return _from_first(node, x, torch.tensor(factors, dtype=torch.float32))


def _targets(
    node: Node, lengths: Sequence[int], scales: Tensor | None, sizes: Tensor | None
) -> tuple[list[float], list[int]]:
    """Scale and length of every resized axis."""
    if scales is not None and scales.numel():
        factors = concrete(scales).astype(np.float32).reshape(-1)
        return [float(f) for f in factors], [
            int(f * np.float32(size)) for f, size in zip(factors, lengths, strict=True)
        ]
    if sizes is None or not sizes.numel():
        raise InputError("op.bad_attribute", f"{node}: neither scales nor sizes are given", "re-export the model")
    wanted = integers(sizes)
    ratios = [np.float32(want) / np.float32(size) for want, size in zip(wanted, lengths, strict=True)]
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [float(r) for r in ratios], wanted
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    resized = [int(np.floor(ratio * np.float32(size) + np.float32(0.5))) for size in lengths]
    return [float(ratio)] * len(resized), resized


def _interpolated(node: Node, x: Tensor, axes: list[Axis], rounding: str) -> Tensor:
    mode = node.attr("mode", "nearest")
    if mode == "nearest":
        out = _nearest(x, axes, rounding)
    elif mode in ("linear", "bilinear", "cubic"):
        out = _weighted(node, x, axes, "cubic" if mode == "cubic" else "linear")
    else:
        raise InputError("op.bad_attribute", f"{node}: unknown mode {mode!r}", "re-export the model")
    outside = functools.reduce(np.logical_or.outer, [a.outside() for a in axes])
    if not outside.any():
        return out
    value = torch.full((), float(node.attr("extrapolation_value", 0.0)), dtype=out.dtype, device=out.device)
    return torch.where(torch.from_numpy(outside).to(out.device), value, out)


def _planes(x: Tensor, axes: Sequence[Axis]) -> bool:
    """Whether only the dimensions after batch and channel are resized, as torch's interpolation does."""
    return 3 <= x.dim() <= 5 and axes[0].identity and axes[1].identity and x.is_floating_point()


def _nearest(x: Tensor, axes: Sequence[Axis], rounding: str) -> Tensor:
    index = {d: resize_weights.nearest(a, rounding) for d, a in enumerate(axes) if not a.identity}
    # given a scale, some of torch's kernels still go by the sizes where those are equal or double
    plain = any(axes[d].out in (axes[d].size, 2 * axes[d].size) for d in index)
    for by_scale in ((False,) if plain else (False, True)) if _planes(x, axes) else ():
        if all((positions == _torch_nearest(axes[d], by_scale)).all() for d, positions in index.items()):
            scales = [a.scale if by_scale else None for a in axes[2:]]
            out: Tensor = _NEAREST[x.dim() - 3](x, [a.out for a in axes[2:]], *scales)
            return out
    for d, positions in index.items():
        x = torch.index_select(x, d, torch.from_numpy(positions).to(x.device))
    return x


def _torch_nearest(axis: Axis, by_scale: bool) -> NDArray[np.int64]:
    """The index that torch's nearest neighbour mode takes, given the scale or only the sizes."""
    count = torch.arange(axis.size, dtype=torch.float32)[None, None]
    picked: Tensor = aten.upsample_nearest1d(count, [axis.out], axis.scale if by_scale else None)
    return picked[0, 0].numpy().astype(np.int64)


def _torch_scales(axes: Sequence[Axis]) -> tuple[bool, list[float | None]] | None:
    """``align_corners`` and the scales for which torch's interpolation is the node's, or None."""
    resized = [a for a in axes[2:] if not a.identity]
    if resized and all(a.transform == "align_corners" for a in resized):
        return True, [None] * len(axes[2:])
    if all(a.transform == "half_pixel" or (a.transform == "pytorch_half_pixel" and a.out > 1) for a in resized):
        return False, [a.scale for a in axes[2:]]
    return None


def _torch_weighted(node: Node, x: Tensor, axes: Sequence[Axis], mode: str) -> Tensor | None:
    """Linear or cubic interpolation as one ATen operator, where torch has exactly the node's."""
    found = _torch_scales(axes) if _planes(x, axes) and not node.attr("antialias", 0) else None
    if found is None:
        return None
    interpolate = _LINEAR[x.dim() - 3]
    if mode == "cubic":
        if x.dim() != 4 or node.attr("exclude_outside", 0) or node.attr("cubic_coeff_a", -0.75) != -0.75:
            return None
        interpolate = aten.upsample_bicubic2d
    out: Tensor = interpolate(at_least_float32(x), [a.out for a in axes[2:]], found[0], *found[1])
    return out.to(x.dtype)


def _weighted(node: Node, x: Tensor, axes: Sequence[Axis], mode: str) -> Tensor:
    out = _torch_weighted(node, x, axes, mode)
    if out is not None:
        return out
    antialias = bool(node.attr("antialias", 0))
    wide = at_least_float32(x) if x.is_floating_point() else x.to(torch.float32)
    for d in reversed(range(x.dim())):
        if not axes[d].identity:
            matrix = torch.from_numpy(_matrix(node, axes[d], mode, antialias)).to(wide)
            last = wide.movedim(d, -1)
            product = torch.mm(last.reshape(-1, axes[d].size), matrix.t())
            wide = product.reshape(*last.shape[:-1], axes[d].out).movedim(-1, d)
            if antialias and not x.is_floating_point():
                wide = torch.clamp(torch.floor(wide + 0.5), *_limits(x.dtype))  # each pass gives integers
    if x.is_floating_point():
        return wide.to(x.dtype).contiguous()
    return torch.clamp(wide, *_limits(x.dtype)).to(x.dtype).contiguous()


def _limits(dtype: torch.dtype) -> tuple[int, int]:
    return torch.iinfo(dtype).min, torch.iinfo(dtype).max


def _matrix(node: Node, axis: Axis, mode: str, antialias: bool) -> NDArray[np.floating]:
    exclude = bool(node.attr("exclude_outside", 0))
    a = float(node.attr("cubic_coeff_a", -0.75))
    if not antialias:
        return resize_weights.linear(axis) if mode == "linear" else resize_weights.cubic(axis, a, exclude)
    if mode == "linear":
        return resize_weights.antialiased(axis, resize_weights.triangle_kernel, 1.0, exclude)
    kernel = functools.partial(resize_weights.cubic_kernel, a=a)
    return resize_weights.antialiased(axis, kernel, 2.0, exclude)
