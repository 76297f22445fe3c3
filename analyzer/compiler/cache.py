"""Compiled sweeps kept on disk: where, under which name, checked, bounded in size.

Belongs here: files and their names. Not here: what is compiled (``sweep_model``), who asks for it
(``sweep_cache``). Imports no torch.

``$ONNXPLAIN_CACHE`` names the folder; ``off`` keeps nothing. Without it the folder is the user's cache folder. It holds up
to 2 GiB, or ``$ONNXPLAIN_CACHE_MIB`` MiB; beyond that what was used longest ago goes first. Every file ends in a digest of
what comes before it, as a metadata entry of the ONNX model: a file that doesn't fit its digest counts as absent. Two
processes may write at once: a file is written under a temporary name and renamed.
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

#: Grows with every change of what a file holds.
FORMAT = 1
#: Largest file that is kept without being asked for, in bytes.
LARGEST = 256 * 2**20
_TOTAL_MIB = 2048
#: Temporary files older than this many seconds were left by a process that died.
_STALE = 3600.0
_DIGEST = "onnxplain.digest"


def folder() -> Path | None:
    """Where files lie; None where nothing is kept."""
    given = os.environ.get("ONNXPLAIN_CACHE", "")
    if given.lower() == "off":
        return None
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_cache_dir("onnxplain", appauthor=False))


def total() -> int:
    """How many bytes the folder may hold.

    Raises
    ------
    UsageError
        ``cache.size``.
    """
    given = os.environ.get("ONNXPLAIN_CACHE_MIB", "")
    if given and not given.isdecimal():
        raise UsageError("cache.size", f"ONNXPLAIN_CACHE_MIB={given!r} is no number", "give a whole number of MiB")
    return int(given or _TOTAL_MIB) * 2**20


def name_of(**what: Any) -> str:
    """A name for what a set of facts, JSON-ready, describes; another version of this package gives another name."""
    text = json.dumps([FORMAT, code(), what], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@functools.cache
def code() -> str:
    """The version of everything that a compiled sweep is made by, files that were edited since included."""
    root = Path(__file__).resolve().parent.parent
    rooms = (root / "compiler", root / "engines", root / "importer", root.parent / "graph_rules")
    files = sorted(path for room in rooms for path in room.rglob("*.py"))
    state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    versions = [version(name) for name in ("onnxplain", "torch")]
    return hashlib.sha256(repr((versions, state)).encode()).hexdigest()


def read(name: str) -> bytes | None:
    """A kept model, None where it is absent or damaged."""
    place = folder()
    if place is None:
        return None
    path = place / f"{name}.onnx"
    try:
        content = path.read_bytes()
    except OSError:
        return None
    end = len(_seal(b""))
    if len(content) <= end or _seal(content[:-end]) != content[-end:]:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return content


def refused(name: str) -> bool:
    """Whether it is known that this can't be compiled."""
    place = folder()
    return place is not None and (place / f"{name}.refused").exists()


def refuse(name: str, reason: str) -> str:
    """Remember that something can't be compiled; as :func:`write`."""
    return _put(f"{name}.refused", reason.encode())


def write(name: str, content: bytes, largest: int | None = LARGEST) -> str:
    """Keep a model.

    Returns
    -------
    str
        Why it isn't kept; empty where it is.
    """
    limit = total() if largest is None else min(largest, total())
    if len(content) > limit:
        return f"it has {len(content) / 2**20:.0f} MiB, more than {limit / 2**20:.0f} MiB"
    return _put(f"{name}.onnx", content + _seal(content))


def _put(name: str, content: bytes) -> str:
    place = folder()
    if place is None:
        return "ONNXPLAIN_CACHE is off"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(place / name, lambda draft: draft.write_bytes(content))
    except OSError as problem:
        return f"can't write to {place}: {problem.strerror or type(problem).__name__}"
    except UsageError as problem:
        return problem.message
    _tidy(place, place / name)
    return ""


def names(start: str) -> list[str]:
    """Kept models whose names begin so."""
    place = folder()
    if place is None:
        return []
    with contextlib.suppress(OSError):
        return sorted(path.stem for path in place.glob(f"{start}*.onnx"))
    return []


def _tidy(place: Path, keep: Path) -> None:
    """Remove what was used longest ago until the rest fits, and what died half-written."""
    found = list(_files(place))
    now, left = time.time(), sum(size for _, _, size in found)
    for used, path, size in sorted(found):
        stale = path.suffix == ".tmp" and now - used > _STALE
        if stale or (left > total() and path != keep and path.suffix != ".tmp"):
            with contextlib.suppress(OSError):
                path.unlink()
            left -= size


def _files(place: Path) -> Iterator[tuple[float, Path, int]]:
    """Our files with when they were used and their sizes."""
    try:
        for path in place.iterdir():
            if path.suffix in (".onnx", ".refused", ".tmp"):
                with contextlib.suppress(OSError):
                    facts = path.stat()
                    yield facts.st_mtime, path, facts.st_size
    except OSError:
        return


def _seal(content: bytes) -> bytes:
    """The digest of a serialised model as bytes that, behind it, add a metadata entry: protobuf merges messages."""
    digest = hashlib.sha256(content).hexdigest()
    entry = onnx.StringStringEntryProto(key=_DIGEST, value=digest)
    sealed: bytes = onnx.ModelProto(metadata_props=[entry]).SerializeToString()
    return sealed


def digest_of(paths: Mapping[str, Path]) -> str:
    """A digest of whole files by name."""
    state = hashlib.sha256()
    for name, path in sorted(paths.items()):
        with path.open("rb") as handle:
            state.update(f"{name}\0{hashlib.file_digest(handle, 'sha256').hexdigest()}\0".encode())
    return state.hexdigest()
