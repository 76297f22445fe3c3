"""The type that float32 is computed in, for operators that give float32 of their own accord.

Belongs here: that one fact of a run. Not here: what the run does with float32 weights and inputs (``interpreter``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

_single: ContextVar[torch.dtype] = ContextVar("single", default=torch.float32)


def single() -> torch.dtype:
    """float32, or float64 where a float32 model is computed in double precision."""
    return _single.get()


@contextlib.contextmanager
def computed_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Compute float32 in another type; None leaves it."""
    token = _single.set(dtype or torch.float32)
    try:
        yield
    finally:
        _single.reset(token)
