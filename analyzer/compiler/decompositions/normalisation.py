"""Normalisation of layers and groups, and their derivatives.

Belongs here: mean and deviation over some axes. Not here: those of a batch, which torch takes apart itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from analyzer.compiler.decompositions.table import decomposes

aten = torch.ops.aten


@decomposes(aten.native_layer_norm.default)
def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalisation with its mean and reciprocal deviation."""
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    rstd = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    out = centred * rstd
    out = out if weight is None else out * weight
    return out if bias is None else out + bias, mean, rstd


@decomposes(aten.native_layer_norm_backward.default)
def layer_norm_backward(
    grad: Tensor, x: Tensor, shape: Sequence[int], mean: Tensor, rstd: Tensor, weight: Tensor | None,
    bias: Tensor | None, mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """The gradients of input, weight and bias."""
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    normal = (x - mean) * rstd
    scaled = grad if weight is None else grad * weight
    spread = scaled - scaled.mean(axes, keepdim=True) - normal * (scaled * normal).mean(axes, keepdim=True)
    lead = tuple(range(x.ndim - len(shape)))

    def gathered(value: Tensor) -> Tensor:
        return value.sum(lead) if lead else value

    return (
        spread * rstd,
        gathered(grad * normal) if mask[1] else None,
        gathered(grad) if mask[2] else None,
    )


@decomposes(aten.native_group_norm.default)
def group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, channels: int, places: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Group normalisation with its mean and reciprocal deviation."""
    rows = x.reshape(x.shape[0], groups, -1)
    mean = rows.mean(-1, keepdim=True)
    centred = rows - mean
    rstd = torch.rsqrt((centred * centred).mean(-1, keepdim=True) + eps)
    out = (centred * rstd).reshape(x.shape)
    by_channel = [1, channels, *[1] * (x.ndim - 2)]
    out = out if weight is None else out * weight.reshape(by_channel)
    out = out if bias is None else out + bias.reshape(by_channel)
    return out, mean.squeeze(-1), rstd.squeeze(-1)
