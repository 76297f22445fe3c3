"""Arithmetic and functions of one or several tensors, element by element.

Not here: comparisons and bits (``logic``), activation functions (``activation``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.ops.carriers import computed, ordered, to_ordered
from analyzer.importer.recorder import concrete, recorded
from analyzer.importer.table import operator

Unary = Callable[[Tensor], Tensor]


def _unary(op_type: str, function: Unary) -> None:
    @operator(op_type)
    def call(node: Node, x: Tensor) -> Tensor:
        return function(x)


for _name, _function in {
    "Sqrt": torch.sqrt,
    "Exp": torch.exp,
    "Log": torch.log,
    "Erf": torch.erf,
    "Ceil": torch.ceil,
    "Floor": torch.floor,
    "Round": torch.round,
    "Reciprocal": torch.reciprocal,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
}.items():
    _unary(_name, _function)


@operator("Neg")
def neg(node: Node, x: Tensor) -> Tensor:
    return torch.neg(x)


@operator("Abs")
def absolute(node: Node, x: Tensor) -> Tensor:
    return x if not x.dtype.is_signed else torch.abs(x)


@operator("Sign", since=9)
def sign(node: Node, x: Tensor) -> Tensor:
    return torch.sign(x) if x.dtype.is_signed else (x != 0).to(x.dtype)


def aligned(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """``b`` shaped for broadcasting; before opset 7 the attribute ``axis`` is where it starts."""
    axis = node.attr("axis")
    if node.version >= 7 or axis is None or not node.attr("broadcast", 0):
        return b
    axis += a.dim() if axis < 0 else 0
    return b.reshape(*b.shape, *(1,) * (a.dim() - axis - b.dim()))


@operator("Add")
@computed
def add(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.add(a, aligned(node, a, b))


@operator("Sub")
@computed
def sub(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.sub(a, aligned(node, a, b))


@operator("Mul")
@computed
def mul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.mul(a, aligned(node, a, b))


@operator("Div")
def div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    b = aligned(node, a, b)
    if a.dtype == torch.uint64:
        return _unsigned_division(a, b)[0]
    return _divide(node, a, b)


@computed
def _divide(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b) if a.dtype.is_floating_point else torch.div(a, b, rounding_mode="trunc")


def _unsigned_division(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of uint64 tensors, in int64 arithmetic (Hacker's Delight, 9-3)."""
    n, d = a.view(torch.int64), b.view(torch.int64)
    half = torch.bitwise_and(n >> 1, 2**63 - 1)
    safe = torch.where(d < 0, torch.ones_like(d), d)
    q = torch.div(half, safe, rounding_mode="trunc") << 1
    rest = n - q * safe
    over = (to_ordered(rest.view(torch.uint64)) >= to_ordered(safe.view(torch.uint64))).to(torch.int64)
    q, rest = q + over, rest - over * safe
    big = (to_ordered(a) >= to_ordered(b)).to(torch.int64)  # a divisor of 2**63 or more goes in once or not at all
    q, rest = torch.where(d < 0, big, q), torch.where(d < 0, n - big * d, rest)
    return q.view(torch.uint64), rest.view(torch.uint64)


@operator("Mod", since=10)
def mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if a.dtype == torch.uint64:
        return _unsigned_division(a, b)[1]
    return _remainder(node, a, b)


@computed
def _remainder(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.attr("fmod", 0) else torch.remainder(a, b)


@operator("Pow")
def power(node: Node, x: Tensor, exponent: Tensor) -> Tensor:
    """``x`` to the ``exponent``, in the type of ``x``; a constant single exponent is one scalar power."""
    exponent = aligned(node, x, exponent)
    if not x.dtype.is_floating_point:
        return torch.pow(x.to(torch.float64), exponent.to(torch.float64)).to(x.dtype)
    if exponent.numel() == 1 and exponent.dim() <= x.dim() and not recorded(exponent):
        scalar = float(concrete(exponent).reshape(()))
        return torch.pow(x, int(scalar) if scalar.is_integer() and math.isfinite(scalar) else scalar)
    return torch.pow(x, exponent.to(x.dtype))


@operator("Sum")
def total(node: Node, *inputs: Tensor) -> Tensor:
    return functools.reduce(torch.add, inputs)


@operator("Mean")
def mean(node: Node, *inputs: Tensor) -> Tensor:
    return torch.div(functools.reduce(torch.add, inputs), len(inputs))


@operator("Max")
@ordered
def maximum(node: Node, *inputs: Tensor) -> Tensor:
    return functools.reduce(torch.maximum, inputs)


@operator("Min")
@ordered
def minimum(node: Node, *inputs: Tensor) -> Tensor:
    return functools.reduce(torch.minimum, inputs)
