"""Memory of the process: how much it has, and giving back what it no longer needs.

Belongs here: what the interpreter and the C library keep after something was let go. Not here: what is kept on purpose.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from pathlib import Path


def trim_memory() -> None:
    """Hand freed memory back to the system where the C library keeps it (glibc); elsewhere nothing is needed."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def release_memory() -> None:
    """Collect what only refers to itself, and hand freed memory back to the system."""
    gc.collect()
    trim_memory()


def resident_memory() -> int:
    """Bytes of memory that the process has now; where the system doesn't tell, the most that it has had."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 0
