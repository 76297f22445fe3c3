"""Matrix products: MatMul and Gemm. Not here: contractions by letters (``einsum``)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.ops.carriers import computed
from analyzer.importer.recorder import recorded
from analyzer.importer.table import operator


@operator("MatMul")
@computed
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """The product as numpy's ``matmul``; a factor that is one matrix gives a single ``mm``."""
    if a.dim() == 0 or b.dim() == 0:
        raise ValueError("a factor has no dimensions")
    left, right = a.dim() == 1, b.dim() == 1
    a = a.unsqueeze(0) if left else a
    b = b.unsqueeze(1) if right else b
    out = _product(a, b)
    if left and right:
        return out.reshape(out.shape[:-2])
    if left:
        return out.squeeze(-2)
    return out.squeeze(-1) if right else out


def _product(a: Tensor, b: Tensor) -> Tensor:
    if a.dim() == 2 and b.dim() == 2:
        return torch.mm(a, b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if _one_matrix(b):
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        out = torch.mm(rows, b.reshape(b.shape[-2:]))
        return out.reshape(*batch, a.shape[-2], b.shape[-1])
    if _one_matrix(a) and recorded(b) and not recorded(a):
        columns = b.transpose(-1, -2).reshape(-1 if b.numel() else math.prod(batch) * b.shape[-1], b.shape[-2])
        out = torch.mm(columns, a.reshape(a.shape[-2:]).t())
        return out.reshape(*batch, b.shape[-1], a.shape[-2]).transpose(-1, -2)
    return torch.matmul(a, b)


def _one_matrix(x: Tensor) -> bool:
    return math.prod(x.shape[:-2]) == 1


@operator("Gemm")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """``alpha * A' B' + beta * C`` as one ``addmm`` (``mm`` without C)."""
    alpha, beta = (_number(node.attr(name, 1.0)) for name in ("alpha", "beta"))
    a = a.t() if node.attr("transA", 0) else a
    b = b.t() if node.attr("transB", 0) else b
    if c is None or beta == 0:
        out = torch.mm(a, b)
        return out if alpha == 1 else out * alpha
    return torch.addmm(c, a, b, beta=beta, alpha=alpha)


def _number(value: float) -> float:
    """An int where the value is integral: torch wants ints beside integer matrices."""
    return int(value) if float(value).is_integer() else value
