"""The files of a model as they were when they were checked: what was checked is what runs.

A model file and its external data are read again after loading: by onnxruntime for each session, and where weights are mapped.
Between two readings anybody may have put another file in their place, which nothing has checked.

Belongs here: noticing that. Not here: checking what a file holds (``validation``), where external files may lie (``external``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from analyzer.errors import InputError
from analyzer.importer._load_text import quoted


class Stamp(NamedTuple):
    """What tells a file from what is put in its place or written into it."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, facts: os.stat_result) -> Stamp:
        """The stamp of a file from its ``stat``."""
        return cls(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)

    def same_file(self, other: Stamp) -> bool:
        """Whether both are of one file, changed or not."""
        return (self.device, self.inode) == (other.device, other.inode)


class CheckedFiles:
    """The files that a model's sessions and mapped weights are read from.

    Parameters
    ----------
    folder
        Where external data lies; None where the model came without a file.
    external
        Path -> stamp of each external file when it was checked.
    own
        The model file with its stamp and the SHA-256 of its content; None where it isn't read again.
    """

    def __init__(
        self,
        folder: Path | None = None,
        external: Mapping[Path, Stamp] | None = None,
        own: tuple[Path, Stamp, str] | None = None,
    ) -> None:
        self.folder = folder
        self._own: Path | None = own[0] if own is not None else None
        self._sha256 = own[2] if own is not None else ""
        self._stamps = dict(external or {}) | ({own[0]: own[1]} if own is not None else {})

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(self._stamps)

    def require_unchanged(self) -> None:
        """Refuse files that aren't those that were checked. A model file with the same content is the same.

        Raises
        ------
        InputError
            ``model.changed``.
        """
        for path, stamp in list(self._stamps.items()):
            found = self._stamp(path)
            if found != stamp:
                self._accept(path, found)

    def require_not_overwritten(self) -> None:
        """Refuse files that were written into, so that what is mapped from them has changed; not those that were replaced.

        Raises
        ------
        InputError
            ``model.changed``.
        """
        for path, stamp in list(self._stamps.items()):
            found = self._stamp(path)
            if found is not None and found != stamp and found.same_file(stamp):
                self._accept(path, found)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Around whatever reads the files: refuses before it what nothing has checked, and after it what came meanwhile.

        Raises
        ------
        InputError
            ``model.changed``.
        """
        self.require_unchanged()
        try:
            yield
        finally:
            self.require_unchanged()

    def _stamp(self, path: Path) -> Stamp | None:
        try:
            return Stamp.of(path.stat() if path == self._own else path.lstat())
        except (OSError, ValueError):
            return None

    def _accept(self, path: Path, found: Stamp | None) -> None:
        """Take a file of another stamp for the one that was checked, where that can be told from its content."""
        if path == self._own and found is not None and _sha256(path, found) == self._sha256:
            self._stamps[path] = found
            return
        what = "has changed since it was loaded" if found is not None else "isn't there any more"
        raise InputError("model.changed", f"{quoted(str(path), 1000)[1:-1]} {what}", "load the model again")


def _sha256(path: Path, stamp: Stamp) -> str:
    """The digest of the file that the stamp is of; empty where that can't be had."""
    try:
        with os.fdopen(
            os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
        ) as f:
            if Stamp.of(os.fstat(f.fileno())) != stamp:
                return ""
            digest = hashlib.file_digest(f, "sha256").hexdigest()
            return digest if Stamp.of(os.fstat(f.fileno())) == stamp else ""
    except OSError:
        return ""
