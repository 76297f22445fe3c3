"""How much a model may ask for before it is refused.

Belongs here: the budgets and their defaults. Not here: who spends them (the ``_load_*`` checks).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

SHARE_OF_MEMORY = 0.8
FALLBACK_MEMORY = 8 * 2**30
CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_budget() -> int:
    """Most of the machine's memory in bytes: four fifths of the RAM, or of the container's limit where that is less."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = FALLBACK_MEMORY
    for name in CGROUP_FILES:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdecimal() and int(text) > 0:
            total = min(total, int(text))
    return int(total * SHARE_OF_MEMORY)


@dataclass(frozen=True)
class Limits:
    """Budgets that loading a model must stay within.

    Parameters
    ----------
    file_bytes
        Size of the model file itself; a protobuf can't hold 2 GiB or more.
    memory_bytes
        What the parsed model, or one tensor that a node is certain to make, may take.
    initializer_bytes
        Sum over all tensors stored in the model, external data included.
    nodes
        Nodes stored in the file, subgraphs and functions included.
    expanded_nodes
        Nodes after every call of a local function has been replaced by the function's body.
    fields
        Texts, byte strings and messages stored in the file, of any kind.
    depth
        Nesting of subgraphs, and of local functions that call each other.
    """

    file_bytes: int = 2**31 - 1
    memory_bytes: int = field(default_factory=memory_budget)
    initializer_bytes: int = field(default_factory=memory_budget)
    nodes: int = 1_000_000
    expanded_nodes: int = 1_000_000
    fields: int = 20_000_000
    depth: int = 64


DEFAULT_LIMITS = Limits()


def human(count: int) -> str:
    """Bytes for a reader: ``4.0 TiB``."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024:
            return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.3g} EiB"
