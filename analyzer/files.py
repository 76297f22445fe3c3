"""Writing a file whole or not at all: the one way in which anything here writes a file.

Belongs here: the temporary name and the renaming. Not here: what is written, and reading (``inputs``, ``importer``).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analyzer.errors import UsageError


def write_atomically(path: Path, write: Callable[[Path], Any], *, make_folder: bool = True) -> None:
    """Write a file under a temporary name beside it and rename it, so that no reader sees half of it.

    Parameters
    ----------
    write
        Called with the temporary path.
    make_folder
        Whether missing folders are made.

    Raises
    ------
    UsageError
        ``output.unwritable`` where the system refuses; nothing is left behind then.
    """
    draft = path.with_name(f".{path.name[:50]}.{secrets.token_hex(6)}.tmp")
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        write(draft)
        draft.replace(path)
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise UsageError(
            "output.unwritable", f"can't write {path}: {reason}", "choose another folder with -o"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
