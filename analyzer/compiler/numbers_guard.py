"""The guard against numbers that would become constants of a compiled model.

Belongs here: noticing that a method reads the numbers of a recorded tensor. Not here: recording (``recorder``), engines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from analyzer.engines.protocol import NotCompilableError
from analyzer.importer.recorder import recorded

_READING = {
    Tensor.numpy, Tensor.__array__, Tensor.tolist, Tensor.item, Tensor.__bool__, Tensor.__float__, Tensor.__int__,
    Tensor.__index__, Tensor.__complex__, Tensor.__iter__, Tensor.__contains__,
}  # fmt: skip


class NumbersGuard(TorchFunctionMode):
    """While it is active, code that reads the numbers of a recorded tensor is refused: they would become constants."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if not self.paused and func in _READING and any(recorded(value) for value in args):
            raise NotCompilableError("it looks at numbers between its sweeps")
        return func(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Let numbers be read, for an engine's own work."""
        self.paused += 1
        try:
            yield
        finally:
            self.paused -= 1
