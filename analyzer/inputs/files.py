"""Opening data files safely: regular files only, opened once, within a size limit, hashed.

Belongs here: what every reader of this package needs before it looks at a file's content. Not here: any file format.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from analyzer.errors import AnalyzerError, InputError, UsageError

MEMORY_LIMIT = 2 * 1024**3
"""Bytes that one input may take in memory by default."""


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A regular file, open for reading; pipes, devices and folders are refused without blocking on them.

    Raises
    ------
    UsageError
        ``data.missing`` where the path can't be opened.
    InputError
        ``data.not_regular`` where it is a folder, pipe, socket or device.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    if Path(path).is_dir():
        raise InputError("data.not_regular", f"{path} is a folder, not a file", "name the files in it")
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as problem:
        raise UsageError("data.missing", f"{path}: no such file", "check the path") from problem
    except (OSError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise UsageError(
            "data.missing", f"{path} can't be opened: {why}", "check the path and its permissions"
        ) from None
    with os.fdopen(descriptor, "rb") as handle:
        if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            raise InputError("data.not_regular", f"{path} is a pipe or a device, not a file", "copy it to a file first")
        yield handle


def size_of(handle: BinaryIO) -> int:
    """Size of an open file in bytes."""
    return os.fstat(handle.fileno()).st_size


def read_bytes(path: str | os.PathLike[str], limit: int = MEMORY_LIMIT) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises
    ------
    InputError
        ``limit.memory`` where the file is larger; what `open_regular` raises.
    """
    with open_regular(path) as handle:
        content = handle.read(limit + 1) if size_of(handle) <= limit else None
    if content is None or len(content) > limit:
        raise InputError("limit.memory", f"{path} is larger than {mebibytes(limit)}", "give a smaller file")
    return content


def sha256_of(handle: BinaryIO) -> str:
    """SHA-256 of an open file, from its start; the position is put back to the start."""
    handle.seek(0)
    digest = hashlib.file_digest(cast(io.BufferedReader, handle), "sha256").hexdigest()
    handle.seek(0)
    return digest


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a regular file; a word where it can't be read."""
    try:
        with open_regular(path) as handle:
            return sha256_of(handle)
    except (AnalyzerError, OSError):
        return "unreadable"


def decode_text(content: bytes, path: str | os.PathLike[str], code: str) -> str:
    """UTF-8 text without byte order mark; raises ``InputError(code)`` for anything else, NUL bytes included."""
    if b"\0" in content:
        raise InputError(code, f"{path} holds NUL bytes: it is not a text file", "save it as UTF-8 text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise InputError(code, f"{path}, line {line}: not UTF-8 text", "save it as UTF-8") from None


def mebibytes(count: int) -> str:
    """A number of bytes as text."""
    return f"{count / 2**20:,.0f} MiB" if count >= 2**20 else f"{count:,} bytes"
