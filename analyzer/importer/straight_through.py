"""Rounding that gradients and relevance pass through: the torch operators of the namespace ``onnxplain``.

Belongs here: operators that a trace needs and ATen lacks, their derivatives and their plain-ATen definitions.
Not here: what a quantised value is (``quantized``) and ONNX's quantisation operators (``ops/quantization``).

``onnxplain::fake_quantize`` gives the real value that a quantised tensor stands for. Its derivative is one
where the value could be represented and zero where it was clipped. The clip belongs to the function: quantisers
fold a ReLU or a Clip that follows a layer into the range of the layer's result, so the saturated side is where
that ReLU was off.

``onnxplain::dynamic_range`` gives the scale and the zero point of a tensor that is quantised as it comes. They
follow the input's values, but nothing is attributed to them: their derivative is zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Largest finite values of the 8-bit floats, which saturate.
FLOAT8_MAX = {
    "float8_e4m3fn": 448.0,
    "float8_e4m3fnuz": 240.0,
    "float8_e5m2": 57344.0,
    "float8_e5m2fnuz": 57344.0,
}


def levels_of(
    x: Tensor, scale: Tensor, zero_point: Tensor, low: float, high: float, kind: str, grid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Centred levels (stored number minus zero point) and the same before clipping, in float32 or wider."""
    wide = torch.promote_types(x.dtype, torch.float32)
    x, scale, zero_point = x.to(wide), scale.to(wide), zero_point.to(wide)
    if kind in FLOAT8_MAX:
        raw = x / scale
        clipped = torch.clamp(raw, low, high).to(getattr(torch, kind)).to(wide)
        return clipped, raw
    if grid is None:
        raw = torch.round(x / scale)
    else:
        grid = grid.to(wide)
        raw = torch.round(torch.round(x / grid) * (grid / scale))
    return torch.clamp(raw, low - zero_point, high - zero_point), raw


def fake_quantize_definition(
    x: Tensor, scale: Tensor, zero_point: Tensor, low: float, high: float, kind: str, grid: Tensor | None = None
) -> Tensor:
    """``onnxplain::fake_quantize`` in plain ATen operators, for exporters and other decompositions."""
    levels, _ = levels_of(x, scale, zero_point, low, high, kind, grid)
    return (levels * scale.to(levels.dtype)).to(x.dtype)


def dynamic_range_definition(x: Tensor, rows: bool = False) -> tuple[Tensor, Tensor]:
    """``onnxplain::dynamic_range`` in plain ATen operators."""
    over = (-1,) if rows else tuple(range(x.ndim))
    smallest = torch.clamp(torch.amin(x, over, keepdim=rows), max=0.0)
    largest = torch.clamp(torch.amax(x, over, keepdim=rows), min=0.0)
    scale = (largest - smallest) / 255.0
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return scale, torch.clamp(torch.round(-smallest / scale), 0.0, 255.0)


@torch.library.custom_op(
    "onnxplain::fake_quantize",
    mutates_args=(),
    schema="(Tensor x, Tensor scale, Tensor zero_point, float low, float high, str kind, Tensor? grid=None) -> Tensor",
)
def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    low: float,
    high: float,
    kind: str,
    grid: Tensor | None = None,
) -> Tensor:
    """The real value that ``x`` has after quantising.

    Parameters
    ----------
    x
        Real values.
    scale, zero_point
        Floating, broadcastable to ``x``.
    low, high
        Smallest and largest stored number.
    kind
        Stored type, such as ``uint8``; a float8 type rounds to its own values.
    grid
        Where given, ``x`` is the result of exact integer arithmetic in multiples of ``grid`` and is first put
        back on it, so that rounding falls as in the integer runtime.
    """
    return fake_quantize_definition(x, scale, zero_point, low, high, kind, grid).clone()


@fake_quantize.register_fake
def _fake_quantize_shape(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, zero_point, low, high, kind, grid = inputs
    ctx.save_for_backward(x, scale, zero_point, grid)
    ctx.range = (low, high, kind)


def _pass_through(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, scale, zero_point, grid = ctx.saved_tensors
    low, high, kind = ctx.range
    with torch.no_grad():
        _, raw = levels_of(x, scale, zero_point, low, high, kind, grid)
        inside = (raw >= low - zero_point) & (raw <= high - zero_point)
    return torch.where(inside, grad, torch.zeros_like(grad)), None, None, None, None, None, None


fake_quantize.register_autograd(_pass_through, setup_context=_remember)


@torch.library.custom_op(
    "onnxplain::dynamic_range", mutates_args=(), schema="(Tensor x, bool rows=False) -> (Tensor, Tensor)"
)
def dynamic_range(x: Tensor, rows: bool = False) -> tuple[Tensor, Tensor]:
    """Scale and zero point that map the values of ``x`` and zero onto 0 … 255.

    Floating and 0-d; with ``rows`` one for each row (…, 1).
    """
    return dynamic_range_definition(x, rows)


@dynamic_range.register_fake
def _dynamic_range_shape(x: Tensor, rows: bool = False) -> tuple[Tensor, Tensor]:
    shape = (*x.shape[:-1], 1) if rows else ()
    return x.new_empty(shape), x.new_empty(shape)


def _nothing(ctx: Any, *grads: Tensor) -> tuple[None, None]:
    return None, None


dynamic_range.register_autograd(_nothing)

#: Operators through which no relevance flows, although their results depend on their inputs.
INERT = frozenset({torch.ops.onnxplain.dynamic_range.default})
