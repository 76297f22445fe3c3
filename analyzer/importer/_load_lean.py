"""A parsed model without its weights: they stay in the file and are mapped from there.

Belongs here: rewriting a serialised model so that large initializers of the main graph refer to the file they lie in, in
the way that ONNX refers to external data. Not here: reading the file (``_load_file``), checking it (``validation``; it
runs on the whole model before), giving values (``loading.tensor_to_numpy``).

Protobuf frees a message's memory as a whole, and gives bytes only as copies. So a model parsed whole costs its size for as
long as it lives, and once more for every weight that is looked at. Parsed from the rewritten bytes it costs its structure.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from onnx import TensorProto

from analyzer.importer.checked_files import Stamp
from analyzer.importer.external import ExternalTensor

#: Smaller initializers stay in the protobuf.
LARGE = 16_384

_GRAPH = (7 << 3) | 2
_INITIALIZER = (5 << 3) | 2
_NAME, _RAW, _LOCATION = (8 << 3) | 2, (9 << 3) | 2, 14 << 3


def without_weights(path: Path, stamp: Stamp) -> tuple[bytes, dict[str, ExternalTensor]] | None:
    """The model's bytes without large weights, and where those lie in the file.

    Parameters
    ----------
    path
        A file whose content has been walked and checked as a serialised ModelProto.
    stamp
        Of the file that was checked.

    Returns
    -------
    tuple or None
        None where there is nothing to gain, the bytes are laid out unusually, or the file is another one now.
    """
    with path.open("rb") as stream:
        if Stamp.of(os.fstat(stream.fileno())) != stamp:
            return None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            return _rewritten(view, path, stamp)


def _rewritten(view: memoryview, path: Path, stamp: Stamp) -> tuple[bytes, dict[str, ExternalTensor]] | None:
    outer = list(_fields(view, 0, len(view)))
    graphs = [(start, body, stop) for tag, start, body, stop in outer if tag == _GRAPH]
    if len(graphs) != 1:
        return None
    start, body, stop = graphs[0]
    found: dict[str, ExternalTensor] = {}
    parts: list[bytes | memoryview] = []
    for tag, begin, inner, end in _fields(view, body, stop):
        lean = _lean_tensor(view, inner, end, found, path, stamp) if tag == _INITIALIZER else None
        parts += [view[begin:end]] if lean is None else [_number(_INITIALIZER), _number(len(lean)), lean]
    if not found:
        return None
    graph = b"".join(parts)
    return b"".join([view[:start], _number(_GRAPH), _number(len(graph)), graph, view[stop:]]), found


def _lean_tensor(
    view: memoryview, body: int, stop: int, found: dict[str, ExternalTensor], path: Path, stamp: Stamp
) -> bytes | None:
    """An initializer whose raw data became a reference; None where it keeps its values."""
    fields = list(_fields(view, body, stop))
    raw = [(start, inner, end) for tag, start, inner, end in fields if tag == _RAW]
    names = [bytes(view[inner:end]) for tag, _, inner, end in fields if tag == _NAME]
    if len(raw) != 1 or len(names) != 1 or any(tag == _LOCATION for tag, *_ in fields):
        return None
    start, inner, end = raw[0]
    name = names[0].decode("utf-8", "replace")
    if end - inner < LARGE or name in found:
        return None
    found[name] = ExternalTensor(path, inner, end - inner, stamp)
    reference = TensorProto(data_location=TensorProto.EXTERNAL)
    for key, value in (("location", path.name), ("offset", str(inner)), ("length", str(end - inner))):
        reference.external_data.add(key=key, value=value)
    return b"".join([view[body:start], view[end:stop], reference.SerializeToString()])


def _fields(view: memoryview, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(tag, start of the field, start of its content, end) of each field of a message."""
    while position < end:
        start = position
        tag, position = _varint(view, position)
        kind = tag & 7
        body = position
        if kind == 2:
            size, body = _varint(view, position)
            position = body + size
        elif kind == 0:
            _, position = _varint(view, position)
        else:
            position += 8 if kind == 1 else 4
        yield tag, start, body, position


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
