"""Reading arrays safely: NumPy files, sound.

Belongs here: file formats, limits, and what each sample means. Not here: tables (``tables``), a model's shape and type
(``reading``).
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import wave
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError, UsageError
from analyzer.inputs.files import MEMORY_LIMIT, mebibytes, open_regular, read_bytes, sha256_of, size_of

# An archive that unpacks to this much from so little is a bomb: real data does not shrink 500-fold.
_BOMB_BYTES = 64 * 2**20
_BOMB_RATIO = 500


@dataclass(frozen=True)
class ArrayData:
    """An array from a file.

    Attributes
    ----------
    values
        As stored; float64 for tables, float32 for sound.
    sha256
        Of the file.
    notes
        What was chosen or converted.
    feature_names
        Column names of a table.
    sample_rate
        Samples a second of a sound.
    """

    values: NDArray[Any]
    sha256: str
    notes: tuple[str, ...] = ()
    feature_names: tuple[str, ...] | None = None
    sample_rate: int | None = None


def read_array(
    path: str | os.PathLike[str],
    key: str | None = None,
    prefer: Sequence[str] = ("input", "x"),
    limit: int = MEMORY_LIMIT,
) -> ArrayData:
    """Read a ``.npy`` file, or one array of a ``.npz`` archive, without ever unpickling.

    Sizes are checked from the header and the archive's directory before anything is allocated.

    Parameters
    ----------
    key
        Which array of an archive; by default its only one, or the first of ``prefer`` that is there.
    limit
        Bytes the array may take.

    Raises
    ------
    InputError
        ``limit.memory``, ``data.pickle_refused`` (object arrays), ``data.bad_dtype`` (structured arrays),
        ``data.array_unreadable``.
    UsageError
        ``data.npz_key`` where the key is wrong or the choice isn't clear.
    """
    with open_regular(path) as handle:
        digest = sha256_of(handle)
        if handle.read(2) == b"PK":
            values, notes = _from_archive(path, handle, key, prefer, limit)
            return ArrayData(values, digest, notes)
        handle.seek(0)
        return ArrayData(_read_npy(str(path), handle, size_of(handle), limit), digest)


def read_arrays(path: str | os.PathLike[str], limit: int = MEMORY_LIMIT) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """The array of a ``.npy`` file, or all arrays of a ``.npz`` archive by name; ``limit`` is of all together.

    Raises
    ------
    InputError, UsageError
        As :func:`read_array`.
    """
    with open_regular(path) as handle:
        if handle.read(2) != b"PK":
            handle.seek(0)
            return _read_npy(str(path), handle, size_of(handle), limit)
        with _archive(path, handle) as archive:
            found: dict[str, NDArray[Any]] = {}
            for name in members_of(archive):
                found[name] = _from_member(path, archive, name, limit - sum(each.nbytes for each in found.values()))
    if not found:
        raise InputError("data.array_unreadable", f"{path} is a zip archive without arrays", "save it with np.savez")
    return found


def _read_npy(where: str, handle: Any, available: int, limit: int) -> NDArray[Any]:
    """One array in npy format; ``available`` is how many bytes the file really has."""
    shape, fortran, dtype = read_header(where, handle)
    needed = math.prod(shape) * dtype.itemsize
    if needed > limit:
        raise InputError(
            "limit.memory", f"{where} needs {mebibytes(needed)}, more than {mebibytes(limit)}", "cut it up"
        )
    left = available - handle.tell()
    if needed > left:
        raise InputError(
            "data.array_unreadable", f"{where} is cut off: {needed:,} bytes declared, {left:,} there", "copy it again"
        )
    content = handle.read(needed)
    if len(content) != needed:
        raise InputError("data.array_unreadable", f"{where} is cut off", "copy it again")
    flat = np.frombuffer(content, dtype=dtype) if needed else np.empty(math.prod(shape), dtype=dtype)
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def read_header(where: str, handle: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type of an array in npy format; the handle then stands at its values.

    Raises
    ------
    InputError
        ``data.array_unreadable``, ``data.pickle_refused``, ``data.bad_dtype``.
    """
    try:
        version = np.lib.format.read_magic(handle)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(handle)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(handle)
        else:
            raise ValueError(f"npy version {version[0]}.{version[1]}")
    except Exception as problem:  # the header is a Python literal: damaged ones fail in many ways
        why = (str(problem) or type(problem).__name__)[:120]
        raise InputError(
            "data.array_unreadable", f"{where} is no NumPy array ({why})", "save it with np.save"
        ) from None
    if dtype.hasobject:
        raise InputError(
            "data.pickle_refused", f"{where} holds Python objects, which could run code when read", "save numbers only"
        )
    if dtype.names or dtype.subdtype or dtype.kind not in "biufSU":
        raise InputError("data.bad_dtype", f"{where} has type {dtype}", "save a plain array of numbers")
    if any(side < 0 for side in shape):
        raise InputError("data.array_unreadable", f"{where} claims shape {shape}", "save it with np.save")
    return shape, fortran, dtype


def _from_archive(
    path: Any, handle: BinaryIO, key: str | None, prefer: Sequence[str], limit: int
) -> tuple[NDArray[Any], tuple[str, ...]]:
    with _archive(path, handle) as archive:
        names = list(members_of(archive))
        name = _choose(path, names, key, prefer)
        values = _from_member(path, archive, name, limit)
    return values, (f"array {name!r} of {len(names)}",) if len(names) > 1 else ()


@contextmanager
def _archive(path: Any, handle: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """An archive, whatever is damaged in it one error."""
    try:
        with zipfile.ZipFile(handle) as archive:
            yield archive
    except (InputError, UsageError):
        raise
    except Exception as problem:  # zipfile and its decompressors answer damaged archives in many ways
        why = (str(problem) or type(problem).__name__)[:120]
        raise InputError("data.array_unreadable", f"{path} is a damaged archive ({why})", "copy it again") from None


def _from_member(path: Any, archive: zipfile.ZipFile, name: str, limit: int) -> NDArray[Any]:
    """One array of an archive, which must not be a bomb."""
    member = members_of(archive)[name]
    size, packed = member.file_size, max(1, member.compress_size)
    if size > limit + 2**20 or (size > _BOMB_BYTES and size > _BOMB_RATIO * packed):
        raise InputError(
            "limit.memory",
            f"{path}, array {name!r} unpacks from {mebibytes(packed)} to {mebibytes(size)}",
            "save it uncompressed with np.savez, or cut it up",
        )
    with archive.open(member) as stream:
        return _read_npy(f"{path}, array {name!r}", stream, size, limit)


def members_of(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """An archive's arrays by name."""
    return {m.filename.removesuffix(".npy"): m for m in archive.infolist() if m.filename.endswith(".npy")}


def _choose(path: Any, names: list[str], key: str | None, prefer: Sequence[str]) -> str:
    listing = ", ".join(repr(n) for n in names[:20]) + (", …" if len(names) > 20 else "")
    if not names:
        raise InputError("data.array_unreadable", f"{path} is a zip archive without arrays", "save it with np.savez")
    if key is not None:
        if key not in names:
            raise UsageError("data.npz_key", f"{path} has no array {key!r}", f"it has {listing}")
        return key
    if len(names) == 1:
        return names[0]
    for name in prefer:
        if name in names:
            return name
    raise UsageError(
        "data.npz_key", f"{path} has {len(names)} arrays and none is called 'input'", f"name one of {listing}"
    )


def read_wav(path: str | os.PathLike[str], limit: int = MEMORY_LIMIT // 4) -> ArrayData:
    """Read PCM sound of 8, 16, 24 or 32 bits as float32 in [-1, 1]: (T,) for one channel, (channels, T) for more.

    Raises
    ------
    InputError
        ``data.sound_unreadable`` for other encodings, damaged or empty files; ``limit.memory``.
    """
    content = bytearray(read_bytes(path, limit))
    digest = hashlib.sha256(content).hexdigest()
    start = content.find(b"fmt ")
    # The "extensible" header holds plain PCM in most 24-bit files; Python's reader knows it from 3.12 on only.
    if content[start + 8 : start + 10] == b"\xfe\xff" and content[start + 32 : start + 34] == b"\x01\x00":
        content[start + 8 : start + 10] = b"\x01\x00"
    try:
        with wave.open(io.BytesIO(content), "rb") as sound:
            channels, width, rate = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
            raw = sound.readframes(sound.getnframes())
    except Exception as problem:  # struct, EOF, wave.Error, by where the damage sits
        why = (str(problem) or type(problem).__name__)[:120]
        hint = "convert it with: ffmpeg -i IN -c:a pcm_s16le OUT.wav"
        raise InputError("data.sound_unreadable", f"{path} is no PCM sound ({why})", hint) from None
    count = len(raw) // (width * channels)
    if count == 0 or rate <= 0:
        raise InputError("data.sound_unreadable", f"{path} has no samples", "copy or record it again")
    if width not in (1, 2, 3, 4):
        raise InputError("data.sound_unreadable", f"{path} has {width * 8} bits a sample", "convert it to 16-bit PCM")
    samples = _pcm(raw[: count * width * channels], width).reshape(count, channels)
    values = samples[:, 0] if channels == 1 else samples.T
    return ArrayData(np.ascontiguousarray(values), digest, (f"{rate} Hz, {width * 8} bits",), sample_rate=rate)


def _pcm(raw: bytes, width: int) -> NDArray[np.float32]:
    """Little-endian PCM as float32: full scale is 2**(bits-1); 8-bit samples are unsigned around 128."""
    if width == 1:
        return np.asarray((np.frombuffer(raw, np.uint8) - 128.0) / 128.0, dtype=np.float32)
    if width == 3:
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return np.asarray(padded.view("<i4")[:, 0] / 2.0**31, dtype=np.float32)
    return np.asarray(np.frombuffer(raw, f"<i{width}") / 2.0 ** (8 * width - 1), dtype=np.float32)
