"""The folder that is kept between runs: where it is, and that nobody else can have written what is read from it.

Belongs here: finding the folder, reading and writing a file of it. Not here: what lies in it (``compiler.cache``).

``$ONNXPLAIN_CACHE`` names the folder; ``off`` disables it. Without it the folder is the user's cache folder. Whoever writes to
it decides what explanations show: so folder and files must belong to the user who runs this, nobody else may write to them,
and nothing but regular files is read, through no symbolic link. What isn't so counts as absent, with a reason.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from analyzer.errors import AnalyzerError
from analyzer.files import write_atomically

_READING = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


class UnusableError(Exception):
    """The folder, or a file in it, can't be used; the text says why."""


def cache_folder() -> Path | None:
    """The folder, which may not be there yet; None where it is off.

    Raises
    ------
    UnusableError
        There is no home folder, the path can't be looked at, or the folder isn't private to the user.
    """
    setting = os.environ.get("ONNXPLAIN_CACHE", "")
    if setting.lower() == "off":
        return None
    folder = Path(setting) if setting else _users_folder()
    try:
        _require_private(folder, folder.lstat(), "folder")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as problem:
        raise UnusableError(f"{folder} can't be used: {_reason(problem)}") from None
    return folder


def read_private(path: Path, largest: int) -> bytes | None:
    """The content of a file in the folder, whose time of last use is renewed; None where there is none.

    Raises
    ------
    UnusableError
        It isn't a regular file that is private to the user, or has more than ``largest`` bytes.
    """
    try:
        descriptor = os.open(path, _READING)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as problem:
        raise UnusableError(f"{path} can't be read: {_reason(problem)}") from None
    try:
        facts = os.fstat(descriptor)
        _require_private(path, facts, "file")
        if facts.st_size > largest:
            raise UnusableError(f"{path} has {facts.st_size:,} bytes, more than any file of the cache")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            content = stream.read(largest + 1)
        with contextlib.suppress(OSError):
            os.utime(descriptor if os.utime in os.supports_fd else path)
    except OSError as problem:
        raise UnusableError(f"{path} can't be read: {_reason(problem)}") from None
    finally:
        os.close(descriptor)
    return content if len(content) <= largest else None


def write_private(folder: Path, name: str, content: bytes) -> None:
    """Write a file of the folder, which is made where it is missing; only the user may read either.

    Raises
    ------
    UnusableError
        The system refuses, or the folder isn't private to the user.
    """
    make_private(folder)
    try:
        write_atomically(folder / name, lambda draft: draft.write_bytes(content), make_folder=False, mode=0o600)
    except AnalyzerError as problem:
        raise UnusableError(problem.message) from None


def make_private(folder: Path) -> None:
    """Make a folder that only the user may look into, unless it is there.

    Raises
    ------
    UnusableError
        The system refuses, or the folder isn't private to the user.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_private(folder, folder.lstat(), "folder")
    except (OSError, ValueError) as problem:
        raise UnusableError(f"can't write to {folder}: {_reason(problem)}") from None


def _users_folder() -> Path:
    import platformdirs

    folder = Path()
    with contextlib.suppress(OSError, LookupError, RuntimeError, ValueError):  # which of them, by version and system
        folder = Path(platformdirs.user_cache_dir("onnxplain", appauthor=False))
    homeless = os.name == "posix" and os.environ.get("HOME") == "" and not os.environ.get("XDG_CACHE_HOME")
    if homeless or not folder.is_absolute():
        raise UnusableError("the user has no home folder; ONNXPLAIN_CACHE names another")
    return folder


def _require_private(path: Path, facts: os.stat_result, kind: str) -> None:
    """Raise :class:`UnusableError` where a path is no folder or regular file, or not the user's alone."""
    right = stat.S_ISDIR(facts.st_mode) if kind == "folder" else stat.S_ISREG(facts.st_mode)
    if not right:
        linked = " but a symbolic link" if stat.S_ISLNK(facts.st_mode) else ""
        raise UnusableError(f"{path} is no {'folder' if kind == 'folder' else 'regular file'}{linked}")
    if not hasattr(os, "geteuid"):
        return
    if facts.st_uid != os.geteuid():
        raise UnusableError(f"{path} belongs to another user")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnusableError(f"others can write to {path}: take that away with chmod go-w")


def _reason(problem: Exception) -> str:
    return getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
