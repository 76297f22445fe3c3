"""The table of ATen operators that have an ONNX form.

Belongs here: registering. Not here: the functions (the other files of this package).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    """A dimension that may be negative as an axis counted from the front."""
    return dim % rank if rank else 0
