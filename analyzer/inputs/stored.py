"""Arrays in files whose rows are read one by one: what lies unpacked in a file needn't fit into memory.

Belongs here: where the rows of a ``.npy`` file, or of an array in an ``.npz`` archive, lie. Not here: reading whole arrays
(``arrays``), what the rows are for (``analyzer.data``).
"""

from __future__ import annotations

import functools
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError
from analyzer.inputs.arrays import members_of, read_array, read_header
from analyzer.inputs.files import open_regular, size_of


@dataclass(frozen=True)
class StoredArray:
    """An array in a file.

    Attributes
    ----------
    path, key
        The file and, in an archive, the array's name.
    shape, dtype
        As it is stored.
    start
        Where its values begin in the file; None where they are packed, or lie there column by column: then all of them are read
        when the first is wanted, and kept.
    """

    path: Path
    key: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int | None

    def row(self, at: int) -> NDArray[Any]:
        """One entry along the first axis, without that axis.

        Raises
        ------
        InputError
            ``data.array_unreadable``, ``limit.memory``.
        """
        if self.start is None:
            return np.asarray(self.whole[at])
        shape = self.shape[1:]
        size = math.prod(shape) * self.dtype.itemsize
        with open_regular(self.path) as handle:
            handle.seek(self.start + at * size)
            content = handle.read(size)
        if len(content) != size:
            raise InputError("data.array_unreadable", f"{self.path} is cut off at row {at}", "copy it again")
        return np.frombuffer(content, self.dtype).reshape(shape).copy() if size else np.empty(shape, self.dtype)

    def entry(self, at: int, axis: int) -> NDArray[Any]:
        """One entry along an axis, which stays with a length of one; see :meth:`row`."""
        return self.row(at)[None] if axis == 0 else self.whole.take([at], axis)

    @functools.cached_property
    def whole(self) -> NDArray[Any]:
        """All of it; raises as :func:`~analyzer.inputs.arrays.read_array` does."""
        return read_array(self.path, self.key).values


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of a file by name, the only one of a ``.npy`` file by an empty one; nothing but their heads is read.

    Raises
    ------
    InputError
        ``data.array_unreadable``, ``data.pickle_refused``, ``data.bad_dtype``, ``data.not_regular``.
    UsageError
        ``data.missing``.
    """
    with open_regular(path) as handle:
        if handle.read(2) != b"PK":
            handle.seek(0)
            shape, fortran, dtype = read_header(str(path), handle)
            _require_whole(path, shape, dtype, handle.tell(), size_of(handle))
            return {"": StoredArray(path, None, shape, dtype, None if fortran else handle.tell())}
        try:
            with zipfile.ZipFile(handle) as archive:
                found = {name: _member(path, handle, archive, name) for name in members_of(archive)}
        except InputError:
            raise
        except Exception as problem:  # zipfile and its decompressors answer damaged archives in many ways
            why = (str(problem) or type(problem).__name__)[:120]
            raise InputError("data.array_unreadable", f"{path} is a damaged archive ({why})", "copy it again") from None
    if not found:
        raise InputError("data.array_unreadable", f"{path} is a zip archive without arrays", "save it with np.savez")
    return found


def _member(path: Path, handle: BinaryIO, archive: zipfile.ZipFile, name: str) -> StoredArray:
    """An array of an archive; where it lies unpacked, its values begin behind the entry's own head and the array's."""
    member = members_of(archive)[name]
    with archive.open(member) as stream:
        shape, fortran, dtype = read_header(f"{path}, array {name!r}", stream)
        inside = stream.tell()
    if fortran or member.compress_type != zipfile.ZIP_STORED:
        return StoredArray(path, name, shape, dtype, None)
    handle.seek(member.header_offset + 26)
    lengths = handle.read(4)
    begin = member.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    _require_whole(path, shape, dtype, begin + inside, begin + member.file_size)
    return StoredArray(path, name, shape, dtype, begin + inside)


def _require_whole(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], start: int, end: int) -> None:
    needed = math.prod(shape) * dtype.itemsize
    if needed > end - start:
        message = f"{path} is cut off: {needed:,} bytes declared, {end - start:,} there"
        raise InputError("data.array_unreadable", message, "copy it again")
