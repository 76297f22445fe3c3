"""Layer normalisations of onnxruntime's own domain, with the sums and embeddings that are fused into them.

Belongs here: SkipLayerNormalization, the simplified (root mean square) ones and EmbedLayerNormalization. Not here: the
standard's normalisations (``normalization``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.ops.normalization import at_least_float32, layer_statistics
from analyzer.importer.ops.quantization import MICROSOFT
from analyzer.importer.table import operator

aten = torch.ops.aten


@operator("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(
    node: Node, x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Layer normalisation of ``x + skip + bias``: output, mean, inverse deviation, the sum."""
    summed = _sum(x, skip, bias)
    wide, eps = at_least_float32(summed), float(node.attr("epsilon", 1e-12))
    weight, shift = at_least_float32(gamma), None if beta is None else at_least_float32(beta)
    out, mean, rstd = aten.native_layer_norm(wide, [x.shape[-1]], weight, shift, eps)
    if any(node.outputs[1:3]):
        mean, rstd = layer_statistics(wide, 1, eps)
    return out.to(x.dtype), mean, rstd, summed


@operator("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_normalization(
    node: Node, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    """Root mean square normalisation of ``x + skip + bias``: output, (no mean), inverse deviation, the sum."""
    summed = _sum(x, skip, bias)
    out, rstd = _simplified(summed, gamma, x.ndim - 1, float(node.attr("epsilon", 1e-12)))
    return out, None, rstd, summed


@operator("SimplifiedLayerNormalization")
@operator("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified_layer_normalization(node: Node, x: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean square normalisation over the dimensions from ``axis`` on (Zhang & Sennrich 2019)."""
    return _simplified(x, gamma, node.attr("axis", -1) % x.ndim, float(node.attr("epsilon", 1e-5)))


def _simplified(x: Tensor, gamma: Tensor, axis: int, eps: float) -> tuple[Tensor, Tensor]:
    wide = at_least_float32(x)
    rstd = torch.rsqrt(wide.square().mean(list(range(axis, x.ndim)), keepdim=True) + eps)
    return (wide * rstd * at_least_float32(gamma)).to(gamma.dtype), rstd


def _sum(x: Tensor, skip: Tensor, bias: Tensor | None) -> Tensor:
    summed = x + skip
    return summed if bias is None else summed + bias


@operator("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_normalization(
    node: Node,
    ids: Tensor,
    segments: Tensor | None,
    words: Tensor,
    positions: Tensor,
    kinds: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    position_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised sum of word, position and segment embeddings; the lengths by the mask; the sum."""
    summed = F.embedding(ids.to(torch.int64), words)
    where = positions[: ids.shape[1]] if position_ids is None else F.embedding(position_ids.to(torch.int64), positions)
    summed = summed + where
    if segments is not None and kinds is not None:
        summed = summed + F.embedding(segments.to(torch.int64), kinds)
    out, _, _ = aten.native_layer_norm(summed, [summed.shape[-1]], gamma, beta, float(node.attr("epsilon", 1e-12)))
    lengths = torch.zeros(ids.shape[0], dtype=torch.int32)
    if mask is not None:
        lengths = (mask == 1).sum(1).to(torch.int32)
    return out, lengths, summed
