"""Giving memory back.

Belongs here: what the interpreter and the C library keep after something was let go. Not here: what is kept on purpose.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc


def trim_memory() -> None:
    """Hand freed memory back to the system where the C library keeps it (glibc); elsewhere nothing is needed."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def release_memory() -> None:
    """Collect what only refers to itself, and hand freed memory back to the system."""
    gc.collect()
    trim_memory()
