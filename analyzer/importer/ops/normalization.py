"""Normalisation layers, each one native ATen normalisation where torch has it.

Belongs here: batch, instance, group, layer, RMS, local response and Lp normalisation, and Dropout, which does
nothing in inference. Half precision is normalised in float32, as onnxruntime does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.precision import single
from analyzer.importer.recorder import concrete, recorded
from analyzer.importer.table import operator

aten = torch.ops.aten


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision widened to float32; wider types as they are."""
    return x.to(torch.float32) if x.dtype in (torch.float16, torch.bfloat16) else x


@operator("BatchNormalization")
def batch_normalization(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> Tensor | tuple[Tensor, ...]:
    """All versions in inference; training mode (14 and newer) normalises by the batch's own statistics."""
    eps = node.attr("epsilon", 1e-5)
    if node.version < 9 and not node.attr("spatial", 1):
        flat = x.reshape(x.shape[0], -1)  # statistics for every element of a sample
        mean, var, scale, bias = (v.reshape(-1) for v in (mean, var, scale, bias))
        return functional.batch_norm(flat, mean, var, scale, bias, False, 0.0, eps).reshape(x.shape)
    wide = at_least_float32(x)
    wide = wide.unsqueeze(1) if x.dim() == 1 else wide  # a vector is one channel
    mean_, var_, scale_, bias_ = (v.to(wide.dtype) for v in (mean, var, scale, bias))
    if not node.attr("training_mode", 0):
        if recorded(mean) or recorded(var):  # torch's own has no derivative for statistics
            mean_, var_, scale_, bias_ = (v.reshape(-1, *[1] * (wide.dim() - 2)) for v in (mean_, var_, scale_, bias_))
            out = (wide - mean_) * torch.rsqrt(var_ + eps) * scale_ + bias_
        else:
            out = functional.batch_norm(wide, mean_, var_, scale_, bias_, False, 0.0, eps)
        return (out.squeeze(1) if x.dim() == 1 else out).to(x.dtype)
    momentum = node.attr("momentum", 0.9)
    over = [d for d in range(wide.dim()) if d != 1]
    batch_var, batch_mean = torch.var_mean(wide, dim=over, correction=0)
    out = functional.batch_norm(wide, None, None, scale_, bias_, True, 0.0, eps)
    running_mean = mean_ * momentum + batch_mean * (1 - momentum)
    running_var = var_ * momentum + batch_var * (1 - momentum)
    out = out.squeeze(1) if x.dim() == 1 else out
    return out.to(x.dtype), running_mean.to(mean.dtype), running_var.to(var.dtype)


def _group_norm(x: Tensor, scale: Tensor | None, bias: Tensor | None, groups: int, eps: float) -> Tensor:
    wide = at_least_float32(x).contiguous()
    # torch reads them as if they were contiguous
    scale, bias = (None if v is None else v.to(wide.dtype).contiguous() for v in (scale, bias))
    samples, channels = x.shape[:2]
    area = math.prod(x.shape[2:])
    out, _, _ = aten.native_group_norm(wide, scale, bias, samples, channels, area, groups, eps)
    result: Tensor = out.to(x.dtype)
    return result


@operator("InstanceNormalization")
def instance_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return _group_norm(x, scale, bias, x.shape[1], node.attr("epsilon", 1e-5))


@operator("GroupNormalization", since=21)
def group_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return _group_norm(x, scale, bias, node.required("num_groups"), node.attr("epsilon", 1e-5))


@operator("GroupNormalization", since=18)
def group_normalization_per_group(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Version 18 has one scale and bias per group instead of one per channel."""
    groups = node.required("num_groups")
    scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return _group_norm(x, scale, bias, groups, node.attr("epsilon", 1e-5))


def _fits(value: Tensor | None, shape: Sequence[int]) -> bool:
    """Whether a scale broadcasts inside the normalised dimensions."""
    if value is None:
        return True
    extra = value.dim() - len(shape)
    return all(size == 1 for size in value.shape[: max(0, extra)])


def _expanded(value: Tensor | None, shape: Sequence[int], dtype: torch.dtype) -> Tensor | None:
    if value is None:
        return None
    if value.dim() > len(shape):
        value = value.reshape(value.shape[value.dim() - len(shape) :])
    return value.to(dtype).expand(tuple(shape))


@operator("LayerNormalization")
def layer_normalization(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    axis = node.attr("axis", -1) % x.dim()
    shape, eps = tuple(x.shape[axis:]), node.attr("epsilon", 1e-5)
    wide = at_least_float32(x)
    if _fits(scale, shape) and _fits(bias, shape):
        weight, shift = (_expanded(v, shape, wide.dtype) for v in (scale, bias))
        out, mean, inverse = aten.native_layer_norm(wide, shape, weight, shift, eps)
    else:
        out, mean, inverse = aten.native_layer_norm(wide, shape, None, None, eps)
        out = out * scale.to(wide.dtype)
        out = out if bias is None else out + bias.to(wide.dtype)
    if any(node.outputs[1:]):
        mean, inverse = layer_statistics(wide, len(shape), eps)
    return out.to(x.dtype), mean.to(single()), inverse.to(single())


def layer_statistics(x: Tensor, axes: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation over the last axes; those that torch's layer normalisation gives have no derivative."""
    var, mean = torch.var_mean(x, dim=list(range(x.dim() - axes, x.dim())), correction=0, keepdim=True)
    return mean, torch.rsqrt(var + eps)


@operator("RMSNormalization")
def rms_normalization(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axis = node.attr("axis", -1) % x.dim()
    wide = at_least_float32(x) if node.attr("stash_type", 1) == 1 else x
    square = torch.mean(wide * wide, dim=tuple(range(axis, x.dim())), keepdim=True)
    normal = wide * torch.rsqrt(square + node.attr("epsilon", 1e-5))
    return normal.to(x.dtype) * scale


@operator("LRN")
def local_response_normalization(node: Node, x: Tensor) -> Tensor:
    size: int = node.required("size")
    alpha: float = node.attr("alpha", 1e-4)
    squares = (x * x).reshape(x.shape[0], 1, x.shape[1], -1)
    before = (size - 1) // 2
    around = functional.avg_pool2d(functional.pad(squares, (0, 0, before, size - 1 - before)), (size, 1), stride=1)
    scale = around.reshape(x.shape) * alpha + float(node.attr("bias", 1.0))
    return x / torch.pow(scale, node.attr("beta", 0.75))


@operator("LpNormalization")
def lp_normalization(node: Node, x: Tensor) -> Tensor:
    order = node.attr("p", 2)
    if order not in (1, 2):
        raise InputError("op.bad_attribute", f"{node}: p is {order}, not 1 or 2", "re-export the model")
    norm = torch.linalg.vector_norm(x, order, dim=node.attr("axis", -1), keepdim=True)
    # a zero vector stays zero
    divisor: Tensor = norm.masked_fill(norm == 0, 1.0)
    return x / divisor


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, x: Tensor) -> Tensor:
    axes = tuple(node.attr("axes", (0, 2, 3)))
    wide = at_least_float32(x)
    centred = wide - torch.mean(wide, dim=axes, keepdim=True)
    deviation = torch.sqrt(torch.mean(centred * centred, dim=axes, keepdim=True))
    return (centred / (deviation + 1e-9)).to(x.dtype)


@operator("Dropout")
def dropout(
    node: Node, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The identity; random in training mode, which no trace can repeat."""
    if training is not None:
        active = bool(concrete(training).reshape(-1)[0])
        if active and (ratio is None or float(concrete(ratio).reshape(-1)[0]) != 0):
            raise InputError(
                "op.bad_attribute",
                f"{node} drops at random (training mode)",
                "export the model in evaluation mode",
            )
    kind = torch.bool if node.version >= 10 else x.dtype
    # onnxruntime's mask is all false before version 12 and all true since
    return x, torch.full(x.shape, node.version >= 12, dtype=kind, device=x.device)
