"""Weights that lie beside the model file: which file, which bytes, and that the file may be trusted to be read.

A model names its external files, and a hostile one names ``/etc/passwd``: so the file must lie under the model's
folder, reached through real folders, be a regular file with one name, and hold the range that is asked for.

Belongs here: external data entries and files. Not here: what the bytes mean (``_load_tensors``).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from onnx import TensorProto

from analyzer.errors import InputError
from analyzer.importer._load_text import decoded, quoted
from analyzer.importer.checked_files import Stamp

ALLOWED_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
BESIDE = "put the data file beside the model, under its plain name"


@dataclass(frozen=True)
class ExternalTensor:
    """Where a tensor's bytes lie: `length` bytes from `offset` of the file `path`, which has the `stamp`."""

    path: Path
    offset: int
    length: int
    stamp: Stamp


def is_external(tensor: TensorProto) -> bool:
    """Whether the tensor's values lie in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def resolve(tensor: TensorProto, folder: Path | None, nbytes: int) -> ExternalTensor:
    """The contained file and byte range of a tensor's external data.

    Parameters
    ----------
    tensor
        A tensor for which :func:`is_external` holds.
    folder
        The folder of the model file; None where the model came without a file.
    nbytes
        What the tensor's type and shape need.

    Raises
    ------
    InputError
        ``external.bad_key``, ``external.escape``, ``external.symlink``, ``external.hardlink``,
        ``external.not_regular``, ``external.missing``, ``external.range``, ``tensor.size_mismatch``.
    """
    where = f"tensor {quoted(tensor.name)}"
    entries = _entries(tensor, where)
    if folder is None:
        raise InputError(
            "external.missing",
            f"{where}: its values lie in another file, and a model given as bytes has no folder to look in",
            "give the path of the model file",
        )
    path = contained(folder, entries.get("location", ""), where)
    offset = _number(entries.get("offset", "0"), "offset", where)
    length = _number(entries.get("length", "0"), "length", where)
    facts = _regular(path, where)
    # No length, or a length of 0, means as much as the tensor needs.
    needed = length or nbytes
    if offset + needed > facts.st_size:
        raise InputError(
            "external.range",
            f"{where}: needs bytes {offset} to {offset + needed} of {quoted(path.name)}, which has {facts.st_size}",
            "the data file is incomplete or another one: fetch it again",
        )
    if needed != nbytes:
        raise InputError(
            "tensor.size_mismatch",
            f"{where}: its type and shape need {nbytes} bytes, its external data has {length}",
            "re-export the model",
        )
    return ExternalTensor(path, offset, nbytes, Stamp.of(facts))


def contained(folder: Path, location: str, where: str) -> Path:
    """The path of an external file under `folder`, refused where it leads anywhere else."""
    if not location:
        raise InputError("external.not_regular", f"{where}: its external data names no file", "re-export the model")
    shown = quoted(location)
    parts = location.split("/")
    outside = (
        location.startswith(("/", "*/_ORT_MEM_ADDR_"))
        or "\\" in location
        or "\0" in location
        or ".." in parts
        or bool(PureWindowsPath(location).drive)
    )
    if outside:
        raise InputError("external.escape", f"{where}: external data {shown} leads out of the model's folder", BESIDE)
    path = folder
    for part in parts[:-1]:
        path = path / part
        if path.is_symlink():
            raise InputError(
                "external.escape",
                f"{where}: external data {shown} goes through the symbolic link {quoted(part)}",
                BESIDE,
            )
    return path / parts[-1]


@contextmanager
def opened(entry: ExternalTensor) -> Iterator[BinaryIO]:
    """The external file, opened for reading at the tensor's first byte; never through a symbolic link."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(entry.path, flags)
    except OSError as fault:
        raise InputError(
            "external.missing", f"{quoted(str(entry.path))} can't be opened: {fault.strerror}", "check the file"
        ) from None
    with os.fdopen(handle, "rb") as stream:
        facts = os.fstat(stream.fileno())
        if Stamp.of(facts) != entry.stamp:
            raise InputError(
                "model.changed", f"{quoted(str(entry.path))} has changed since it was looked at", "load it again"
            )
        stream.seek(entry.offset)
        yield stream


def _entries(tensor: TensorProto, where: str) -> dict[str, str]:
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        key = decoded(entry.key)
        if key not in ALLOWED_KEYS or key in entries:
            fault = "twice" if key in entries else f"; only {', '.join(sorted(ALLOWED_KEYS))} exist"
            raise InputError(
                "external.bad_key", f"{where}: external data has the key {quoted(key)} {fault}", "re-export the model"
            )
        entries[key] = decoded(entry.value)
    return entries


def _number(text: str, what: str, where: str) -> int:
    if not NUMBER.fullmatch(text):
        raise InputError(
            "external.range",
            f"{where}: external data has the {what} {quoted(text)}, not a number of bytes",
            "re-export the model",
        )
    return int(text)


def _regular(path: Path, where: str) -> os.stat_result:
    shown = quoted(path.name)
    try:
        facts = path.lstat()
    except (OSError, ValueError):
        raise InputError("external.missing", f"{where}: its data file {shown} is missing", BESIDE) from None
    if stat.S_ISLNK(facts.st_mode):
        raise InputError("external.symlink", f"{where}: its data file {shown} is a symbolic link", BESIDE)
    if not stat.S_ISREG(facts.st_mode):
        raise InputError("external.not_regular", f"{where}: its data file {shown} is no regular file", BESIDE)
    if facts.st_nlink > 1:
        raise InputError(
            "external.hardlink",
            f"{where}: its data file {shown} has {facts.st_nlink} names (hard links)",
            "copy the file instead of linking it",
        )
    return facts
