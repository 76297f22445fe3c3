"""The table of ATen operators that are taken apart.

Belongs here: registering. Not here: the functions (the other files of this room).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Operator -> the same by simpler operators.
DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {}


def decomposes(*targets: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function of an operator's own arguments; functional torch only."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for target in targets:
            DECOMPOSITIONS[target] = function
        return function

    return register
