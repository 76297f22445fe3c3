"""Running nodes whose operators know only tensors on quantised values.

Belongs here: which operators may see the real values instead of stored integers, and doing so. Not here: what a
quantised value is (``quantized``) and operators that know it themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.quantized import Quantized, plain, same

_AWARE: set[Callable[..., Any]] = set()

#: Operators that move values or choose among them -> the inputs that hold such values (None: all).
MOVING: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "ExpandDims", "Transpose"), (0,)),
    **dict.fromkeys(("Split", "Slice", "Gather", "GatherElements", "GatherND", "Compress", "ReverseSequence"), (0,)),
    **dict.fromkeys(("Expand", "Tile", "DepthToSpace", "SpaceToDepth", "Upsample", "Resize", "Dropout"), (0,)),
    **dict.fromkeys(("MaxPool", "NhwcMaxPool", "GlobalMaxPool", "MaxUnpool", "ReduceMax", "ReduceMin", "TopK"), (0,)),
    "Concat": None,
    "Max": None,
    "Min": None,
    "Where": (1, 2),
    "Pad": (0, 2),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
}

#: Arithmetic on accumulators -> the inputs that are numbers.
_ARITHMETIC: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Sum", "Clip", "Relu", "Neg", "Max", "Min")),
    "ReduceSum": (0,),
}
_ORDERED = ("Clip", "Relu", "Max", "Min")
_FLOATS = {1, 10, 11, 16}


def accepts_quantized(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark an operator function that takes :class:`Quantized` inputs as they are."""
    _AWARE.add(function)
    return function


def call(function: Callable[..., Any], node: Node, inputs: tuple[Any, ...]) -> Any:
    """Run an operator function on inputs some of which may be quantised.

    Operators that move values get the real ones, and the result is quantised as its input was; casts to
    floating types and arithmetic on accumulators get the stored numbers as floating values; anything else gets
    stored integers.
    """
    held = next((value for value in inputs if isinstance(value, Quantized)), None)
    if held is None or function in _AWARE:
        return function(node, *inputs)
    if node.op_type in MOVING and held.per_tensor and _moves(node):
        real_inputs = _on_grid(inputs, MOVING[node.op_type], held)
        if real_inputs is not None:
            return _rewrapped(function(node, *real_inputs), lambda real: replace(held, real=real), held.real.dtype)
    first = inputs[0]
    if isinstance(first, Quantized) and _casts_to_floating(node, inputs):
        return function(node, first.levels(), *inputs[1:])
    if node.op_type in _ARITHMETIC and (held.kind in ("int32", "int64") or node.op_type in _ORDERED):
        chosen = _ARITHMETIC[node.op_type]
        numbers = [_numbers(v, held) if chosen is None or i in chosen else v for i, v in enumerate(inputs)]
        return _rewrapped(function(node, *numbers), lambda real: _counted(real, held.kind), held.real.dtype)
    return function(node, *(plain(value) for value in inputs))


def _moves(node: Node) -> bool:
    """Resizing moves values only where it takes the nearest; a negative or missing pad mode is constant."""
    return node.op_type not in ("Resize", "Upsample") or node.attr("mode", "nearest") == "nearest"


def _casts_to_floating(node: Node, inputs: tuple[Any, ...]) -> bool:
    if node.op_type == "Cast":
        return node.attr("to") in _FLOATS
    return node.op_type == "CastLike" and isinstance(inputs[1], Tensor) and inputs[1].is_floating_point()


def _on_grid(inputs: tuple[Any, ...], chosen: tuple[int, ...] | None, held: Quantized) -> list[Any] | None:
    """The inputs with their values as real ones; None where they don't share one grid."""
    real: list[Any] = []
    for position, value in enumerate(inputs):
        if isinstance(value, Quantized):
            if not (value is held or (value.kind == held.kind and _shares_grid(value, held))):
                return None
            real.append(value.real)
        elif isinstance(value, Tensor) and (chosen is None or position in chosen):
            real.append((value.to(held.real.dtype) - held.zero_point) * held.scale)
        else:
            real.append(value)
    pads_implicitly = len(chosen or ()) > 1 and len(inputs) <= 2
    if pads_implicitly:  # Pad without a value pads with the stored number 0
        real.append((0.0 - held.zero_point) * held.scale)
    return real


def _shares_grid(a: Quantized, b: Quantized) -> bool:
    if a.source[0] is not None and a.source[0] is b.source[0] and a.source[1] is b.source[1]:
        return True
    return a.per_tensor and same(a.scale, b.scale) and same(a.zero_point, b.zero_point)


def _numbers(value: Any, held: Quantized) -> Any:
    if isinstance(value, Quantized):
        return value.levels()
    return value.to(held.real.dtype) if isinstance(value, Tensor) else value


def _counted(real: Tensor, kind: str) -> Quantized:
    one = torch.ones((), dtype=real.dtype)
    return Quantized(real, one, torch.zeros_like(one), kind)


def _rewrapped(out: Any, wrap: Callable[[Tensor], Quantized], dtype: torch.dtype) -> Any:
    if isinstance(out, tuple):
        return tuple(_rewrapped(value, wrap, dtype) for value in out)
    return wrap(out) if isinstance(out, Tensor) and out.dtype == dtype else out
