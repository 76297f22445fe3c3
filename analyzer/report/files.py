"""Writing a file whole or not at all. Not here: what is written."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from analyzer.errors import UsageError


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` under a temporary name beside ``path``, then rename; missing folders are made.

    Raises
    ------
    UsageError
        ``report.unwritable`` where the system refuses; nothing is left behind then.
    """
    goal = Path(path)
    draft = goal.with_name(f".{goal.name[:50]}.{secrets.token_hex(6)}.tmp")
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("xb") as stream:
            stream.write(content)
        draft.replace(goal)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            draft.unlink()
        if not isinstance(problem, OSError):
            raise
        reason = problem.strerror or type(problem).__name__
        raise UsageError(
            "report.unwritable", f"cannot write {goal}: {reason}", "choose another output folder"
        ) from problem
