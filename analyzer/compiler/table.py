"""The table of ATen operators that have an ONNX form.

Belongs here: registering and the types that lowering functions see. Not here: the functions (``lowering_*``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Batch:
    """A size that grows with the batch: ``times`` elements per sample."""

    times: int


Size = int | Batch


@dataclass(frozen=True)
class Value:
    """A tensor of the graph that is written: its ONNX name, sizes and element type."""

    name: str
    shape: tuple[Size, ...]
    dtype: torch.dtype

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


@dataclass(frozen=True)
class Result:
    """What an operator's call gives, as recorded: the sizes and element types of its tensors."""

    shape: tuple[Size, ...]
    dtype: torch.dtype


#: A lowering writes ONNX nodes for one call and gives the name of its result, or the names of several.
Lowering = Callable[..., Any]
LOWERINGS: dict[Any, Lowering] = {}


def lowers(*targets: Any) -> Callable[[Lowering], Lowering]:
    """Register a function ``(writer, result, *arguments, **keywords)`` for ATen operators."""

    def register(function: Lowering) -> Lowering:
        for target in targets:
            LOWERINGS[target] = function
        return function

    return register


def axis(dim: int, rank: int) -> int:
    """An axis counted from the front."""
    return dim % rank if rank else 0
