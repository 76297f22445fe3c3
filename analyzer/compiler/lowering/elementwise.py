"""Elementwise ATen operators in ONNX.

Belongs here: arithmetic, comparisons, activations, selection, element types. Not here: views (``shape``), sums and matrix
products (``linear``).
"""

from __future__ import annotations

from typing import Any

import torch

from analyzer.compiler.ir import Result, Value
from analyzer.compiler.lowering.emitter import Emitter
from analyzer.compiler.lowering.table import LOWERINGS, lowers

aten, prims = torch.ops.aten, torch.ops.prims

_UNARY = {
    aten.relu.default: "Relu", aten.neg.default: "Neg", aten.exp.default: "Exp", aten.log.default: "Log",
    aten.sqrt.default: "Sqrt", aten.sigmoid.default: "Sigmoid", aten.tanh.default: "Tanh", aten.erf.default: "Erf",
    aten.abs.default: "Abs", aten.sign.default: "Sign", aten.floor.default: "Floor", aten.ceil.default: "Ceil",
    aten.round.default: "Round", aten.reciprocal.default: "Reciprocal", aten.sin.default: "Sin",
    aten.cos.default: "Cos", aten.tan.default: "Tan", aten.atan.default: "Atan", aten.asin.default: "Asin",
    aten.acos.default: "Acos", aten.sinh.default: "Sinh", aten.cosh.default: "Cosh", aten.isnan.default: "IsNaN",
    aten.isinf.default: "IsInf", aten.asinh.default: "Asinh", aten.acosh.default: "Acosh", aten.atanh.default: "Atanh",
}  # fmt: skip
_BINARY = {
    aten.mul.Tensor: "Mul", aten.mul.Scalar: "Mul", aten.div.Tensor: "Div", aten.div.Scalar: "Div",
    aten.maximum.default: "Max", aten.minimum.default: "Min", aten.pow.Tensor_Scalar: "Pow",
    aten.pow.Tensor_Tensor: "Pow", aten.pow.Scalar: "Pow",
}  # fmt: skip
_COMPARING = {
    aten.ge.Scalar: "GreaterOrEqual", aten.ge.Tensor: "GreaterOrEqual", aten.gt.Scalar: "Greater",
    aten.gt.Tensor: "Greater", aten.le.Scalar: "LessOrEqual", aten.le.Tensor: "LessOrEqual",
    aten.lt.Scalar: "Less", aten.lt.Tensor: "Less", aten.eq.Scalar: "Equal", aten.eq.Tensor: "Equal",
}  # fmt: skip
_BOOLEAN = {
    aten.logical_and.default: "And", aten.logical_or.default: "Or", aten.logical_xor.default: "Xor",
    aten.bitwise_and.Tensor: "And", aten.bitwise_or.Tensor: "Or", aten.bitwise_xor.Tensor: "Xor",
}  # fmt: skip


#: torch's definitions of operators by simpler ones end in these.
_PRIMITIVE = {
    getattr(prims, name).default: getattr(getattr(aten, name), overload)
    for overload, names in {
        "default": "abs acos acosh asin asinh atan atanh ceil cos cosh erf exp floor log maximum minimum neg reciprocal "
        "round sign sin sinh sqrt tan tanh",
        "Tensor": "mul eq ge gt le lt bitwise_and bitwise_or bitwise_xor",
        "Tensor_Tensor": "pow",
    }.items()
    for name in names.split()
}


def _register() -> None:
    for target, kind in _UNARY.items():
        lowers(target)(_unary(kind))
    for target, kind in _BINARY.items():
        lowers(target)(_binary(kind))
    for target, kind in _COMPARING.items():
        lowers(target)(_comparing(kind))
    for target, kind in _BOOLEAN.items():
        lowers(target)(_boolean(kind))


def _unary(kind: str) -> Any:
    def write(w: Emitter, result: Result, x: Value) -> str:
        return w.op(kind, x.name if result.dtype == torch.bool else w.of(x, result.dtype))

    return write


def _binary(kind: str) -> Any:
    def write(w: Emitter, result: Result, a: Any, b: Any) -> str:
        a, b = w.narrowed(result, a, b)
        if result.dtype == torch.bool:
            return w.op({"Mul": "And", "Min": "And", "Max": "Or"}[kind], w.of(a, torch.bool), w.of(b, torch.bool))
        return w.op(kind, w.of(a, result.dtype), w.of(b, result.dtype))

    return write


def _common(a: Any, b: Any) -> torch.dtype:
    if isinstance(a, Value) and isinstance(b, Value):
        return torch.promote_types(a.dtype, b.dtype)
    value, number = (a, b) if isinstance(a, Value) else (b, a)
    floating = isinstance(number, float) and not value.dtype.is_floating_point
    return torch.float32 if floating else torch.int64 if value.dtype == torch.bool else value.dtype


def _comparing(kind: str) -> Any:
    def write(w: Emitter, result: Result, a: Any, b: Any) -> str:
        common = _common(a, b)
        a, b = w.narrowed(result, a, b)
        return w.op(kind, w.of(a, common), w.of(b, common))

    return write


def _boolean(kind: str) -> Any:
    def write(w: Emitter, result: Result, a: Any, b: Any) -> str:
        if result.dtype != torch.bool:
            return w.op(f"Bitwise{kind}", w.of(a, result.dtype), w.of(b, result.dtype))
        return w.op(kind, w.of(a, torch.bool), w.of(b, torch.bool))

    return write


_register()
for _primitive, _known in _PRIMITIVE.items():
    lowers(_primitive)(LOWERINGS[_known])


@lowers(aten.ne.Scalar, aten.ne.Tensor, prims.ne.default)
def not_equal(w: Emitter, result: Result, a: Any, b: Any) -> str:
    """a != b."""
    common = _common(a, b)
    return w.op("Not", w.op("Equal", w.of(a, common), w.of(b, common)))


@lowers(aten.logical_not.default, aten.bitwise_not.default, prims.bitwise_not.default)
def negated(w: Emitter, result: Result, x: Value) -> str:
    """Not, of truth values or of bits."""
    if result.dtype != torch.bool:
        return w.op("BitwiseNot", x.name)
    return w.op("Not", w.of(x, torch.bool))


@lowers(aten.rsqrt.default, prims.rsqrt.default)
def rsqrt(w: Emitter, result: Result, x: Value) -> str:
    """1 / sqrt(x)."""
    return w.op("Reciprocal", w.op("Sqrt", x.name))


def _scaled(w: Emitter, value: Any, alpha: Any, dtype: torch.dtype) -> str:
    name = w.of(value, dtype)
    return name if alpha == 1 else w.op("Mul", name, w.scalar(alpha, dtype))


@lowers(aten.add.Tensor, aten.add.Scalar, prims.add.default)
def add(w: Emitter, result: Result, a: Any, b: Any, alpha: Any = 1) -> str:
    """a + alpha b."""
    a, b = w.narrowed(result, a, b)
    return w.op("Add", w.of(a, result.dtype), _scaled(w, b, alpha, result.dtype))


@lowers(aten.sub.Tensor, aten.sub.Scalar, prims.sub.default)
def sub(w: Emitter, result: Result, a: Any, b: Any, alpha: Any = 1) -> str:
    """a - alpha b."""
    a, b = w.narrowed(result, a, b)
    return w.op("Sub", w.of(a, result.dtype), _scaled(w, b, alpha, result.dtype))


@lowers(aten.rsub.Tensor, aten.rsub.Scalar)
def rsub(w: Emitter, result: Result, a: Any, b: Any, alpha: Any = 1) -> str:
    """b - alpha a."""
    a, b = w.narrowed(result, a, b)
    return w.op("Sub", w.of(b, result.dtype), _scaled(w, a, alpha, result.dtype))


@lowers(aten.remainder.Scalar, aten.remainder.Tensor)
def remainder(w: Emitter, result: Result, a: Any, b: Any) -> str:
    """Remainder with the divisor's sign."""
    x, y = w.of(a, result.dtype), w.of(b, result.dtype)
    if not result.dtype.is_floating_point:
        return w.op("Mod", x, y)
    return w.op("Sub", x, w.op("Mul", y, w.op("Floor", w.op("Div", x, y))))


@lowers(prims.div.default)
def div(w: Emitter, result: Result, a: Any, b: Any) -> str:
    """A quotient; of integers the whole part, towards zero, as ONNX divides them."""
    return w.op("Div", w.of(a, result.dtype), w.of(b, result.dtype))


@lowers(aten.div.Tensor_mode, aten.div.Scalar_mode)
def div_rounded(w: Emitter, result: Result, a: Any, b: Any, rounding_mode: str | None = None) -> str:
    """A quotient rounded down or towards zero."""
    x, y = w.of(a, result.dtype), w.of(b, result.dtype)
    if result.dtype.is_floating_point:
        quotient = w.op("Div", x, y)
        return {None: quotient, "floor": w.op("Floor", quotient), "trunc": _whole(w, quotient)}[rounding_mode]
    return w.op("Div", w.op("Sub", x, w.op("Mod", x, y)) if rounding_mode == "floor" else x, y)


@lowers(aten.trunc.default, prims.trunc.default)
def trunc(w: Emitter, result: Result, x: Value) -> str:
    """The whole part."""
    return _whole(w, x.name)


def _whole(w: Emitter, name: str) -> str:
    return w.op("Mul", w.op("Sign", name), w.op("Floor", w.op("Abs", name)))


@lowers(aten.fmod.Tensor, aten.fmod.Scalar, prims.fmod.default)
def fmod(w: Emitter, result: Result, a: Any, b: Any) -> str:
    """Remainder with the dividend's sign."""
    return w.op("Mod", w.of(a, result.dtype), w.of(b, result.dtype), fmod=1)


@lowers(prims.where.default, aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar)
def where(w: Emitter, result: Result, condition: Value, a: Any, b: Any) -> str:
    """a where the condition holds, else b."""
    condition, a, b = w.narrowed(result, condition, a, b)
    return _chosen(w, w.of(condition, torch.bool), w.of(a, result.dtype), w.of(b, result.dtype), result.dtype)


def _chosen(w: Emitter, condition: str, a: str, b: str, dtype: torch.dtype) -> str:
    """One of two where a condition holds; onnxruntime chooses no truth values."""
    if dtype != torch.bool:
        return w.op("Where", condition, a, b)
    return w.op("Or", w.op("And", condition, a), w.op("And", w.op("Not", condition), b))


@lowers(aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def masked_fill(w: Emitter, result: Result, x: Value, mask: Value, value: Any) -> str:
    """A number where the mask holds."""
    return _chosen(w, w.of(mask, torch.bool), w.of(value, result.dtype), x.name, result.dtype)


@lowers(aten.clamp.default, aten.clamp.Tensor)
def clamp(w: Emitter, result: Result, x: Value, low: Any = None, high: Any = None) -> str:
    """x between two bounds."""
    return _bounded(w, result, x, low, high)


def _bounded(w: Emitter, result: Result, x: Value, low: Any, high: Any) -> str:
    name = w.of(x, result.dtype)
    if low is not None:
        name = w.op("Max", name, w.of(low, result.dtype))
    return name if high is None else w.op("Min", name, w.of(high, result.dtype))


@lowers(aten.clamp_min.default, aten.clamp_min.Tensor)
def clamp_min(w: Emitter, result: Result, x: Value, low: Any) -> str:
    """x, at least a bound."""
    return _bounded(w, result, x, low, None)


@lowers(aten.clamp_max.default, aten.clamp_max.Tensor)
def clamp_max(w: Emitter, result: Result, x: Value, high: Any) -> str:
    """x, at most a bound."""
    return _bounded(w, result, x, None, high)


@lowers(aten.hardtanh.default)
def hardtanh(w: Emitter, result: Result, x: Value, low: float = -1.0, high: float = 1.0) -> str:
    """x between two bounds."""
    return _bounded(w, result, x, low, high)


@lowers(aten.threshold_backward.default)
def threshold_backward(w: Emitter, result: Result, grad: Value, x: Value, threshold: float) -> str:
    """The gradient where x is above the threshold."""
    mask = w.op("Greater", x.name, w.scalar(threshold, x.dtype))
    return w.op("Where", mask, grad.name, w.scalar(0, grad.dtype))


@lowers(aten._to_copy.default, prims.convert_element_type.default)
def convert(w: Emitter, result: Result, x: Value, *_: Any, **__: Any) -> str:
    """Another element type."""
    return w.of(x, result.dtype)


@lowers(aten.clone.default, aten.alias.default, aten.detach.default, aten.contiguous.default,
        aten.lift_fresh_copy.default)  # fmt: skip
def same(w: Emitter, result: Result, x: Value, **_: Any) -> str:
    """The value itself."""
    return x.name
