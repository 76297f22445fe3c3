"""The cache of compiled sweeps on disk: its folder, the names of its files, their digests, its size limit.

Belongs here: files and their names. Not here: what is compiled (``sweep_model``), looking up the sweeps of one model
(``sweep_cache``). Imports no torch.

``$ONNXPLAIN_CACHE`` names the folder; ``off`` disables the cache. Without it the folder is the user's cache folder. It holds
up to 2 GiB, or ``$ONNXPLAIN_CACHE_MIB`` MiB; beyond that the least recently used files are removed. Every file ends in a
digest of what comes before it, as a metadata entry of the ONNX model: a file that doesn't match its digest counts as absent.
Two processes may write at the same time: a file is written under a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from analyzer.errors import UsageError
from analyzer.files import write_atomically
from analyzer.versions import version

#: Version of the file format; raised with every change of what a file holds.
FORMAT = 1
#: Largest sweep in bytes that is cached unless the user chose the onnxruntime backend.
LARGEST = 256 * 2**20
_LIMIT_MIB = 2048
#: Temporary files older than this many seconds were left behind by a process that died.
_STALE = 3600.0
_DIGEST = "onnxplain.digest"


def folder() -> Path | None:
    """The cache folder; None where the cache is off."""
    setting = os.environ.get("ONNXPLAIN_CACHE", "")
    if setting.lower() == "off":
        return None
    if setting:
        return Path(setting)
    import platformdirs

    return Path(platformdirs.user_cache_dir("onnxplain", appauthor=False))


def size_limit() -> int:
    """How many bytes the folder may hold.

    Raises
    ------
    UsageError
        ``cache.size``.
    """
    setting = os.environ.get("ONNXPLAIN_CACHE_MIB", "")
    if setting and not setting.isdecimal():
        raise UsageError("cache.size", f"ONNXPLAIN_CACHE_MIB={setting!r} is no number", "give a whole number of MiB")
    return int(setting or _LIMIT_MIB) * 2**20


def name_of(**what: Any) -> str:
    """The name of a cached file from JSON-ready facts about its content; it differs between versions of this package."""
    text = json.dumps([FORMAT, code_version(), what], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@functools.cache
def code_version() -> str:
    """A digest of the code that makes compiled sweeps: versions of packages, and sizes and times of the source files."""
    root = Path(__file__).resolve().parent.parent
    packages = (root / "compiler", root / "engines", root / "importer", root.parent / "graph_rules")
    files = sorted(path for package in packages for path in package.rglob("*.py"))
    state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    versions = [version(name) for name in ("onnxplain", "torch")]
    return hashlib.sha256(repr((versions, state)).encode()).hexdigest()


def read(name: str) -> bytes | None:
    """A stored model, None where it is absent or damaged."""
    directory = folder()
    if directory is None:
        return None
    path = directory / f"{name}.onnx"
    try:
        content = path.read_bytes()
    except OSError:
        return None
    end = len(_digest_entry(b""))
    if len(content) <= end or _digest_entry(content[:-end]) != content[-end:]:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return content


def refused(name: str) -> bool:
    """Whether it is known that this can't be compiled."""
    directory = folder()
    return directory is not None and (directory / f"{name}.refused").exists()


def refuse(name: str, reason: str) -> str:
    """Remember that something can't be compiled; as :func:`write`."""
    return _store(f"{name}.refused", reason.encode())


def write(name: str, content: bytes, largest: int | None = LARGEST) -> str:
    """Store a model.

    Returns
    -------
    str
        Why it isn't stored; empty where it is.
    """
    limit = size_limit() if largest is None else min(largest, size_limit())
    if len(content) > limit:
        return f"it has {len(content) / 2**20:.0f} MiB, more than {limit / 2**20:.0f} MiB"
    return _store(f"{name}.onnx", content + _digest_entry(content))


def _store(name: str, content: bytes) -> str:
    directory = folder()
    if directory is None:
        return "ONNXPLAIN_CACHE is off"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(directory / name, lambda draft: draft.write_bytes(content))
    except OSError as problem:
        return f"can't write to {directory}: {problem.strerror or type(problem).__name__}"
    except UsageError as problem:
        return problem.message
    _evict(directory, directory / name)
    return ""


def stored_names(start: str) -> list[str]:
    """Names of stored models that begin with ``start``."""
    directory = folder()
    if directory is None:
        return []
    with contextlib.suppress(OSError):
        return sorted(path.stem for path in directory.glob(f"{start}*.onnx"))
    return []


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
                    facts = path.stat()
                    yield facts.st_mtime, path, facts.st_size
    except OSError:
        return


def _digest_entry(content: bytes) -> bytes:
    """Bytes that, appended to a serialised model, add its digest as a metadata entry: protobuf merges messages."""
    digest = hashlib.sha256(content).hexdigest()
    entry = onnx.StringStringEntryProto(key=_DIGEST, value=digest)
    sealed: bytes = onnx.ModelProto(metadata_props=[entry]).SerializeToString()
    return sealed


def digest_of(paths: Mapping[str, Path]) -> str:
    """A digest of files: their names and contents."""
    state = hashlib.sha256()
    for name, path in sorted(paths.items()):
        with path.open("rb") as handle:
            state.update(f"{name}\0{hashlib.file_digest(handle, 'sha256').hexdigest()}\0".encode())
    return state.hexdigest()
