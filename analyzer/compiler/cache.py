"""The cache of compiled sweeps: what its files are called and hold, its size limit.

Belongs here: an entry and what it answers. Not here: the folder and whom it may belong to (``cache_folder``), what is compiled
(``sweep_model``), looking up the sweeps of one model (``sweep_cache``). Imports no torch.

The folder holds up to 2 GiB, or ``$ONNXPLAIN_CACHE_MIB`` MiB; beyond that the least recently used files are removed. An entry is
bound to its question: the model's digest, the explained value, the rule table, versions. Its name is a digest of that, and the
file says it once more and ends in a digest of what comes before, as metadata entries of the ONNX model: a file that is
damaged, or that answers another question than its name says, counts as absent. Two processes may write at the same time: a file
is written under a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from analyzer.cache_folder import UnusableError, cache_folder, read_private, write_private
from analyzer.errors import UsageError
from analyzer.versions import version

#: Version of the file format; raised with every change of what a file holds.
FORMAT = 2
#: Largest sweep in bytes that is cached unless the user chose the onnxruntime backend.
LARGEST = 256 * 2**20
#: No ONNX file is larger, whatever the folder may hold.
_LARGEST_FILE = 2**31
_LIMIT_MIB = 2048
#: Temporary files older than this many seconds were left behind by a process that died.
_STALE = 3600.0
_DIGEST, _QUESTION = "onnxplain.digest", "onnxplain.question"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def subject_text(**facts: Any) -> str:
    """What is explained, from JSON-ready facts; it differs between versions of this package."""
    return json.dumps([FORMAT, code_version(), facts], sort_keys=True)


@dataclass(frozen=True)
class Question:
    """What an entry answers.

    Attributes
    ----------
    subject
        What is explained; see :func:`subject_text`.
    sweep
        The rule table with its parameters, and what else makes a sweep.
    """

    subject: str
    sweep: str

    @property
    def name(self) -> str:
        """The name of its file, without suffix: of all sweeps of a subject the same up to the dash."""
        return f"{_digest(self.subject)}-{_digest(self.sweep)}"

    def text(self) -> str:
        """As it stands in the file."""
        return json.dumps([self.subject, self.sweep])


def size_limit() -> int:
    """How many bytes the folder may hold.

    Raises
    ------
    UsageError
        ``cache.size``.
    """
    setting = os.environ.get("ONNXPLAIN_CACHE_MIB", "")
    if setting and not (setting.isdecimal() and len(setting) < 12):
        raise UsageError("cache.size", f"ONNXPLAIN_CACHE_MIB={setting!r} is no number", "give a whole number of MiB")
    return int(setting or _LIMIT_MIB) * 2**20


@functools.cache
def code_version() -> str:
    """A digest of the code that makes compiled sweeps: versions of packages, and sizes and times of the source files."""
    root = Path(__file__).resolve().parent.parent
    packages = (root / "compiler", root / "engines", root / "importer", root.parent / "graph_rules")
    files = sorted(path for package in packages for path in package.rglob("*.py"))
    state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    versions = [version(name) for name in ("onnxplain", "torch")]
    return hashlib.sha256(repr((versions, state)).encode()).hexdigest()


def read(question: Question) -> bytes | None:
    """The stored model that answers a question, None where it is absent, damaged, or answers another.

    Raises
    ------
    UnusableError
        The folder or the file can't be trusted or read.
    """
    folder = cache_folder()
    content = None if folder is None else read_private(folder / f"{question.name}.onnx", _LARGEST_FILE)
    if content is None:
        return None
    end = _seal(question, content[: -len(_seal(question, b""))])
    return content if content.endswith(end) and len(content) > len(end) else None


def stored(subject: str) -> Iterator[Question]:
    """The questions about a subject whose answers are stored, as their files say.

    Raises
    ------
    UnusableError
        As :func:`read`.
    """
    folder = cache_folder()
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob(f"{_digest(subject)}-*.onnx")) if folder is not None else ():
            question = _question_of(read_private(path, _LARGEST_FILE))
            if question is not None and question.subject == subject and question.name == path.stem:
                yield question


def refused(question: Question) -> bool:
    """Whether it is known that this can't be compiled."""
    with contextlib.suppress(UnusableError):
        folder = cache_folder()
        return folder is not None and read_private(folder / f"{question.name}.refused", 2**20) == _refusal(question)
    return False


def refuse(question: Question) -> None:
    """Remember that something can't be compiled; as :func:`write`."""
    _store(f"{question.name}.refused", _refusal(question))


def write(question: Question, content: bytes, largest: int | None = LARGEST) -> str:
    """Store a model.

    Returns
    -------
    str
        Why it isn't stored; empty where it is.

    Raises
    ------
    UnusableError
        The folder can't be trusted or written to.
    """
    limit = size_limit() if largest is None else min(largest, size_limit())
    if len(content) > limit:
        return f"it has {len(content) / 2**20:.0f} MiB, more than {limit / 2**20:.0f} MiB"
    return _store(f"{question.name}.onnx", content + _seal(question, content))


def _store(name: str, content: bytes) -> str:
    folder = cache_folder()
    if folder is None:
        return "ONNXPLAIN_CACHE is off"
    write_private(folder, name, content)
    _evict(folder, folder / name)
    return ""


def _evict(directory: Path, newest: Path) -> None:
    """Remove the least recently used files until the rest fits, and temporary files that were left behind."""
    found = list(_files(directory))
    now, used_bytes = time.time(), sum(size for _, _, size in found)
    for used, path, size in sorted(found):
        stale = path.suffix == ".tmp" and now - used > _STALE
        if stale or (used_bytes > size_limit() and path != newest and path.suffix != ".tmp"):
            with contextlib.suppress(OSError):
                path.unlink()
            used_bytes -= size


def _files(directory: Path) -> Iterator[tuple[float, Path, int]]:
    """The cache's files as (time of last use, path, size)."""
    try:
        for path in directory.iterdir():
            if path.suffix in (".onnx", ".refused", ".tmp"):
                with contextlib.suppress(OSError):
                    facts = path.lstat()
                    yield facts.st_mtime, path, facts.st_size
    except OSError:
        return


def _seal(question: Question, content: bytes) -> bytes:
    """Bytes that, behind a serialised model, add the question and a digest of everything before: protobuf merges messages."""
    asked = _entry(_QUESTION, question.text())
    return asked + _entry(_DIGEST, hashlib.sha256(content + asked).hexdigest())


def _entry(key: str, value: str) -> bytes:
    entry = onnx.StringStringEntryProto(key=key, value=value)
    serialised: bytes = onnx.ModelProto(metadata_props=[entry]).SerializeToString()
    return serialised


def _refusal(question: Question) -> bytes:
    return f"can't be compiled: {question.text()}".encode()


def _question_of(content: bytes | None) -> Question | None:
    """The question that a file says it answers, None where it says none."""
    try:
        model = onnx.ModelProto.FromString(content or b"")
        subject, sweep = json.loads(next(e.value for e in reversed(model.metadata_props) if e.key == _QUESTION))
        return Question(str(subject), str(sweep))
    except (DecodeError, StopIteration, ValueError, TypeError):
        return None


def digest_of(paths: Mapping[str, Path]) -> str:
    """A digest of files: their names and contents."""
    state = hashlib.sha256()
    for name, path in sorted(paths.items()):
        with path.open("rb") as handle:
            state.update(f"{name}\0{hashlib.file_digest(handle, 'sha256').hexdigest()}\0".encode())
    return state.hexdigest()
