"""Recurrent attention of state-space language models: LinearAttention and the convolution before it.

Belongs here: operators that carry a state from token to token, written out token by token. Not here: softmax
attention (``attention``).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.ops.normalization import at_least_float32
from analyzer.importer.table import operator

aten = torch.ops.aten


@operator("CausalConvWithState")
def causal_conv_with_state(
    node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None, past: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A depthwise convolution that sees this and earlier positions only; shapes (batch, channels, length)."""
    reach = weight.shape[-1] - 1
    before = functional.pad(x, (reach, 0)) if past is None else torch.cat([past.to(x.dtype), x], dim=-1)
    out: Tensor = aten.convolution(before, weight, bias, [1], [0], [1], False, [0], x.shape[1])
    activation = node.attr("activation", "none")
    if activation in ("silu", "swish"):
        out = functional.silu(out)
    elif activation != "none":
        raise InputError("op.bad_attribute", f"{node}: unknown activation {activation!r}", "re-export the model")
    return out, before.narrow(-1, before.shape[-1] - reach, reach)


@operator("LinearAttention")
def linear_attention(
    node: Node,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The recurrence S = decay * S + k v^T (or its delta-rule form), read by q, token by token.

    Inputs are (batch, tokens, heads * size); the state is (batch, key heads, key size, value size).
    """
    rule = node.attr("update_rule", "gated_delta")
    if rule not in ("linear", "gated", "delta", "gated_delta"):
        raise InputError("op.bad_attribute", f"{node}: unknown update_rule {rule!r}", "re-export the model")
    batch, tokens = query.shape[:2]
    heads, groups = node.required("q_num_heads"), node.required("kv_num_heads")

    def split(x: Tensor, parts: int) -> Tensor:
        return at_least_float32(x).reshape(batch, tokens, parts, -1)

    q, k, v = split(query, heads), split(key, groups), split(value, groups)
    factor = float(node.attr("scale", 0.0)) or 1 / math.sqrt(q.shape[-1])
    if past is None:
        state = torch.zeros(batch, groups, k.shape[-1], v.shape[-1], dtype=q.dtype, device=q.device)
    else:
        state = past.to(q.dtype)
    gates = torch.exp(split(decay, groups)) if decay is not None and "gated" in rule else None
    rates = at_least_float32(beta) if beta is not None and "delta" in rule else None
    outputs = []
    for token in range(tokens):
        if gates is not None:
            state = state * gates[:, token, :, :, None]
        added = v[:, token]
        if "delta" in rule:
            added = added - torch.matmul(k[:, token, :, None], state).squeeze(2)
            added = added if rates is None else added * rates[:, token, :, None]
        state = state + k[:, token, :, :, None] * added[:, :, None]
        shared = state.repeat_interleave(heads // groups, dim=1) if heads != groups else state
        outputs.append(torch.matmul(q[:, token, :, None] * factor, shared).squeeze(2))
    out = torch.stack(outputs, dim=1).reshape(batch, tokens, -1).to(query.dtype)
    return out, state.to(query.dtype if past is None else past.dtype)
