"""Clip: limits given as attributes (before opset 11) or as inputs.

Belongs here: Clip, which has more dtypes and forms than the other activation functions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from analyzer.importer.graph import Node
from analyzer.importer.recorder import concrete, recorded
from analyzer.importer.table import operator

#: Unsigned types that torch can't clamp, and a signed type that keeps their order after :func:`_signed`.
_SIGNED = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}


def _signed(value: Tensor, kind: torch.dtype) -> Tensor:
    """An unsigned tensor as signed integers in the same order."""
    wide = value.to(_SIGNED[kind])
    return wide ^ torch.iinfo(torch.int64).min if kind == torch.uint64 else wide


def _clip(x: Tensor, low: float | int | None, high: float | int | None) -> Tensor:
    if low is None and high is None:
        return x
    if low == 0 and high == 6 and x.is_floating_point():
        return functional.hardtanh(x, 0.0, 6.0)  # relu6 has a zero gradient at its edges, as in torch
    return torch.clamp(x, low, high)


@operator("Clip", since=1)
def clip_by_attributes(node: Node, x: Tensor) -> Tensor:
    low, high = node.attr("min"), node.attr("max")
    if x.is_floating_point():
        finfo = torch.finfo(torch.float32)
        low = None if low is not None and low <= finfo.min else low
        high = None if high is not None and high >= finfo.max else high
    return _clip(x, low, high)


@operator("Clip", since=11)
def clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if x.dtype in _SIGNED:
        limits = (None if v is None else _signed(v, x.dtype) for v in (low, high))
        out = torch.clamp(_signed(x, x.dtype), *limits)
        return (out ^ torch.iinfo(torch.int64).min if x.dtype == torch.uint64 else out).to(x.dtype)
    if recorded(low) or recorded(high):
        return torch.clamp(x, low, high)
    return _clip(x, *(None if v is None else concrete(v).reshape(()).item() for v in (low, high)))
