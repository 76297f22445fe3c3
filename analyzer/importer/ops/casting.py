"""Conversion between element types: Cast, CastLike, BitCast, and what ONNX's type codes mean in torch.

Types of less than a byte live in a wider torch type: int4 and int2 as int8, uint4 and uint2 as uint8, the 4-
and 6-bit floats as float32 rounded to their grid.
"""

from __future__ import annotations

import torch
from onnx import TensorProto
from torch import Tensor

from analyzer.errors import UnsupportedError
from analyzer.importer.conversion import NARROW
from analyzer.importer.graph import Node
from analyzer.importer.precision import current
from analyzer.importer.quantized import ONNX_KINDS
from analyzer.importer.table import operator

DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.COMPLEX64: torch.complex64,
    TensorProto.COMPLEX128: torch.complex128,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    24: torch.float8_e8m0fnu,
}

#: Code -> (bits, signed) of the integers narrower than a byte: UINT4, INT4, UINT2, INT2.
_TINY_INTEGERS = {21: (4, False), 22: (4, True), 25: (2, False), 26: (2, True)}

#: Code -> (bits of mantissa, smallest normal exponent, largest value): FLOAT4E2M1, FLOAT6E2M3, FLOAT6E3M2.
_TINY_FLOATS = {23: (1, 0, 6.0), 27: (3, 0, 7.5), 28: (2, -2, 28.0)}


def torch_dtype(code: int, node: Node | None = None) -> torch.dtype:
    """The torch type that holds an ONNX element type.

    Raises
    ------
    UnsupportedError
        ``op.unsupported`` for text and for codes that nobody has defined.
    """
    if code in DTYPES:
        return DTYPES[code]
    if code in _TINY_INTEGERS:
        return torch.int8 if _TINY_INTEGERS[code][1] else torch.uint8
    if code in _TINY_FLOATS:
        return torch.float32
    where = f"{node}: " if node is not None else ""
    raise UnsupportedError(
        "op.unsupported",
        f"{where}element type {code} has no tensor in the trace",
        "use a perturbation method",
    )


def cast_to(x: Tensor, code: int, saturate: bool = True, round_mode: str = "up") -> Tensor:
    """A tensor's values in another ONNX element type."""
    dtype = torch_dtype(code)
    if code in _TINY_INTEGERS:
        narrow = _tiny_integer(x, *_TINY_INTEGERS[code]).to(dtype)
        setattr(narrow, NARROW, ONNX_KINDS[code])
        return narrow
    if code in _TINY_FLOATS:
        return _tiny_float(x.to(torch.float32), *_TINY_FLOATS[code])
    if dtype == torch.float8_e8m0fnu:
        return _power_of_two(x, saturate, round_mode)
    if dtype.is_floating_point and dtype.itemsize == 1:
        return _float8(x, dtype, saturate)
    return x.to(current(dtype))


def _float8(x: Tensor, dtype: torch.dtype, saturate: bool) -> Tensor:
    wide = x if x.dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16) else x.to(torch.float32)
    limit = torch.finfo(dtype).max
    if saturate:
        return wide.clamp(-limit, limit).to(dtype)
    if dtype == torch.float8_e5m2:
        return wide.to(dtype)
    # The other types have no infinity: beyond the last rounding boundary comes NaN, where torch may saturate.
    half_step = {torch.float8_e4m3fn: 16.0, torch.float8_e4m3fnuz: 8.0, torch.float8_e5m2fnuz: 4096.0}[dtype]
    beyond = (wide.abs() > limit + half_step) | (wide.abs() == limit + half_step) & (dtype != torch.float8_e4m3fn)
    return torch.where(beyond, torch.full_like(wide, torch.nan), wide).to(dtype)


def _power_of_two(x: Tensor, saturate: bool, round_mode: str) -> Tensor:
    """float8e8m0: an exponent only, 2**-127 to 2**127."""
    wide = x.to(torch.float64)
    mantissa, exponent = torch.frexp(wide)  # mantissa in [0.5, 1)
    low = exponent - 1
    if round_mode == "up":
        rounded = torch.where(mantissa > 0.5, low + 1, low)
    elif round_mode == "down":
        rounded = low
    else:
        rounded = torch.where(mantissa >= 0.75, low + 1, low)
    out = torch.ldexp(torch.ones_like(wide), rounded.clamp(-127, 127))
    biggest, smallest = 2.0**127, 2.0**-127
    if saturate:
        out = torch.where(wide == torch.inf, torch.full_like(out, biggest), out)
        out = torch.where(wide == 0, torch.full_like(out, smallest), out)
    else:
        out = torch.where((rounded > 127) | (rounded < -127) | (wide == 0), torch.full_like(out, torch.nan), out)
        out = torch.where(wide == torch.inf, torch.full_like(out, torch.nan), out)
    out = torch.where(wide.isnan(), wide, out)
    return out.to(torch.float32).to(torch.float8_e8m0fnu)


def _tiny_integer(x: Tensor, bits: int, signed: bool) -> Tensor:
    """Keep the lowest bits; floats are first rounded half away from zero, as onnxruntime does."""
    if x.dtype.is_floating_point:
        wide = x.to(torch.float64)
        x = torch.copysign(torch.floor(wide.abs() + 0.5), wide)
    low = -(1 << bits - 1) if signed else 0
    return torch.remainder(x.to(torch.int64) - low, 1 << bits) + low


def _tiny_float(x: Tensor, mantissa: int, lowest: int, limit: float) -> Tensor:
    """Round half to even on the grid of a small float; saturates, and makes NaN, which it lacks, a negative zero."""
    x = torch.where(x.isnan(), torch.full_like(x, -0.0), x)
    _, exponent = torch.frexp(x)
    step = torch.ldexp(torch.ones_like(x), (exponent - 1).clamp(min=lowest) - mantissa)
    return (torch.round(x / step) * step).clamp(-limit, limit)


@operator("Cast")
def cast(node: Node, x: Tensor) -> Tensor:
    to = node.required("to")
    if isinstance(to, str):  # opset 1 spells the type out
        to = TensorProto.DataType.Value(to.upper())
    torch_dtype(to, node)
    return cast_to(x, to, bool(node.attr("saturate", 1)), node.attr("round_mode", "up"))


@operator("CastLike", since=15)
def cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    kind = getattr(like, NARROW, None)
    if kind is not None:
        code = next(code for code, name in ONNX_KINDS.items() if name == kind)
    else:
        code = next(code for code, dtype in DTYPES.items() if dtype == like.dtype)
    return cast_to(x, code, bool(node.attr("saturate", 1)), node.attr("round_mode", "up"))


@operator("BitCast", since=26)
def bit_cast(node: Node, x: Tensor) -> Tensor:
    dtype = torch_dtype(node.required("to"), node)
    if dtype.itemsize != x.dtype.itemsize:
        raise ValueError(f"{x.dtype} and {dtype} have different widths")
    return x.view(dtype)
