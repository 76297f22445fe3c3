"""Comparisons, boolean logic, bits, and choosing by a condition."""

from __future__ import annotations

import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.ops.carriers import computed, ordered, rearranged, signed_bits
from analyzer.importer.ops.elementwise import aligned
from analyzer.importer.table import operator


@operator("Equal")
@ordered
def equal(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.eq(a, aligned(node, a, b))


@operator("Greater")
@ordered
def greater(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.gt(a, aligned(node, a, b))


@operator("GreaterOrEqual", since=12)
@ordered
def greater_or_equal(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.ge(a, b)


@operator("Less")
@ordered
def less(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.lt(a, aligned(node, a, b))


@operator("LessOrEqual", since=12)
@ordered
def less_or_equal(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.le(a, b)


@operator("And")
def logical_and(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.logical_and(a, aligned(node, a, b))


@operator("Or")
def logical_or(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.logical_or(a, aligned(node, a, b))


@operator("Xor")
def logical_xor(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.logical_xor(a, aligned(node, a, b))


@operator("Not")
def logical_not(node: Node, x: Tensor) -> Tensor:
    return torch.logical_not(x)


@operator("Where", since=9)
@rearranged
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


@operator("IsNaN", since=9)
def is_nan(node: Node, x: Tensor) -> Tensor:
    return torch.isnan(x)


@operator("IsInf", since=10)
def is_inf(node: Node, x: Tensor) -> Tensor:
    x = x.to(torch.float32) if x.dtype.itemsize == 1 else x
    positive, negative = bool(node.attr("detect_positive", 1)), bool(node.attr("detect_negative", 1))
    if positive and negative:
        return torch.isinf(x)
    if positive:
        return torch.isposinf(x)
    if negative:
        return torch.isneginf(x)
    return torch.zeros_like(x, dtype=torch.bool)


@operator("BitwiseAnd", since=18)
@computed
def bitwise_and(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.bitwise_and(a, b)


@operator("BitwiseOr", since=18)
@computed
def bitwise_or(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.bitwise_or(a, b)


@operator("BitwiseXor", since=18)
@computed
def bitwise_xor(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.bitwise_xor(a, b)


@operator("BitwiseNot", since=18)
@computed
def bitwise_not(node: Node, x: Tensor) -> Tensor:
    return torch.bitwise_not(x)


@operator("BitShift", since=11)
def bit_shift(node: Node, x: Tensor, by: Tensor) -> Tensor:
    """Shift by ``by`` bits; a signed right shift keeps the sign, out of range only the sign is left."""
    width = 8 * x.dtype.itemsize
    amount = signed_bits(by)
    outside = (amount < 0) | (amount >= width)
    amount = torch.where(outside, torch.zeros_like(amount), amount)
    bits = signed_bits(x)
    if node.required("direction") == "LEFT":
        out = torch.where(outside, torch.zeros_like(bits), torch.bitwise_left_shift(bits, amount))
        return out.view(x.dtype) if x.dtype == torch.uint64 else out.to(x.dtype)
    out = torch.bitwise_right_shift(bits, amount)
    if x.dtype == torch.uint64:  # the arithmetic shift has filled the top with the sign bit
        low = torch.bitwise_not(torch.bitwise_left_shift(torch.full_like(bits, -2), 63 - amount))
        out = torch.where(amount > 0, torch.bitwise_and(out, low), out)
    shifted_out = torch.bitwise_right_shift(bits, 63) if x.dtype.is_signed else torch.zeros_like(bits)
    out = torch.where(outside, shifted_out, out)
    return out.view(x.dtype) if x.dtype == torch.uint64 else out.to(x.dtype)
