"""Attention written out, so that rules can be attached to each of its steps.

Belongs here: Attention as two matrix products around a softmax, and what surrounds it in language models: rotary
position embeddings and writing to a cache. Not here: recurrent attention (``attention_linear``).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.precision import current
from analyzer.importer.recorder import recorded
from analyzer.importer.table import operator

#: ONNX numbers of the dtypes that ``softmax_precision`` may name.
_PRECISION = {1: torch.float32, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}


def _in_heads(node: Node, x: Tensor, heads: str) -> Tensor:
    """(batch, sequence, hidden) as (batch, heads, sequence, head size); rank 4 as it is."""
    if x.dim() == 4:
        return x
    return x.reshape(x.shape[0], x.shape[1], node.required(heads), -1).transpose(1, 2)


def _masked(scores: Tensor, mask: Tensor | None, seen: Tensor | None) -> Tensor:
    """Scores with a mask, which may be shorter than the keys; masked scores become the lowest finite number."""
    lowest = torch.full((), torch.finfo(scores.dtype).min, dtype=scores.dtype, device=scores.device)
    if mask is not None:
        missing = scores.shape[-1] - mask.shape[-1]
        if mask.dtype == torch.bool:
            mask = functional.pad(mask, (0, missing), value=False) if missing else mask
            seen = mask if seen is None else mask & seen
        else:
            mask = functional.pad(mask, (0, missing), value=-math.inf) if missing else mask
            scores = scores + mask.to(scores.dtype)
    return scores if seen is None else torch.where(seen, scores, lowest)


def _may_be_blind(mask: Tensor | None, seen: Tensor | None) -> bool:
    """Whether some query may see no key at all; known only where the masks are constants."""
    if mask is None and seen is None:
        return False
    if recorded(mask) or recorded(seen):
        return True
    visible = torch.ones((), dtype=torch.bool) if seen is None else seen
    if mask is not None:
        open_ = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min
        visible = visible[..., : open_.shape[-1]] & open_ if visible.dim() else open_
    return not bool(visible.any(-1).all())


def _visible(
    node: Node, queries: int, keys: int, past: int, valid: Tensor | None, device: torch.device
) -> Tensor | None:
    """Which keys each query may see by position: causality, windows, padding; None means all."""
    key = torch.arange(keys, device=device)
    row = torch.arange(queries, device=device)[:, None] + past
    if valid is not None:
        valid = valid.reshape(-1, 1, 1, 1)
        row = row + (valid - queries)
    limits = []
    if node.attr("is_causal", 0):
        limits.append(key <= row)
    left, right = node.attr("left_window_size", -1), node.attr("right_window_size", -1)
    if left >= 0:
        limits.append(key >= row - left)
    if right >= 0:
        limits.append(key <= row + right)
    if valid is not None:
        limits.append(key < valid)
    if not limits:
        return None
    seen = limits[0]
    for limit in limits[1:]:
        seen = seen & limit
    return seen


def _for_all_heads(node: Node, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Keys and values repeated where several query heads share them (grouped-query attention).

    Raises
    ------
    InputError
        ``op.bad_attribute``.
    """
    if k.shape[1] == heads:
        return k, v
    if heads % k.shape[1]:
        raise InputError(
            "op.bad_attribute", f"{node}: {heads} query heads don't share {k.shape[1]} key heads", "re-export"
        )
    k, v = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (k, v))
    return k, v


def _softmax(node: Node, scores: Tensor, dtype: torch.dtype, mask: Tensor | None, seen: Tensor | None) -> Tensor:
    """Attention weights from masked scores; those of a query that sees no key are zeros."""
    precision = current(_PRECISION.get(node.attr("softmax_precision", 0), scores.dtype))
    weights = torch.softmax(scores.to(precision), dim=-1).to(dtype)
    if _may_be_blind(mask, seen):
        blind = torch.amax(scores, dim=-1, keepdim=True) <= torch.finfo(scores.dtype).min
        weights = torch.where(blind, torch.zeros((), dtype=weights.dtype, device=weights.device), weights)
    return weights


@operator("Attention", since=23)
def attention(
    node: Node,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the output, the keys and values with the past, and the scores at the stage that the node selects.

    Shapes: (batch, heads, sequence, head size), or (batch, sequence, heads * head size) for rank 3.
    """
    flat = query.dim() == 3
    q, k, v = (
        _in_heads(node, x, heads)
        for x, heads in ((query, "q_num_heads"), (key, "kv_num_heads"), (value, "kv_num_heads"))
    )
    past = 0
    if past_key is not None and past_value is not None:
        past = past_key.shape[2]
        k, v = torch.cat([past_key, k], dim=2), torch.cat([past_value, v], dim=2)
    present_key, present_value = k, v
    queries, keys = q.shape[2], k.shape[2]
    k, v = _for_all_heads(node, k, v, q.shape[1])
    # the root of the scale on both factors keeps half precision from overflowing
    root = math.sqrt(float(node.attr("scale") or 1 / math.sqrt(q.shape[3])))
    scores = torch.matmul(q * root, (k * root).transpose(-1, -2))
    stages = [scores]
    softcap = float(node.attr("softcap", 0.0))
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    stages.append(scores)
    seen = _visible(node, queries, keys, past, valid, q.device)
    scores = _masked(scores, mask, seen)
    stages.append(scores)
    weights = _softmax(node, scores, q.dtype, mask, seen)
    stages.append(weights)
    out = torch.matmul(weights.to(v.dtype), v).to(query.dtype)
    if flat:
        out = out.transpose(1, 2).reshape(query.shape[0], queries, -1)
    return out, present_key, present_value, stages[node.attr("qk_matmul_output_mode", 0)]


@operator("RotaryEmbedding")
def rotary_embedding(node: Node, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
    """Rotates pairs of features by an angle that grows with the position (Su et al. 2021, RoFormer)."""
    states = x
    if x.dim() == 3:
        states = x.reshape(x.shape[0], x.shape[1], node.required("num_heads"), -1).transpose(1, 2)
    turned = node.attr("rotary_embedding_dim", 0) or states.shape[-1]
    if positions is not None:
        cos, sin = (table[positions.to(torch.int64)] for table in (cos, sin))
    cos, sin = cos[:, None, :, : turned // 2], sin[:, None, :, : turned // 2]
    if node.attr("interleaved", 0):
        pairs = states[..., :turned].reshape(*states.shape[:-1], turned // 2, 2)
        first, second = pairs.unbind(-1)
    else:
        first, second = states[..., :turned].chunk(2, dim=-1)
    parts = [first * cos - second * sin, first * sin + second * cos]
    rotated = torch.stack(parts, dim=-1).flatten(-2) if node.attr("interleaved", 0) else torch.cat(parts, dim=-1)
    if turned < states.shape[-1]:
        rotated = torch.cat([rotated, states[..., turned:]], dim=-1)
    return rotated.transpose(1, 2).reshape(x.shape) if x.dim() == 3 else rotated


@operator("TensorScatter")
def tensor_scatter(node: Node, cache: Tensor, update: Tensor, start: Tensor | None = None) -> Tensor:
    """Writes a block into a cache, from an index of its own for every sample."""
    axis = node.attr("axis", -2) % cache.dim()
    indices = torch.arange(update.shape[axis], device=cache.device).reshape(-1, *(1,) * (cache.dim() - 1 - axis))
    if start is not None:
        indices = indices + start.reshape(-1, *(1,) * (cache.dim() - 1))
    if node.attr("mode", "linear") == "circular":
        indices = indices % cache.shape[axis]
    return torch.scatter(cache, axis, indices.expand(update.shape), update)
