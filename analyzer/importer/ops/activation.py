"""Activation functions: elementwise functions of one tensor with at most a learned slope.

Belongs here: functions of single elements, each as the one ATen operator that carries its meaning. Not
here: softmax and other functions along an axis (``activation_axis``), ``Clip`` (``activation_clip``), arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from analyzer.importer.graph import Node
from analyzer.importer.table import operator

aten = torch.ops.aten


def broadcast_from_right(slope: Tensor, rank: int) -> Tensor:
    """``slope`` with as many dimensions as the tensor it is broadcast to."""
    return slope.reshape((1,) * (rank - slope.dim()) + tuple(slope.shape))


@operator("Relu")
def relu(node: Node, x: Tensor) -> Tensor:
    return torch.relu(x)


@operator("Sigmoid")
def sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@operator("Tanh")
def tanh(node: Node, x: Tensor) -> Tensor:
    return torch.tanh(x)


@operator("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return functional.leaky_relu(x, node.attr("alpha", 0.01))


@operator("PRelu", since=7)
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    if x.is_floating_point():
        out: Tensor = aten._prelu_kernel(x, broadcast_from_right(slope, x.dim()))
        return out
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return x.clone()  # nothing is below zero, and torch can't compare these
    return torch.where(x < 0, torch.mul(x, slope), x)


@operator("PRelu", since=1)
def prelu_per_channel(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    """Before version 7 a slope with one element per channel belongs to dimension 1."""
    if slope.numel() > 1 and slope.dim() == 1:
        slope = slope.reshape(-1, *(1,) * (x.dim() - 2))
    out: Tensor = prelu(node, x, slope)
    return out


@operator("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    return functional.elu(x, node.attr("alpha", 1.0))


@operator("Selu", since=6)
def selu(node: Node, x: Tensor) -> Tensor:
    alpha = node.attr("alpha", 1.67326319217681884765625)
    gamma = node.attr("gamma", 1.05070102214813232421875)
    out: Tensor = aten.elu(x, alpha, gamma)
    return out


@operator("Selu", since=1)
def selu_rounded(node: Node, x: Tensor) -> Tensor:
    out: Tensor = aten.elu(x, node.attr("alpha", 1.6732), node.attr("gamma", 1.0507))
    return out


@operator("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    return functional.celu(x, node.attr("alpha", 1.0))


@operator("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=node.attr("approximate", "none"))


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    alpha: float = node.attr("alpha", 0.2)
    beta: float = node.attr("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return functional.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


@operator("HardSwish")
def hard_swish(node: Node, x: Tensor) -> Tensor:
    return functional.hardswish(x)


@operator("Swish")
def swish(node: Node, x: Tensor) -> Tensor:
    alpha: float = node.attr("alpha", 1.0)
    return functional.silu(x) if alpha == 1.0 else torch.mul(x, torch.sigmoid(x * alpha))


@operator("SwiGLU")
def swiglu(node: Node, gate: Tensor, value: Tensor) -> Tensor:
    return torch.mul(swish(node, gate), value)


@operator("Mish")
def mish(node: Node, x: Tensor) -> Tensor:
    return functional.mish(x)


@operator("Softplus")
def softplus(node: Node, x: Tensor) -> Tensor:
    # torch takes x itself above the threshold; at 40 the difference is below float64's resolution
    return functional.softplus(x, threshold=40.0)


@operator("Softsign")
def softsign(node: Node, x: Tensor) -> Tensor:
    return functional.softsign(x)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return functional.threshold(x, node.attr("alpha", 1.0), 0.0)


@operator("Shrink")
def shrink(node: Node, x: Tensor) -> Tensor:
    bias: float = node.attr("bias", 0.0)
    edge: float = node.attr("lambd", 0.5)
    if x.is_floating_point():
        if bias == 0 and edge >= 0:
            return functional.hardshrink(x, edge)
        if bias == edge and edge >= 0:
            return functional.softshrink(x, edge)
    wide = x if x.is_floating_point() else x.to(torch.float64)
    outside = torch.where(wide > edge, wide - bias, torch.zeros_like(wide))
    return torch.where(wide < -edge, wide + bias, outside).to(x.dtype)
