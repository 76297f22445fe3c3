"""Fused float operators of onnxruntime's own domain: layers with their activation, activations with their bias.

Belongs here: what onnxruntime's optimiser writes for convolutions, products and activations. Not here: normalisation
(``microsoft_norm``), attention (``microsoft_attention``), quantised operators (``microsoft_quantized``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer import recorder
from analyzer.importer.graph import Node
from analyzer.importer.ops.quantization import MICROSOFT, standard
from analyzer.importer.table import operator


def activated(node: Node, x: Tensor, parameters: Sequence[float]) -> Tensor:
    """The activation that the node's ``activation`` attribute names, applied to ``x``."""
    name = str(node.attr("activation") or "").lower()
    given = [float(p) for p in parameters]

    def parameter(index: int, default: float) -> float:
        return given[index] if index < len(given) else default

    match name:
        case "":
            return x
        case "relu":
            return torch.relu(x)
        case "sigmoid":
            return torch.sigmoid(x)
        case "tanh":
            return torch.tanh(x)
        case "leakyrelu":
            return F.leaky_relu(x, parameter(0, 0.01))
        case "clip":
            return torch.clamp(x, parameter(0, -3.4028234663852886e38), parameter(1, 3.4028234663852886e38))
        case "hardsigmoid":
            return torch.clamp(parameter(0, 0.2) * x + parameter(1, 0.5), 0.0, 1.0)
        case "hardswish":
            return F.hardswish(x)
        case "elu":
            return F.elu(x, parameter(0, 1.0))
        case "softplus":
            return F.softplus(x)
        case "softsign":
            return F.softsign(x)
        case "gelu":
            return F.gelu(x)
        case "quickgelu":
            return x * torch.sigmoid(parameter(0, 1.702) * x)
        case "thresholdedrelu":
            return F.threshold(x, parameter(0, 1.0), 0.0)
    raise InputError("op.unsupported", f"{node}: unknown activation {name!r}", "export without fusions")


def _gemm_parameters(node: Node) -> list[float]:
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    return [float(node.attr(name)) for name in names if node.attr(name) is not None]


@operator("FusedConv", domain=MICROSOFT)
def fused_conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None) -> Tensor:
    """Convolution, a sum with ``z``, an activation."""
    y = standard("Conv", 11)(node, x, w, b)
    return activated(node, y if z is None else y + z, node.attr("activation_params") or ())


@operator("NhwcFusedConv", domain=MICROSOFT)
def nhwc_fused_conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None) -> Tensor:
    """FusedConv with channels last."""
    y = standard("Conv", 11)(node, x.movedim(-1, 1), w, b).movedim(1, -1)
    return activated(node, y if z is None else y + z, node.attr("activation_params") or ())


@operator("NhwcConv", domain=MICROSOFT)
def nhwc_conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Convolution with channels last; the weights are (out, kernel..., in)."""
    y: Tensor = standard("Conv", 11)(node, x.movedim(-1, 1), w.movedim(-1, 1), b)
    return y.movedim(1, -1)


@operator("ConvTransposeWithDynamicPads", domain=MICROSOFT)
def conv_transpose_with_dynamic_pads(
    node: Node, x: Tensor, w: Tensor, pads: Tensor | None = None, b: Tensor | None = None
) -> Tensor:
    """Transposed convolution whose pads are an input."""
    attributes = dict(node.attributes)
    if pads is not None:
        attributes["pads"] = recorder.integers(pads)
    y: Tensor = standard("ConvTranspose", 11)(replace(node, attributes=attributes), x, w, b)
    return y


@operator("NhwcMaxPool", domain=MICROSOFT)
def nhwc_max_pool(node: Node, x: Tensor) -> Tensor:
    y = standard("MaxPool", 12)(node, x.movedim(-1, 1))
    pooled: Tensor = y[0] if isinstance(y, tuple) else y
    return pooled.movedim(1, -1)


@operator("FusedGemm", domain=MICROSOFT)
def fused_gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    return activated(node, standard("Gemm", 13)(node, a, b, c), _gemm_parameters(node))


@operator("FusedMatMul", domain=MICROSOFT)
@operator("TransposeMatMul", domain=MICROSOFT)
def fused_matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """``alpha * A' B'``, each factor transposed in its last two dimensions, or in its first against the batch."""
    left, right = _transposed(node, a, "A"), _transposed(node, b, "B")
    y: Tensor = standard("MatMul", 13)(node, left, right)
    alpha = float(node.attr("alpha", 1.0))
    return y if alpha == 1.0 else y * alpha


def _transposed(node: Node, x: Tensor, which: str) -> Tensor:
    if x.ndim < 2:
        return x
    if node.attr(f"transBatch{which}", 0):
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if node.attr(f"trans{which}", 0) else x


@operator("FusedMatMulActivation", domain=MICROSOFT)
def fused_matmul_activation(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return activated(node, fused_matmul(node, a, b), _gemm_parameters(node))


@operator("Gelu", domain=MICROSOFT)
def gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x)


@operator("BiasGelu", domain=MICROSOFT)
def bias_gelu(node: Node, x: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(x + bias)


@operator("FastGelu", domain=MICROSOFT)
def fast_gelu(node: Node, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@operator("QuickGelu", domain=MICROSOFT)
def quick_gelu(node: Node, x: Tensor) -> Tensor:
    """``x * sigmoid(alpha * x)``."""
    alpha = float(node.attr("alpha", 1.702))
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@operator("BiasSplitGelu", domain=MICROSOFT)
def bias_split_gelu(node: Node, x: Tensor, bias: Tensor) -> Tensor:
    """The first half of the biased features times the Gelu of the second."""
    left, right = (x + bias).chunk(2, -1)
    return left * F.gelu(right)


@operator("BiasAdd", domain=MICROSOFT)
def bias_add(node: Node, x: Tensor, bias: Tensor, skip: Tensor) -> Tensor:
    return x + bias + skip


@operator("BiasSoftmax", domain=MICROSOFT)
def bias_softmax(node: Node, x: Tensor, bias: Tensor) -> Tensor:
    """Softmax of ``x + bias`` over the dimensions from ``axis`` on.

    With inner broadcast the bias repeats over the dimensions before ``axis`` by blocks, otherwise as the last
    ones of a batch.
    """
    axis = node.attr("axis", 1) % x.ndim
    rows, columns = x.shape[:axis].numel(), x.shape[axis:].numel()
    shared = bias.reshape(-1, columns)
    if node.required("is_inner_broadcast"):
        shared = shared.repeat_interleave(rows // shared.shape[0], 0)
    else:
        shared = shared.repeat(rows // shared.shape[0], 1)
    return torch.softmax(x + shared.reshape(x.shape), -1) if axis == x.ndim - 1 else _flat_softmax(x, shared)


def _flat_softmax(x: Tensor, bias: Tensor) -> Tensor:
    return torch.softmax(x.reshape(bias.shape) + bias, -1).reshape(x.shape)


@operator("BiasDropout", domain=MICROSOFT)
def bias_dropout(
    node: Node,
    x: Tensor,
    bias: Tensor,
    residual: Tensor | None = None,
    ratio: Tensor | None = None,
    training: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """In inference a sum and a mask of ones."""
    y = x + bias
    return (y if residual is None else y + residual), torch.ones(x.shape, dtype=torch.bool)
