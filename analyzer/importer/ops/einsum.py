"""Einsum and Det. A contraction of two operands is one matrix product, so that it is treated like one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.table import operator


@operator("Einsum", since=12)
def einsum(node: Node, *inputs: Tensor) -> Tensor:
    equation = str(node.required("equation")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    names = terms.split(",")
    if not arrow:
        letters = sorted(set(terms) - {",", "."})
        result = ("..." if "..." in terms else "") + "".join(c for c in letters if terms.count(c) == 1)
    plain = "." not in equation and all(len(set(name)) == len(name) for name in (*names, result))
    if len(inputs) == 2 and plain and _matched(names, inputs):
        return _contract(names[0], names[1], result, *inputs)
    return torch.einsum(f"{terms}->{result}", *inputs)


def _matched(names: Sequence[str], inputs: Sequence[Tensor]) -> bool:
    """Whether equal letters have equal sizes (no broadcasting of ones)."""
    sizes: dict[str, int] = {}
    for name, x in zip(names, inputs, strict=True):
        if len(name) != x.dim() or any(sizes.setdefault(c, n) != n for c, n in zip(name, x.shape, strict=True)):
            return False
    return True


def _contract(left: str, right: str, result: str, a: Tensor, b: Tensor) -> Tensor:
    """``mm`` where no letter is in both operands and the result, else ``bmm``."""
    sizes = dict(zip(left + right, a.shape + b.shape, strict=True))
    a, left = _summed(a, left, right + result)
    b, right = _summed(b, right, left + result)
    batch = [c for c in left if c in right and c in result]
    shared = [c for c in left if c in right and c not in result]
    rows, columns = [c for c in left if c not in right], [c for c in right if c not in left]

    def size(letters: Sequence[str]) -> int:
        return math.prod(sizes[c] for c in letters)

    a = torch.permute(a, [left.index(c) for c in (*batch, *rows, *shared)])
    b = torch.permute(b, [right.index(c) for c in (*batch, *shared, *columns)])
    a = a.reshape(size(batch), size(rows), size(shared))
    b = b.reshape(size(batch), size(shared), size(columns))
    out = torch.bmm(a, b) if batch else torch.mm(a.squeeze(0), b.squeeze(0))
    order = [*batch, *rows, *columns]
    return torch.permute(out.reshape([sizes[c] for c in order]), [order.index(c) for c in result])


def _summed(x: Tensor, name: str, remaining: str) -> tuple[Tensor, str]:
    """Sum over the letters that nobody else has."""
    summed_axes = [i for i, c in enumerate(name) if c not in remaining]
    if not summed_axes:
        return x, name
    return torch.sum(x, summed_axes, dtype=x.dtype), "".join(c for c in name if c in remaining)


@operator("Det", since=11)
def det(node: Node, x: Tensor) -> Tensor:
    wide = x.to(torch.float32) if x.dtype in (torch.float16, torch.bfloat16) else x
    out: Tensor = torch.linalg.det(wide)
    return out.to(x.dtype)
