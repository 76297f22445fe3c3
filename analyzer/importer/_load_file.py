"""A path becomes bytes: the checks that need no parser, and what a file that is no ONNX model looks like instead.

Belongs here: opening, reading, telling file kinds by their first bytes. Not here: anything about protobuf
(``_load_wire``).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from analyzer.errors import InputError, UsageError
from analyzer.importer._load_limits import Limits, human
from analyzer.importer._load_text import did_you_mean, quoted
from analyzer.importer.checked_files import Stamp

HEAD = 4096
EXPORT_TORCH = "export the model with torch.onnx.export and give the .onnx file"
EXPORT_ANY = "export the model to ONNX (torch.onnx.export, tf2onnx, skl2onnx) and give the .onnx file"
UNPACK = "unpack it and give the .onnx file inside"

# (offset, first bytes, what it is, what to do)
MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image", "give the model first, then the input"),
    (0, b"\xff\xd8\xff", "a JPEG image", "give the model first, then the input"),
    (0, b"GIF8", "a GIF image", "give the model first, then the input"),
    (8, b"WEBP", "a WebP image", "give the model first, then the input"),
    (0, b"%PDF-", "a PDF document", ""),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras weights?)", "convert the Keras model with tf2onnx"),
    (0, b"\x1f\x8b", "a gzip archive", UNPACK),
    (0, b"BZh", "a bzip2 archive", UNPACK),
    (0, b"\xfd7zXZ\x00", "an xz archive", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"\x93NUMPY", "a NumPy array", "give the model first, then the input"),
    (4, b"TFL3", "a TensorFlow Lite model", "convert the original model with tf2onnx"),
    (4, b"ORTM", "an ORT-format model", "give the .onnx file it was made from"),
    (0, b"GGUF", "a GGUF model", EXPORT_ANY),
    (8, b'{"', "a safetensors file", EXPORT_TORCH),
    (0, b"\x7fELF", "a program (ELF)", ""),
    (0, b"SQLite format 3", "an SQLite database", ""),
    (0, b"PAR1", "a Parquet file", ""),
)


def read_file(path: Path, limits: Limits) -> tuple[bytes, Stamp]:
    """The bytes of a model file, and what tells it from any other.

    Raises
    ------
    UsageError
        ``model.not_found``.
    InputError
        ``model.is_directory``, ``model.not_regular``, ``model.unreadable``, ``model.empty``, ``model.lfs_pointer``,
        ``model.not_onnx``, ``model.changed``, ``limit.file_size``, ``limit.memory``.
    """
    try:
        if path.is_dir():
            raise _is_directory(path)
        # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError("model.not_found", "no such file", _near_file(path)) from None
    except ValueError:
        raise UsageError("model.not_found", "not a possible file name", "check the path") from None
    except OSError as fault:
        if fault.errno == errno.ENAMETOOLONG:
            raise UsageError("model.not_found", "not a possible file name", "check the path") from None
        reason = fault.strerror or type(fault).__name__
        raise InputError("model.unreadable", f"can't be opened: {reason}", "check the permissions") from None
    # Unbuffered: reading a file of known size then makes exactly one copy.
    with os.fdopen(handle, "rb", buffering=0) as stream:
        facts = os.fstat(stream.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise InputError("model.not_regular", "is a pipe, socket or device, not a file", "give a regular file")
        try:
            head = stream.read(HEAD)
            refuse_other_kinds(head, facts.st_size)
            refuse_too_large(facts.st_size, limits)
            stream.seek(0)
            content = stream.readall()
            if Stamp.of(os.fstat(stream.fileno())) != Stamp.of(facts):
                raise InputError("model.changed", "was written to while it was read", "load it again")
            return content, Stamp.of(facts)
        except OSError as fault:
            raise InputError("model.unreadable", f"can't be read: {fault.strerror}", "check the disk") from None


def refuse_too_large(size: int, limits: Limits) -> None:
    """Raise ``limit.file_size`` or ``limit.memory`` for a file of `size` bytes that must not be read."""
    if size > limits.file_bytes:
        raise InputError(
            "limit.file_size",
            f"has {human(size)}, a model file may have {human(limits.file_bytes)}",
            "save large weights as external data beside the model",
        )
    # The bytes and the parsed model are in memory at the same time.
    if 2 * size > limits.memory_bytes:
        raise InputError(
            "limit.memory",
            f"reading {human(size)} takes twice that, more than the budget of {human(limits.memory_bytes)}",
            "use a machine with more memory",
        )


def refuse_other_kinds(head: bytes, size: int) -> None:
    """Raise ``model.empty``, ``model.lfs_pointer`` or ``model.not_onnx`` for what the first bytes give away."""
    if not size:
        raise InputError("model.empty", "the file is empty", "download or export it again")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(
            "model.lfs_pointer", "is a git-lfs pointer, not the model itself", "fetch the model with `git lfs pull`"
        )
    if head.startswith(b"PK\x03\x04"):
        raise _not_onnx(*_archive_kind(head))
    if head[:1] == b"\x80" and len(head) > 1 and 2 <= head[1] <= 5:
        raise _not_onnx("a pickle (PyTorch or scikit-learn?)", EXPORT_ANY)
    for offset, magic, kind, hint in MAGIC:
        if head.startswith(magic, offset):
            raise _not_onnx(kind, hint)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        raise _not_onnx("an HTML page", "the download link led to a page; fetch the file itself")
    if start.startswith(b"<?xml"):
        raise _not_onnx("XML", EXPORT_ANY)


def looks_like(head: bytes) -> str:
    """What a file that doesn't parse looks like: ``JSON``, ``text`` or nothing in particular."""
    if not head.strip(b"\0"):
        return "nothing but zero bytes"
    try:
        # The head may end within a character.
        text = head.decode("utf-8") if len(head) < HEAD else head.decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return ""
    if not all(c.isprintable() or c in "\t\r\n\f" for c in text):
        return ""
    return "JSON" if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[") else "text"


def _archive_kind(head: bytes) -> tuple[str, str]:
    if b"data.pkl" in head or b"/version" in head:
        return "a PyTorch checkpoint (ZIP)", EXPORT_TORCH
    if b".npy" in head:
        return "an .npz archive of arrays", "give the model first, then the input"
    if b"metadata.json" in head or b".weights.h5" in head:
        return "a Keras model (ZIP)", "export it with model.export(path, format='onnx') or tf2onnx"
    return "a ZIP archive", UNPACK


def _not_onnx(kind: str, hint: str) -> InputError:
    return InputError("model.not_onnx", f"is {kind}, not an ONNX model", hint)


def _is_directory(path: Path) -> InputError:
    inside = sorted(p.name for p in path.glob("*.onnx"))[:1]
    hint = f"give the file, for example {quoted(inside[0])} in it" if inside else "give the .onnx file in it"
    return InputError("model.is_directory", "is a folder, not a model file", hint)


def _near_file(path: Path) -> str:
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry, _ in zip(entries, range(5000), strict=False)]
    except (OSError, ValueError):
        return f"there is no folder {quoted(str(path.parent))} either"
    return did_you_mean(path.name, names) or "check the path"
