"""ONNX's quantisation operators, of the standard domain and onnxruntime's versions of them.

Belongs here: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, and the standard's integer products and
convolutions. Not here: onnxruntime's further QLinear operators (``microsoft_quantized``) and what a quantised value is
(``analyzer.importer.quantized``).

A convolution or product of quantised values is the real one between dequantising and quantising: one ATen node on real
numbers, and one ``onnxplain::fake_quantize`` that rounds exactly as integer arithmetic does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from analyzer.importer import table
from analyzer.importer.graph import Node
from analyzer.importer.precision import current
from analyzer.importer.quantized import (
    Quantized,
    centre,
    dequantize,
    grid,
    kind_of,
    quantize,
)
from analyzer.importer.quantized_nodes import accepts_quantized
from analyzer.importer.straight_through import dynamic_range
from analyzer.importer.table import operator

MICROSOFT = "com.microsoft"
_DTYPES = {1: torch.float32, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}


def standard(op_type: str, version: int) -> Callable[..., Any]:
    """The table's function for a standard operator."""
    found = table.lookup("", op_type, version)
    if found is None:
        raise NotImplementedError(f"the operator table has no {op_type}")
    return found


def unit(*scales: Tensor) -> Tensor | None:
    """What one count of an integer accumulator is worth."""
    product: Tensor | None = None
    for scale in scales:
        product = scale if product is None else product * scale
    return product


@operator("QuantizeLinear", since=10)
@operator("QuantizeLinear", domain=MICROSOFT)
@accepts_quantized
def quantize_linear(node: Node, x: Tensor | Quantized, scale: Tensor, zero_point: Tensor | None = None) -> Quantized:
    if isinstance(x, Quantized):  # int32 accumulators
        x = x.levels()
    kind = kind_of(zero_point, node.attr("output_dtype", 0))
    axis, block = node.attr("axis", 1), node.attr("block_size", 0)
    if not x.is_floating_point():
        x = x.to(torch.promote_types(scale.dtype, torch.float32))
    return quantize(x, scale, zero_point, axis=axis, block=block, kind=kind)


@operator("DequantizeLinear", since=10)
@operator("DequantizeLinear", domain=MICROSOFT)
@accepts_quantized
def dequantize_linear(node: Node, x: Tensor | Quantized, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    real = dequantize(x, scale, zero_point, node.attr("axis", 1), node.attr("block_size", 0))
    return real.to(current(_DTYPES.get(node.attr("output_dtype", 0), real.dtype)))


@operator("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(node: Node, x: Tensor) -> tuple[Quantized, Tensor, Tensor]:
    scale, zero = dynamic_range(x)
    stored = zero.to(torch.uint8)
    value = quantize(x, scale, zero, kind="uint8")
    return Quantized(value.real, scale, zero, "uint8", (scale, stored)), scale, stored


@operator("QLinearConv", since=10)
@operator("QLinearConv", domain=MICROSOFT)
@accepts_quantized
def qlinear_conv(
    node: Node,
    x: Tensor | Quantized,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor | Quantized,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | Quantized | None = None,
) -> Quantized:
    last = bool(node.attr("channels_last", 0))
    real_x, real_w = dequantize(x, x_scale, x_zero), dequantize(w, w_scale, w_zero, axis=0)
    real_b = None if bias is None else dequantize(bias, x_scale * w_scale, None, axis=0)
    y = standard("Conv", 11)(node, real_x.movedim(-1, 1) if last else real_x, real_w, real_b)
    count, _ = grid(y.shape, x_scale * w_scale, None, axis=1)
    if last:
        y, count = y.movedim(1, -1), count.movedim(1, -1) if count.ndim else count
    return quantize(y, y_scale, y_zero, accumulator=count)


@operator("ConvInteger", since=10)
@accepts_quantized
def conv_integer(
    node: Node,
    x: Tensor | Quantized,
    w: Tensor | Quantized,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
) -> Quantized:
    real_x, x_unit = _factor(x, x_zero)
    real_w, w_unit = _factor(w, w_zero, axis=0)
    return _accumulated(standard("Conv", 11)(node, real_x, real_w), x_unit, w_unit)


@operator("QLinearMatMul", since=10)
@accepts_quantized
def qlinear_matmul(
    node: Node,
    a: Tensor | Quantized,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor | Quantized,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Quantized:
    y = standard("MatMul", 13)(node, dequantize(a, a_scale, a_zero, -2), dequantize(b, b_scale, b_zero, -1))
    count = None
    if a_scale.numel() == 1:
        count, _ = grid(y.shape, a_scale.reshape(()) * b_scale.flatten(), None, -1)
    return quantize(y, y_scale, y_zero, axis=-2, accumulator=count)


@operator("MatMulInteger", since=10)
@accepts_quantized
def matmul_integer(
    node: Node,
    a: Tensor | Quantized,
    b: Tensor | Quantized,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
) -> Quantized:
    real_a, a_unit = _factor(a, a_zero, axis=-2)
    real_b, b_unit = _factor(b, b_zero, axis=-1)
    return _accumulated(standard("MatMul", 13)(node, real_a, real_b), a_unit, b_unit)


def _factor(value: Tensor | Quantized, zero_point: Tensor | None, axis: int = 1) -> tuple[Tensor, Tensor | None]:
    """A factor of an integer product as real numbers, and what one count of it is worth."""
    if isinstance(value, Quantized):
        return value.centred(zero_point, axis), value.scale
    return centre(value, zero_point, axis=axis), None


def _accumulated(y: Tensor, *units: Tensor | None) -> Quantized:
    """Integer accumulators: real values in the product of the factors' units."""
    worth = unit(*(u for u in units if u is not None))
    worth = torch.ones((), dtype=y.dtype) if worth is None else worth
    return Quantized(y, worth, torch.zeros((), dtype=y.dtype), "int32")
