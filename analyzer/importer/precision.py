"""The type that floating-point numbers are computed in where it is finer than the model's own.

Belongs here: that one fact of a run. Not here: what the run does with weights and inputs (``interpreter``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

#: Types that an explanation would be lost in: 11 and 8 bits of mantissa, and derivatives below 6e-8 are zero in the first.
HALF = (torch.float16, torch.bfloat16)
_precision: ContextVar[torch.dtype | None] = ContextVar("precision", default=None)


def raised(dtype: torch.dtype, precision: torch.dtype | None) -> torch.dtype:
    """The type that numbers of a type are computed in: a coarser floating-point type becomes ``precision``."""
    coarser = dtype in (*HALF, torch.float32) and precision is not None and dtype.itemsize < precision.itemsize
    return precision if coarser and precision is not None else dtype


def current(dtype: torch.dtype) -> torch.dtype:
    """The type that numbers of a type are computed in by the run at hand, for operators that name a type."""
    return raised(dtype, _precision.get())


def single() -> torch.dtype:
    """float32, or float64 where the model is computed in double precision, for operators that give float32."""
    return current(torch.float32)


@contextlib.contextmanager
def computed_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Compute coarser types in this one; None leaves them."""
    token = _precision.set(dtype)
    try:
        yield
    finally:
        _precision.reset(token)
