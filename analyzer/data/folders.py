"""The files of a folder.

Belongs here: walking through it. Not here: what its files are for.
"""

from __future__ import annotations

import os
from pathlib import Path

from analyzer.errors import UsageError


def walk(folder: Path) -> list[Path]:
    """The files below a folder, relative to it and sorted; hidden ones are left out, links to folders are followed once.

    Raises
    ------
    UsageError
        ``data.missing`` for a folder that can't be read.
    """

    def refuse(problem: OSError) -> None:
        why = problem.strerror or str(problem)
        raise UsageError("data.missing", f"{problem.filename} can't be read: {why}", "check its permissions")

    found: list[Path] = []
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(root).relative_to(folder)
        found += [below / name for name in files if not name.startswith(".")]
    return sorted(found, key=lambda path: path.parts)
