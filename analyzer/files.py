"""Writing a file whole or not at all: the one way in which anything here writes a file.

Belongs here: the temporary name and the renaming, what may be replaced, what is left over of runs that were killed, the errors of
a disk. Not here: what is written, and reading (``inputs``, ``importer``).

A temporary file or folder is locked for as long as its maker lives: what can be locked was left behind, and goes.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from analyzer.errors import AnalyzerError, InconclusiveError, UsageError

#: Locks of files; Windows has none such.
fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None
_ELSEWHERE = "choose another folder with -o"
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_STAGING, _MARK = ".onnxplain-staging-", re.compile(r"[0-9a-f]{12}")
#: Where nothing can be locked, what is older than this many seconds was left behind.
_STALE = 3600.0
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def write_atomically(path: Path, write: Callable[[Path], Any], *, make_folder: bool = True, mode: int = 0o666) -> None:
    """Write a file under a temporary name beside it and rename it, so that no reader sees half of it.

    Parameters
    ----------
    write
        Called with the path of an empty temporary file.
    make_folder
        Whether missing folders are made.
    mode
        The file's permissions, less what the process takes away from all.

    Raises
    ------
    UsageError
        ``output.not_regular`` where something other than a file is in its place, ``output.unwritable`` where the system refuses;
        nothing is left behind then.
    InconclusiveError
        ``output.no_space``, ``output.read_only``.
    """
    require_replaceable(path, overwrite=True)
    draft = None
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        with _draft(path, mode) as draft:
            write(draft)
            draft.replace(path)
    except OSError as problem:
        raise write_error(str(path), problem) from None
    finally:
        if draft is not None:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def require_replaceable(path: Path, *, overwrite: bool) -> None:
    """Refuse a path where something is that may not be replaced: only regular files are, and only where that is wanted.

    Raises
    ------
    UsageError
        ``output.not_regular``, ``output.exists``; ``output.unwritable`` where it can't be looked at.
    """
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as problem:
        raise write_error(str(path), problem) from None
    if kind != stat.S_IFREG:
        hint = (
            "give the path that it leads to" if kind == stat.S_IFLNK else "only files are replaced: give another name"
        )
        raise UsageError("output.not_regular", f"{path} is {_KINDS.get(kind, 'no file')}, not a file", hint)
    if not overwrite:
        raise UsageError("output.exists", f"{path} is there already", "--force replaces it; -o names another place")


def require_writable(folder: Path) -> None:
    """Refuse early a folder that can't be written to, or made.

    Raises
    ------
    UsageError
        ``output.not_a_folder``, ``output.unwritable``.
    InconclusiveError
        ``output.read_only``.
    """
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            folder.lstat()  # unlike `exists` it says why a path can't be
        existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        is_folder, usable = existing.is_dir(), os.access(existing, os.W_OK | os.X_OK)
    except (OSError, ValueError) as problem:
        raise write_error(str(folder), problem) from None
    if not is_folder:
        raise UsageError("output.not_a_folder", f"{existing} is a file", "give a folder with -o")
    if not usable:
        number = errno.EROFS if _is_read_only(existing) else errno.EACCES
        raise write_error(str(folder), OSError(number, os.strerror(number)))


def write_error(where: str, problem: Exception, elsewhere: str = _ELSEWHERE) -> AnalyzerError:
    """Why something can't be written.

    A disk that is full or read-only is no fault of the call, nor of the model or the input: nothing came of the run (exit 4).
    """
    number = getattr(problem, "errno", None)
    known = {errno.EACCES: "no permission", errno.EPERM: "no permission", errno.ENAMETOOLONG: "its name is too long"}
    told = getattr(problem, "strerror", None) or (os.strerror(number) if number else str(problem))
    message = f"can't write to {where}: {known.get(number or 0) or told or type(problem).__name__}"
    if number in _FULL:
        return InconclusiveError("output.no_space", message, f"make room, or {elsewhere}")
    if number == errno.EROFS:
        return InconclusiveError("output.read_only", message, elsewhere)
    return UsageError("output.unwritable", message, elsewhere)


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A temporary folder inside a folder, removed at the end; those of runs that were killed are removed first.

    Raises
    ------
    OSError
        The system refuses.
    """
    for path in folder.glob(f"{_STAGING}*"):
        if _MARK.fullmatch(path.name.removeprefix(_STAGING)) and not path.is_symlink() and path.is_dir():
            left = _abandoned(path)
            if left is not None:
                shutil.rmtree(path, ignore_errors=True)
                _let_go(left)
    held = None
    while held is None:
        made = folder / f"{_STAGING}{secrets.token_hex(6)}"
        made.mkdir(mode=0o700)
        held = _locked(made)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        _let_go(held)


def remove_drafts(path: Path) -> None:
    """Remove temporary files of a path that were left behind by processes that were killed while they wrote it."""
    start, end = f".{path.name[:50]}.", ".tmp"
    with contextlib.suppress(OSError):
        for each in os.scandir(path.parent):
            marked = each.name.startswith(start) and each.name.endswith(end)
            if marked and _MARK.fullmatch(each.name[len(start) : -len(end)]) and each.is_file(follow_symlinks=False):
                left = _abandoned(Path(each.path))
                if left is not None:
                    Path(each.path).unlink(missing_ok=True)
                    _let_go(left)


@contextlib.contextmanager
def _draft(path: Path, mode: int) -> Iterator[Path]:
    """An empty file beside a path, locked."""
    held = None
    while held is None:
        draft = path.with_name(f".{path.name[:50]}.{secrets.token_hex(6)}.tmp")
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        held = _locked(draft)
    try:
        yield draft
    finally:
        _let_go(held)


def _locked(path: Path) -> int | None:
    """A descriptor that locks a new file or folder, -1 where there are no locks; None where another process has removed it."""
    if fcntl is None:
        return -1
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # by one that is about to remove it
        os.close(descriptor)
        return None
    except OSError:  # no locks on this disk
        return descriptor
    if path.exists():
        return descriptor
    os.close(descriptor)
    return None


def _let_go(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


def _abandoned(path: Path) -> int | None:
    """A descriptor that holds a temporary file or folder which nobody else holds (-1 where there are no locks); None else."""
    old = True
    try:
        if fcntl is None:
            return -1 if time.time() - path.lstat().st_mtime > _STALE else None
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        old = False
    except OSError:  # no locks on this disk
        old = time.time() - os.fstat(descriptor).st_mtime > _STALE
    if not old:
        os.close(descriptor)
    return descriptor if old else None


def _is_read_only(folder: Path) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    return False
