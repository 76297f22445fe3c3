"""Quantised values inside a trace: real numbers with the grid on which they lie.

Belongs here: the value type, and quantising and dequantising it. Not here: running nodes that know only tensors on it
(``quantized_nodes``), the ONNX operators (``ops/quantization``, ``ops/microsoft_quantized``) and the rounding itself
(``straight_through``).

A quantised network is explained as it is deployed, as the real-valued network that it approximates. Between
QuantizeLinear and the operators that consume it a value is therefore kept as the real number it stands for, on
its grid; stored integers are made only for a model output or an operator that asks for them. Quantised weights
stay integer tensors: they don't depend on the input, so dequantising them happens outside the trace.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer.conversion import NARROW
from analyzer.importer.recorder import recorded
from analyzer.importer.straight_through import FLOAT8_MAX, fake_quantize

#: Stored type -> smallest and largest number, and the torch type that holds it.
KINDS: dict[str, tuple[float, float, torch.dtype]] = {
    "uint8": (0, 255, torch.uint8),
    "int8": (-128, 127, torch.int8),
    "uint16": (0, 65535, torch.uint16),
    "int16": (-32768, 32767, torch.int16),
    "int32": (-(2**31), 2**31 - 1, torch.int32),
    "int64": (-(2**63), 2**63 - 1, torch.int64),
    "uint4": (0, 15, torch.uint8),
    "int4": (-8, 7, torch.int8),
    "uint2": (0, 3, torch.uint8),
    "int2": (-2, 1, torch.int8),
} | {name: (-top, top, getattr(torch, name)) for name, top in FLOAT8_MAX.items()}

#: ONNX's numbers for stored types.
ONNX_KINDS = {
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    25: "uint2",
    26: "int2",
}


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantised tensor inside a trace.

    Attributes
    ----------
    real
        The values it stands for, floating.
    scale, zero_point
        Floating tensors that broadcast against ``real``: stored number = real / scale + zero_point.
    kind
        Stored type, a key of :data:`KINDS`.
    source
        The scale and zero point as the model has them; the same tensors again mean the same grid.
    """

    real: Tensor
    scale: Tensor
    zero_point: Tensor
    kind: str
    source: tuple[Tensor | None, Tensor | None] = (None, None)

    @property
    def shape(self) -> torch.Size:
        """Shape of the values."""
        return self.real.shape

    @property
    def per_tensor(self) -> bool:
        """Whether one scale and zero point hold for all values."""
        return self.scale.numel() == 1 and self.zero_point.numel() == 1

    def levels(self) -> Tensor:
        """The stored numbers as floating values: integers, and gradients pass through."""
        levels: Tensor = self.real / self.scale
        if self.kind in FLOAT8_MAX:
            return levels + self.zero_point
        one = torch.ones((), dtype=levels.dtype)
        levels = fake_quantize(levels, one, torch.zeros_like(one), -math.inf, math.inf, self.kind)
        return levels if _is_zero(self.zero_point) else levels + self.zero_point

    def integer(self) -> Tensor:
        """The stored numbers in the stored type; no gradient passes."""
        low, high, dtype = KINDS[self.kind]
        wide = torch.promote_types(self.real.dtype, torch.float32)
        raw = self.real.to(wide) / self.scale.to(wide)
        if self.kind in FLOAT8_MAX:
            return torch.clamp(raw, low, high).to(dtype)
        stored = (torch.round(raw) + self.zero_point.to(wide)).to(torch.int64)
        return stored.to(dtype)

    def on(self, scale: Tensor, zero_point: Tensor | None, axis: int = 1, block: int = 0) -> Tensor:
        """The real values that the stored numbers have on another grid; on its own grid simply :attr:`real`."""
        if self._is_grid(scale, zero_point, axis, block):
            return self.real
        other, zero = grid(self.real.shape, scale, zero_point, axis, block)
        return (self.levels() - zero) * other

    def centred(self, zero_point: Tensor | None, axis: int = 1) -> Tensor:
        """Real values, shifted where the operator's zero point isn't the value's own."""
        if zero_point is self.source[1]:
            return self.real
        _, zero = grid(self.real.shape, self.scale.reshape(-1), zero_point, axis)
        if not recorded(zero) and not recorded(self.zero_point) and bool((zero == self.zero_point).all()):
            return self.real
        return self.real + (self.zero_point - zero) * self.scale

    def _is_grid(self, scale: Tensor, zero_point: Tensor | None, axis: int, block: int) -> bool:
        if self.per_tensor and scale is self.source[0] and zero_point is self.source[1]:
            return True
        other, zero = grid(self.real.shape, scale, zero_point, axis, block)
        return same(self.scale, other) and same(self.zero_point, zero)


def same(a: Tensor, b: Tensor) -> bool:
    if recorded(a) or recorded(b):
        return False
    if a.numel() == 1 and b.numel() == 1:
        a, b = a.reshape(()), b.reshape(())
    return a.shape == b.shape and torch.equal(a, b.to(a.dtype))


def _is_zero(zero_point: Tensor) -> bool:
    return not recorded(zero_point) and not bool(zero_point.any())


def kind_of(zero_point: Tensor | None, given: int = 0) -> str:
    """The stored type that a zero point or an ``output_dtype`` attribute names."""
    if zero_point is None:
        return ONNX_KINDS.get(given, "uint8") if given else "uint8"
    narrow = getattr(zero_point, NARROW, None)
    return str(narrow) if narrow else str(zero_point.dtype).removeprefix("torch.")


def grid(
    shape: torch.Size, scale: Tensor, zero_point: Tensor | None, axis: int = 1, block: int = 0
) -> tuple[Tensor, Tensor]:
    """Scale and zero point as floating tensors that broadcast against values of ``shape``."""
    wide = torch.promote_types(scale.dtype, torch.float32)
    zero = torch.zeros((), dtype=wide) if zero_point is None else zero_point.to(wide)
    return _spread(scale, shape, axis, block), _spread(zero, shape, axis, block)


def _spread(value: Tensor, shape: torch.Size, axis: int, block: int) -> Tensor:
    if value.numel() == 1:
        return value.reshape(())
    axis = axis % max(len(shape), 1)
    if block or value.ndim > 1:
        size = block or -(-shape[axis] // value.shape[axis])
        return value.repeat_interleave(size, axis).narrow(axis, 0, shape[axis])
    return value.reshape([-1 if d == axis else 1 for d in range(len(shape))])


def quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    *,
    axis: int = 1,
    block: int = 0,
    kind: str = "",
    accumulator: Tensor | None = None,
) -> Quantized:
    """Put real values on a grid.

    ``accumulator`` is the unit of the integer arithmetic that gave ``x`` (scale of the input times scale of the
    weights), where there was such: rounding then falls exactly as in the integer runtime.
    """
    kind = kind or kind_of(zero_point)
    if kind not in KINDS:
        raise InputError("op.unsupported", f"quantising to {kind} is not supported", "use perturbation methods")
    low, high, _ = KINDS[kind]
    spread, zero = grid(x.shape, scale, zero_point, axis, block)
    x = x.to(_wide(x.dtype))
    real = fake_quantize(x, spread, zero, float(low), float(high), kind, accumulator)
    return Quantized(real, spread, zero, kind, (scale, zero_point))


def dequantize(
    value: Tensor | Quantized, scale: Tensor, zero_point: Tensor | None, axis: int = 1, block: int = 0
) -> Tensor:
    """Real values of a quantised tensor: ``(stored - zero_point) * scale`` in the scale's type."""
    if isinstance(value, Quantized):
        return value.on(scale, zero_point, axis, block).to(scale.dtype)
    spread, _ = grid(value.shape, scale, None, axis, block)
    return (centre(value, zero_point, scale.dtype, axis, block) * spread.to(_wide(scale.dtype))).to(scale.dtype)


def centre(
    value: Tensor, zero_point: Tensor | None, dtype: torch.dtype = torch.float32, axis: int = 1, block: int = 0
) -> Tensor:
    """Stored number minus zero point as floating values; the difference is taken in integers."""
    if zero_point is None or value.is_floating_point():
        return value.to(_wide(dtype))
    zero = _spread(zero_point.to(torch.int64), value.shape, axis, block)
    return (value.to(torch.int64) - zero).to(_wide(dtype))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def plain(value: Any) -> Any:
    """A value as everybody else knows it: stored integers for a quantised one, anything else unchanged."""
    return value.integer() if isinstance(value, Quantized) else value


def observed(value: Any, recording: bool) -> Any:
    """What an observer sees: the value in the trace while one is recorded, stored integers otherwise."""
    return value.real if recording and isinstance(value, Quantized) else plain(value)
