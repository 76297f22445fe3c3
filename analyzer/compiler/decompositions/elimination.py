"""Inverses of matrices by Gauss-Jordan elimination with row pivoting, written out step by step.

Belongs here: what ONNX has no solver for. Not here: products of matrices (``lowering.linear``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from analyzer.compiler.decompositions.table import decomposes

aten = torch.ops.aten
#: Every row is some ten operators.
MOST_ROWS = 64


@decomposes(aten.linalg_inv_ex.default)
def inverse(a: Tensor, *, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """The inverse, and zeros for what torch tells of singular matrices."""
    size = a.shape[-1]
    if size > MOST_ROWS:
        raise NotImplementedError(f"a matrix of {size} rows, more than {MOST_ROWS}, would be written out row by row")
    unit = torch.eye(size, dtype=a.dtype)
    rows = torch.arange(size)
    both = torch.cat([a, unit.expand(a.shape)], -1)
    for step in range(size):
        column = torch.where(rows < step, -1.0, torch.abs(both[..., step]))
        pivot = torch.argmax(column, -1, keepdim=True)
        here, there = (rows == step).unsqueeze(-1), (rows == pivot).unsqueeze(-1)
        chosen = torch.where(there, both, 0.0).sum(-2, keepdim=True)
        both = torch.where(here, chosen, torch.where(there, both[..., step : step + 1, :], both))
        chosen = chosen / chosen[..., step : step + 1]
        both = torch.where(here, chosen, both - both[..., step : step + 1] * chosen)
    return both[..., size:], torch.zeros(a.shape[:-2], dtype=torch.int32)
