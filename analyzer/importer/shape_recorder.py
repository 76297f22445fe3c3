"""Recording without computing: a model's graph for inputs of which only types and shapes are known.

Belongs here: the recorder whose floating-point values have no numbers. Not here: recording on numbers (``recorder``), what
such a graph is good for.

The graph is the one that any real input of these shapes would give. Constants are computed as ever, and so is what depends
on integer inputs alone (tokens, lengths); a model that branches on its floating-point values has no such graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from analyzer.errors import UnsupportedError
from analyzer.importer.recorder import Recorder

aten = torch.ops.aten
#: Operators whose types and shapes torch finds out the long way, see :func:`_elementwise`, and others that give the same.
_SAME_SHAPE: dict[Any, Any] = {aten.mean.dim: aten.sum.dim_IntList, aten.mean.default: aten.sum.default}


class ShapeRecorder(Recorder):
    """Records every ATen call that depends on an input; floating-point values are types and shapes only."""

    def placeholder(self, name: str, value: Tensor) -> Tensor:
        """Declare an input of the graph; of a floating-point one only its type and shape count."""
        return super().placeholder(name, _typed(value))

    def mark_data_dependent(self, *values: Tensor) -> None:
        """Note that concrete numbers were read from recorded tensors.

        Raises
        ------
        UnsupportedError
            ``trace.no_numbers`` where there are none.
        """
        if any(value.is_meta for value in values):
            node = self.provenance.get("onnx", "")
            message = f"what node {node!r} does depends on the input's values"
            raise UnsupportedError("trace.no_numbers", message, "trace the model on an input")
        super().mark_data_dependent(*values)

    def compute(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call on types and shapes, for real where all of its tensors have numbers."""
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if not any(value.is_meta for value in given):
            return tree_map(_typed, func(*args, **kwargs))
        func = _SAME_SHAPE.get(func, func)
        quick = _elementwise(func, args, kwargs) if len(given) == 1 else _joined(func, args)
        if quick is not None:
            return quick
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": torch.device("meta")}
        return func(*tree_map(_without_numbers, args), **tree_map(_without_numbers, kwargs))


def _elementwise(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """What a function of each element gives, its type found on one number; None for others.

    As is :func:`_joined`, here because torch imports its compiler, a second of processor time, to find this out.
    """
    if not isinstance(args[0], Tensor) or torch.Tag.pointwise not in func.tags:
        return None
    tried = func(torch.ones([1] * args[0].dim(), dtype=args[0].dtype), *args[1:], **kwargs)
    return torch.empty_like(args[0], dtype=tried.dtype) if isinstance(tried, Tensor) else None


def _joined(func: Any, args: tuple[Any, ...]) -> Tensor | None:
    """What a concatenation of values of one type and rank gives; None for anything else."""
    if func is not aten.cat.default or len({(value.dtype, value.dim()) for value in args[0]}) > 1:
        return None
    shape, dim = list(args[0][0].shape), args[1] if len(args) > 1 else 0
    others = {tuple(size for at, size in enumerate(v.shape) if at != dim % len(shape)) for v in args[0]}
    if len(others) > 1:
        return None
    shape[dim] = sum(value.shape[dim] for value in args[0])
    return torch.empty(shape, dtype=args[0][0].dtype, device="meta")


def _without_numbers(value: Any) -> Any:
    """A tensor's type and shape; anything else as it is."""
    if not isinstance(value, Tensor) or value.is_meta:
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _typed(value: Any) -> Any:
    """A floating-point tensor's type and shape; anything else as it is."""
    return _without_numbers(value) if isinstance(value, Tensor) and value.dtype.is_floating_point else value
