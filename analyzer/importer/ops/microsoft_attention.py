"""Attention of onnxruntime's own domain, written out as two matrix products around a softmax.

Belongs here: Attention, QAttention, MultiHeadAttention, GroupQueryAttention and RotaryEmbedding as
onnxruntime's transformer optimiser writes them. Not here: the standard's Attention (``attention``).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer import recorder
from analyzer.importer.graph import Node
from analyzer.importer.ops.attention import rotary_embedding as standard_rotary
from analyzer.importer.ops.quantization import MICROSOFT, standard
from analyzer.importer.quantized import Quantized, dequantize
from analyzer.importer.quantized_nodes import accepts_quantized
from analyzer.importer.table import operator

#: What onnxruntime adds to the score of a masked key where the node has no attribute.
MASKED = -10000.0


@operator("Attention", domain=MICROSOFT)
def attention(
    node: Node,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_length: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Self-attention with its input projection: the output (batch, tokens, width) and keys and values with the past."""
    _refuse(node, "do_rotary", "past_present_share_buffer")
    projected = standard("MatMul", 13)(node, x, weights)
    projected = projected if bias is None else projected + bias
    sizes = [int(v) for v in node.attr("qkv_hidden_sizes") or [projected.shape[-1] // 3] * 3]
    heads = int(node.required("num_heads"))
    q, k, v = (_heads(part, heads) for part in projected.split(sizes, -1))
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    causal = bool(node.attr("unidirectional", 0))
    hidden = _mask(node, mask, x.shape[0], q.shape[2], k.shape[2])
    out, _ = _attend(node, q, k, v, hidden, attention_bias, causal)
    present = torch.stack([k, v]) if k.shape == v.shape else k
    return out, present


@operator("QAttention", domain=MICROSOFT)
@accepts_quantized
def quantized_attention(
    node: Node,
    x: Tensor | Quantized,
    weights: Tensor | Quantized,
    bias: Tensor,
    x_scale: Tensor,
    w_scale: Tensor,
    mask: Tensor | None = None,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
    past: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention whose input projection is an integer product."""
    real = dequantize(x, x_scale, x_zero)
    result: tuple[Tensor, Tensor] = attention(
        node, real, dequantize(weights, w_scale, w_zero, axis=-1), bias, mask, past
    )
    return result


@operator("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(
    node: Node,
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    past_length: Tensor | None = None,
    indirection: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Attention of projected queries, keys and values: output, keys and values with the past, scores."""
    if past_length is not None or indirection is not None:
        raise InputError("op.unsupported", f"{node}: shared buffers are not supported", "export without them")
    heads = int(node.required("num_heads"))
    if query.ndim == 5:  # (batch, tokens, heads, 3, size)
        query, key, value = (part.flatten(2) for part in query.unbind(3))
    elif key is not None and key.ndim == 5:  # (batch, tokens, heads, 2, size)
        key, value = (part.flatten(2) for part in key.unbind(3))
    if key is None or value is None:
        raise InputError("op.bad_attribute", f"{node}: keys or values are missing", "re-export the model")
    width = query.shape[-1]
    if bias is not None:
        query = query + bias[:width]
        key = key + bias[width : 2 * width] if key.ndim == 3 else key
        value = value + bias[2 * width :] if value.ndim == 3 else value
    q = _heads(query, heads)
    k, v = (part if part.ndim == 4 else _heads(part, heads) for part in (key, value))
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    hidden = _mask(node, mask, q.shape[0], q.shape[2], k.shape[2])
    out, scores = _attend(node, q, k, v, hidden, attention_bias, bool(node.attr("unidirectional", 0)))
    return out, k, v, scores


@operator("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(
    node: Node,
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    last: Tensor,
    total: Tensor,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    positions: Tensor | None = None,
    attention_bias: Tensor | None = None,
    *rest: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Causal attention whose queries share keys and values in groups: output, keys and values with the past.

    ``last`` is each sample's total length minus one; all samples must have the full length.
    """
    _refuse(node, "smooth_softmax", "kv_cache_bit_width", negative=True)
    if any(value is not None for value in rest):
        raise InputError("op.unsupported", f"{node}: sinks and quantised caches are not supported", "export without")
    heads, groups = int(node.required("num_heads")), int(node.required("kv_num_heads"))
    if key is None or value is None:
        size = query.shape[-1] // (heads + 2 * groups)
        query, key, value = query.split([heads * size, groups * size, groups * size], -1)
    q, k, v = _heads(query, heads), _heads(key, groups), _heads(value, groups)
    length = int(recorder.integers(total)[0])
    if any(n + 1 != length for n in recorder.integers(last)):
        raise InputError("op.unsupported", f"{node}: samples of different lengths", "give samples of one length")
    before = length - q.shape[2]
    if node.attr("do_rotary", 0) and cos is not None and sin is not None:
        key_positions = torch.arange(before, length).expand(q.shape[0], -1) if positions is None else positions
        q, k = (_rotated(node, part, key_positions, cos, sin, "rotary_interleaved") for part in (q, k))
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key[:, :, :before], k], 2), torch.cat([past_value[:, :, :before], v], 2)
    shared_k, shared_v = (part.repeat_interleave(heads // groups, 1) for part in (k, v))
    window = int(node.attr("local_window_size", -1))
    hidden = None
    if window > 0:
        distance = torch.arange(before, length)[:, None] - torch.arange(length)
        hidden = torch.where(distance < window, 0.0, -math.inf).to(q.dtype)
    out, _ = _attend(node, q, shared_k, shared_v, hidden, attention_bias, bool(node.attr("causal", 1)))
    return out, k, v


@operator("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(node: Node, x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding; one position is that of the first token."""
    _refuse(node, "is_packed_batching")
    tokens = x.shape[-2] if x.ndim == 4 else x.shape[1]
    if positions.numel() == 1:
        positions = positions.reshape(1, 1) + torch.arange(tokens)
    if x.ndim == 4:
        return _rotated(node, x, positions, cos, sin, "interleaved")
    heads = int(node.attr("num_heads", 0)) or x.shape[-1] // (2 * cos.shape[-1])
    turned = _rotated(node, _heads(x, heads), positions, cos, sin, "interleaved")
    return turned.transpose(1, 2).flatten(2)


def _rotated(node: Node, x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, interleaved: str) -> Tensor:
    """The standard's rotation of (batch, heads, tokens, size)."""
    attributes = {
        "interleaved": node.attr(interleaved, 0),
        "rotary_embedding_dim": node.attr("rotary_embedding_dim", 0) or 2 * cos.shape[-1],
    }
    turned: Tensor = standard_rotary(replace(node, attributes=attributes), x, cos, sin, positions)
    return turned


def _heads(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, width) as (batch, heads, tokens, size)."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def _attend(
    node: Node, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor]:
    """Output (batch, tokens, width) and the scores before the softmax."""
    scale = float(node.attr("scale", 0.0)) or 1.0 / math.sqrt(q.shape[-1])
    scores = torch.matmul(q, k.transpose(-1, -2)) * scale
    if causal:
        queries, keys = q.shape[2], k.shape[2]
        later = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries + 1)
        scores = scores + torch.where(later, -math.inf, 0.0).to(scores.dtype)
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    if bias is not None:
        scores = scores + bias
    out = torch.matmul(torch.softmax(scores, -1), v)
    return out.transpose(1, 2).flatten(2), scores


def _mask(node: Node, mask: Tensor | None, batch: int, queries: int, keys: int) -> Tensor | None:
    """What is added to the scores (batch, heads, queries, keys), from any of the mask forms that onnxruntime takes."""
    if mask is None:
        return None
    filled = float(node.attr("mask_filter_value", MASKED))
    key_positions = torch.arange(keys)
    if mask.ndim == 1 and mask.shape[0] == batch:
        seen = key_positions < mask[:, None]
    elif mask.ndim == 1 and mask.shape[0] == 2 * batch:
        seen = (key_positions < mask[:batch, None]) & (key_positions >= mask[batch:, None])
    elif mask.ndim == 1 and mask.shape[0] == 3 * batch + 2:
        seen = key_positions < mask[:batch, None]
    elif mask.ndim == 2:
        seen = mask > 0
    elif mask.ndim == 3:
        return torch.where(mask > 0, 0.0, filled).unsqueeze(1)
    elif mask.ndim == 4:
        past = keys - queries
        return torch.where(mask[:, :, past:keys, :keys] > 0, 0.0, filled)
    else:
        raise InputError(
            "op.bad_attribute", f"{node}: a mask of shape {tuple(mask.shape)} is unknown", "re-export the model"
        )
    return torch.where(seen, 0.0, filled)[:, None, None, :]


def _refuse(node: Node, *names: str, negative: bool = False) -> None:
    for name in names:
        value = node.attr(name, 0)
        if value and not (negative and value < 0):
            raise InputError("op.unsupported", f"{node}: {name} is not supported", "export without it")
