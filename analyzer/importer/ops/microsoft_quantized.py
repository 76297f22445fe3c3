"""Quantised operators of onnxruntime's own domain, which its quantiser and its optimiser write.

Belongs here: QLinear operators, QGemm and the dynamically quantised products. Not here: the standard's
quantised operators (``quantization``) and float fusions (``microsoft_fused``).

Each is the standard operator on real numbers between dequantising and quantising.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.ops.quantization import MICROSOFT, standard
from analyzer.importer.ops.recurrent import run_lstm
from analyzer.importer.precision import single
from analyzer.importer.quantized import Quantized, dequantize, grid, quantize
from analyzer.importer.quantized_nodes import accepts_quantized
from analyzer.importer.straight_through import dynamic_range, fake_quantize
from analyzer.importer.table import operator

Value = Tensor | Quantized


@operator("QLinearAdd", domain=MICROSOFT)
@accepts_quantized
def qlinear_add(
    node: Node,
    a: Value,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Value,
    b_scale: Tensor,
    b_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Quantized:
    y = dequantize(a, a_scale, a_zero) + dequantize(b, b_scale, b_zero)
    return quantize(y, y_scale, y_zero, kind=_kind(a, y_zero))


@operator("QLinearMul", domain=MICROSOFT)
@accepts_quantized
def qlinear_mul(
    node: Node,
    a: Value,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Value,
    b_scale: Tensor,
    b_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Quantized:
    y = dequantize(a, a_scale, a_zero) * dequantize(b, b_scale, b_zero)
    return quantize(y, y_scale, y_zero, kind=_kind(a, y_zero), accumulator=a_scale * b_scale)


@operator("QLinearSigmoid", domain=MICROSOFT)
@accepts_quantized
def qlinear_sigmoid(
    node: Node,
    x: Value,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Quantized:
    return quantize(torch.sigmoid(dequantize(x, x_scale, x_zero)), y_scale, y_zero, kind=_kind(x, y_zero))


@operator("QLinearLeakyRelu", domain=MICROSOFT)
@accepts_quantized
def qlinear_leaky_relu(
    node: Node,
    x: Value,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Quantized:
    y = torch.nn.functional.leaky_relu(dequantize(x, x_scale, x_zero), node.attr("alpha", 0.01))
    return quantize(y, y_scale, y_zero, kind=_kind(x, y_zero))


@operator("QLinearSoftmax", domain=MICROSOFT)
@accepts_quantized
def qlinear_softmax(
    node: Node,
    x: Value,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Quantized:
    y = standard("Softmax", int(node.required("opset")))(node, dequantize(x, x_scale, x_zero))
    y = y * (torch.floor(1.0 / y_scale) * y_scale)  # the runtime uses an integral number of steps per unit
    return quantize(y, y_scale, y_zero, kind=_kind(x, y_zero))


@operator("QLinearAveragePool", domain=MICROSOFT)
@accepts_quantized
def qlinear_average_pool(
    node: Node,
    x: Value,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Quantized:
    real = dequantize(x, x_scale, x_zero)
    if node.attr("channels_last", 0):
        y = standard("AveragePool", 11)(node, real.movedim(-1, 1)).movedim(1, -1)
    else:
        y = standard("AveragePool", 11)(node, real)
    return quantize(y, y_scale, y_zero, kind=_kind(x, y_zero))


@operator("QLinearGlobalAveragePool", domain=MICROSOFT)
@accepts_quantized
def qlinear_global_average_pool(
    node: Node, x: Value, x_scale: Tensor, x_zero: Tensor, y_scale: Tensor, y_zero: Tensor
) -> Quantized:
    real = dequantize(x, x_scale, x_zero)
    if node.attr("channels_last", 0):
        y = standard("GlobalAveragePool", 1)(node, real.movedim(-1, 1)).movedim(1, -1)
    else:
        y = standard("GlobalAveragePool", 1)(node, real)
    return quantize(y, y_scale, y_zero)


@operator("QLinearReduceMean", domain=MICROSOFT)
@accepts_quantized
def qlinear_reduce_mean(
    node: Node,
    x: Value,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Quantized:
    y = standard("ReduceMean", 13)(node, dequantize(x, x_scale, x_zero))
    return quantize(y, y_scale, y_zero, kind=_kind(x, y_zero))


@operator("QLinearConcat", domain=MICROSOFT)
@accepts_quantized
def qlinear_concat(node: Node, y_scale: Tensor, y_zero: Tensor, *parts: Value) -> Quantized:
    """Parts come as triples of value, scale and zero point."""
    if len(parts) % 3:
        raise InputError(
            "op.bad_attribute",
            f"{node}: {len(parts)} inputs are no triples of value, scale, zero point",
            "re-export it",
        )
    real = [
        dequantize(value, scale, zero)
        for value, scale, zero in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        if isinstance(scale, Tensor) and (zero is None or isinstance(zero, Tensor))
    ]
    return quantize(torch.cat(real, node.required("axis")), y_scale, y_zero)


@operator("QLinearWhere", domain=MICROSOFT)
@accepts_quantized
def qlinear_where(
    node: Node,
    condition: Tensor,
    a: Value,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Value,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Quantized:
    chosen = torch.where(condition, dequantize(a, a_scale, a_zero), dequantize(b, b_scale, b_zero))
    return quantize(chosen, y_scale, y_zero)


@operator("QGemm", domain=MICROSOFT)
@accepts_quantized
def qgemm(
    node: Node,
    a: Value,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Value,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Value | None = None,
    y_scale: Tensor | None = None,
    y_zero: Tensor | None = None,
) -> Value:
    """Gemm; without an output scale its result is a plain floating tensor."""
    columns = 0 if node.attr("transB", 0) else 1
    count = a_scale.reshape(()) * b_scale.flatten() * node.attr("alpha", 1.0)
    bias = None if c is None else dequantize(c, count, None, axis=-1)
    left, right = dequantize(a, a_scale, a_zero), dequantize(b, b_scale, b_zero, axis=columns)
    y: Tensor = standard("Gemm", 13)(node, left, right, bias)
    if y_scale is None:
        return y
    return quantize(y, y_scale, y_zero, accumulator=grid(y.shape, count, None, axis=-1)[0])


@operator("DynamicQuantizeMatMul", domain=MICROSOFT)
@accepts_quantized
def dynamic_quantize_matmul(
    node: Node,
    a: Tensor,
    b: Value,
    b_scale: Tensor,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """A product whose left factor is quantised to uint8 as it comes."""
    return _product(node, round_dynamically(a), dequantize(b, b_scale, b_zero, axis=-1), bias)


@operator("MatMulIntegerToFloat", domain=MICROSOFT)
@accepts_quantized
def matmul_integer_to_float(
    node: Node,
    a: Value,
    b: Value,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    left, right = dequantize(a, a_scale, a_zero, axis=-2), dequantize(b, b_scale, b_zero, axis=-1)
    return _product(node, left, right, bias)


@operator("DynamicQuantizeLSTM", domain=MICROSOFT)
def dynamic_quantize_lstm(
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    h: Tensor | None,
    c: Tensor | None,
    p: Tensor | None,
    w_scale: Tensor,
    w_zero: Tensor,
    r_scale: Tensor,
    r_zero: Tensor,
) -> tuple[Tensor, ...]:
    """LSTM with quantised weights (directions, inputs, gates) whose factors are quantised as they come."""
    weights = [
        torch.stack([dequantize(v[d], s[d], z[d], axis=-1) for d in range(v.shape[0])]).transpose(1, 2)
        for v, s, z in ((w, w_scale, w_zero), (r, r_scale, r_zero))
    ]
    return run_lstm(node, x, weights[0], weights[1], b, lengths, (h, c), p, _round_factor)


@operator("MatMulNBits", domain=MICROSOFT)
def matmul_nbits(
    node: Node,
    a: Tensor,
    packed: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    order: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """A product with weights of 2, 4 or 8 bits, quantised in blocks along the input features."""
    inputs, outputs = int(node.required("K")), int(node.required("N"))
    bits, block = int(node.attr("bits", 4)), int(node.required("block_size"))
    blocks = -(-inputs // block)
    levels = _unpacked(packed.reshape(outputs, -1), bits).reshape(outputs, blocks, block)
    scales = scales.reshape(outputs, blocks)
    if zero_points is None:
        zero = torch.full((outputs, blocks), float(2 ** (bits - 1)))
    elif zero_points.is_floating_point():
        zero = zero_points.reshape(outputs, blocks).to(torch.float32)
    else:
        zero = _unpacked(zero_points.reshape(outputs, -1), bits)[:, :blocks]
    weight = (levels - zero.unsqueeze(-1)) * scales.to(single()).unsqueeze(-1)
    weight = weight.reshape(outputs, -1)[:, :inputs]
    if order is not None and order.numel():
        raise InputError("op.unsupported", f"{node}: reordered groups (g_idx) are not supported", "re-export it")
    return _product(node, a, weight.t().to(a.dtype), bias)


def _unpacked(packed: Tensor, bits: int) -> Tensor:
    """Numbers of a few bits, the lowest first in each byte, as float32."""
    shifts = torch.arange(0, 8, bits)
    numbers: Tensor = (packed.to(torch.int64).unsqueeze(-1) >> shifts) & (2**bits - 1)
    return numbers.flatten(-2).to(torch.float32)


def round_dynamically(x: Tensor, rows: bool = False) -> Tensor:
    """Real values as they are after quantising to uint8 by their own range, or each row by its own."""
    scale, zero = dynamic_range(x, rows)
    real: Tensor = fake_quantize(x, scale, zero, 0.0, 255.0, "uint8")
    return real


def _round_factor(x: Tensor) -> Tensor:
    """A recurrent layer's factors: the input (steps, samples, features) together, a state sample by sample.

    onnxruntime takes as many samples of a state together as a thread gets; one by one a sample's result depends
    on no other.
    """
    return round_dynamically(x, rows=x.ndim == 2)


def _product(node: Node, a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = standard("MatMul", 13)(node, a, b)
    return y if bias is None else y + bias


def _kind(x: Value, zero_point: Tensor | None) -> str:
    """The stored type of a result: its zero point's, else its operand's."""
    if zero_point is not None:
        return ""
    return x.kind if isinstance(x, Quantized) else str(x.dtype).removeprefix("torch.")
