"""Stored tensors: whether type, shape and bytes agree, and their values as arrays.

Belongs here: everything about one TensorProto. Not here: where external files may lie (``external``), which tensors a
model has (``validation``).
"""

from __future__ import annotations

import functools
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from onnx import SparseTensorProto, TensorProto, helper

from analyzer.errors import InputError
from analyzer.importer import external
from analyzer.importer._load_text import decoded, quoted

LARGEST_COUNT = 2**63 - 1
CHUNK = 2**24
# As many as NumPy has.
MOST_AXES = 64
RE_EXPORT = "re-export the model"

# Types that share a byte between elements, and how many bits one takes.
BITS: dict[int, int] = {
    TensorProto.UINT4: 4,
    TensorProto.INT4: 4,
    TensorProto.FLOAT4E2M1: 4,
    TensorProto.UINT2: 2,
    TensorProto.INT2: 2,
    TensorProto.FLOAT6E2M3: 6,
    TensorProto.FLOAT6E3M2: 6,
}
TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


class ElementType(NamedTuple):
    """How an ONNX element type is stored."""

    dtype: np.dtype[Any]
    field: str
    bits: int


class Layout(NamedTuple):
    """What a tensor declares: element type, shape, elements, and the bytes they take as raw data."""

    element: ElementType
    shape: tuple[int, ...]
    elements: int
    nbytes: int


@functools.cache
def element_type(code: int) -> ElementType | None:
    """Storage of the element type `code`; None where the installed onnx doesn't know it."""
    if code == TensorProto.UNDEFINED or code not in TensorProto.DataType.values():
        return None
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(code))
    return ElementType(dtype, helper.tensor_dtype_to_field(code), BITS.get(code, dtype.itemsize * 8))


def layout(tensor: TensorProto) -> Layout:
    """Type and shape of a tensor, checked for themselves.

    Raises
    ------
    InputError
        ``tensor.bad_dtype``, ``tensor.bad_shape``.
    """
    element = element_type(tensor.data_type)
    if element is None:
        names = {number: name for name, number in TensorProto.DataType.items()}
        raise InputError(
            "tensor.bad_dtype",
            f"tensor {quoted(tensor.name)}: unknown element type {names.get(tensor.data_type, tensor.data_type)}",
            "re-export the model, or update the onnx package",
        )
    shape = tuple(tensor.dims)
    if len(shape) > MOST_AXES:
        raise InputError(
            "tensor.bad_shape", f"tensor {quoted(tensor.name)}: {len(shape)} axes, at most {MOST_AXES} fit", RE_EXPORT
        )
    if any(size < 0 for size in shape):
        raise InputError(
            "tensor.bad_shape", f"tensor {quoted(tensor.name)}: negative size in shape {shown_shape(shape)}", RE_EXPORT
        )
    if math.prod(size for size in shape if size) > LARGEST_COUNT // max(element.bits // 8, 1):
        raise InputError(
            "tensor.bad_shape",
            f"tensor {quoted(tensor.name)}: shape {shown_shape(shape)} has more elements than can be addressed",
            RE_EXPORT,
        )
    count = math.prod(shape)
    return Layout(element, shape, count, -(-count * element.bits // 8))


def shown_shape(shape: tuple[int, ...]) -> str:
    """A shape for a message; a long one is cut."""
    return str(list(shape)) if len(shape) <= 12 else f"[{', '.join(map(str, shape[:12]))}, … {len(shape)} sizes]"


def check(tensor: TensorProto, folder: Path | None) -> tuple[int, external.ExternalTensor | None, str]:
    """Hold a tensor's stored bytes against its type and shape, and look for NaN and infinity in them.

    Returns
    -------
    nbytes, external, nonfinite
        Bytes of its values; the file range where they lie elsewhere; what isn't finite among them, or "".

    Raises
    ------
    InputError
        ``tensor.*`` and ``external.*``.
    """
    facts = layout(tensor)
    if tensor.HasField("segment"):
        raise InputError("tensor.size_mismatch", f"tensor {quoted(tensor.name)}: is stored in segments", RE_EXPORT)
    if external.is_external(tensor):
        if facts.element.dtype == object:
            raise InputError("tensor.bad_dtype", f"tensor {quoted(tensor.name)}: text as external data", RE_EXPORT)
        entry = external.resolve(tensor, folder, facts.nbytes)
        return facts.nbytes, entry, _nonfinite_in_file(entry, facts.element)
    values = _stored(tensor, facts)
    return facts.nbytes, None, describe_nonfinite(values)


def to_numpy(tensor: TensorProto, folder: Path | None) -> np.ndarray:
    """The values of a tensor as a read-only array; see :func:`analyzer.importer.loading.tensor_to_numpy`."""
    facts = layout(tensor)
    if not external.is_external(tensor):
        array = _unpacked(_stored(tensor, facts), facts)
    elif not facts.elements:
        array = np.empty(facts.shape, facts.element.dtype)
    else:
        entry = external.resolve(tensor, folder, facts.nbytes)
        with external.opened(entry) as stream:
            mapped = np.memmap(stream, np.uint8, "r", entry.offset, (entry.length,))
        array = _unpacked(_typed(np.asarray(mapped), facts.element), facts)
    array.setflags(write=False)
    return array


def map_numpy(tensor: TensorProto, entry: external.ExternalTensor) -> np.ndarray:
    """The values of a tensor that lie in the model's own file, at the offset that was found while checking it.

    Raises
    ------
    InputError
        ``model.changed`` where the file is gone or has become shorter since.
    """
    facts = layout(tensor)
    try:
        mapped = np.memmap(entry.path, np.uint8, "r", entry.offset, (entry.length,))
    except (OSError, ValueError) as fault:
        raise InputError(
            "model.changed", f"{entry.path} has changed since it was loaded: {fault}", "load it again"
        ) from None
    array = _unpacked(_typed(np.asarray(mapped), facts.element), facts)
    array.setflags(write=False)
    return array


def check_sparse(sparse: SparseTensorProto) -> int:
    """Hold a sparse tensor's indices against its shape; the bytes it takes when made dense.

    Raises
    ------
    InputError
        ``tensor.bad_shape``, ``tensor.bad_dtype``.
    """
    name = quoted(sparse.values.name)
    values, indices = layout(sparse.values), layout(sparse.indices)
    shape = tuple(sparse.dims)
    dense = TensorProto(name=decoded(sparse.values.name), data_type=sparse.values.data_type, dims=shape)
    facts = layout(dense)
    if sparse.indices.data_type != TensorProto.INT64:
        raise InputError("tensor.bad_dtype", f"sparse tensor {name}: its indices aren't int64", RE_EXPORT)
    if len(values.shape) != 1 or indices.shape not in ((values.elements,), (values.elements, len(shape))):
        raise InputError(
            "tensor.bad_shape",
            f"sparse tensor {name}: {shown_shape(values.shape)} values don't go with "
            f"{shown_shape(indices.shape)} indices",
            RE_EXPORT,
        )
    return facts.nbytes


def check_sparse_indices(sparse: SparseTensorProto, folder: Path | None) -> None:
    """Raise ``tensor.bad_shape`` where an index of a checked sparse tensor lies outside its shape."""
    indices = to_numpy(sparse.indices, folder)
    limit = np.array(sparse.dims if indices.ndim == 2 else [math.prod(sparse.dims)], np.int64)
    if indices.size and (indices.min() < 0 or (indices.reshape(-1, len(limit)) >= limit).any()):
        raise InputError(
            "tensor.bad_shape",
            f"sparse tensor {quoted(sparse.values.name)}: an index lies outside its shape "
            f"{shown_shape(tuple(sparse.dims))}",
            RE_EXPORT,
        )


def describe_nonfinite(values: np.ndarray) -> str:
    """``NaN``, ``infinite`` or "" for the values of a tensor.

    Minus infinity beside one other value at most is an attention mask, not a fault.
    """
    if values.dtype.kind in "biuOUS" or not values.size:
        return ""
    flat = values.reshape(-1)
    if flat.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    has_nan = has_plus = has_minus = False
    lowest, highest = math.inf, -math.inf
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK]
        if chunk.dtype.kind != "f":
            # The narrow float types of ml_dtypes; those without NaN or infinity pass unchanged.
            chunk = chunk.astype(np.float32)
        # NaN and infinity survive min and max, which make no copy.
        if math.isfinite(chunk.min()) and math.isfinite(chunk.max()):
            lowest, highest = min(lowest, float(chunk.min())), max(highest, float(chunk.max()))
            continue
        finite = chunk[np.isfinite(chunk)]
        if finite.size:
            lowest, highest = min(lowest, float(finite.min())), max(highest, float(finite.max()))
        has_nan |= bool(np.isnan(chunk).any())
        has_plus |= bool(np.isposinf(chunk).any())
        has_minus |= bool(np.isneginf(chunk).any())
    if has_nan:
        return "NaN"
    return "infinite" if has_plus or (has_minus and lowest < highest) else ""


def _stored(tensor: TensorProto, facts: Layout) -> np.ndarray:
    """The stored values, flat, checked for their number; where several share a byte, still packed, as uint8."""
    element = facts.element
    typed = [name for name in TYPED_FIELDS if len(getattr(tensor, name))]
    # A copy of the bytes: the only one on the way to the array.
    raw = tensor.raw_data if tensor.HasField("raw_data") else b""
    if raw and typed:
        raise InputError("tensor.size_mismatch", f"tensor {quoted(tensor.name)}: holds its values twice", RE_EXPORT)
    if element.dtype != object and (raw or (not typed and facts.elements == 0)):
        if len(raw) != facts.nbytes:
            raise _mismatch(tensor, facts, f"{facts.nbytes} bytes", len(raw))
        return _typed(np.frombuffer(raw, np.uint8), element)
    values = getattr(tensor, element.field)
    per_element = 2 if element.dtype.kind == "c" else 1
    # Elements of 4 and 2 bits share an entry as they share a byte; those of 6 bits have one each.
    expected = facts.nbytes if element.bits in (2, 4) else facts.elements * per_element
    if len(values) != expected or (typed and typed != [element.field]):
        raise _mismatch(tensor, facts, f"{expected} values in {element.field}", len(values) or len(raw))
    return _from_field(values, element)


def _from_field(values: Any, element: ElementType) -> np.ndarray:
    if element.dtype == object:
        return np.array([*map(decoded, values), None], object)[:-1]
    if element.dtype.kind == "c":
        parts = np.array(values, np.dtype(f"f{element.dtype.itemsize // 2}"))
        return parts.view(element.dtype)
    if element.field != "int32_data" or element.dtype == np.int32:
        return np.array(values, np.dtype({"uint64_data": np.uint64}.get(element.field, element.dtype))).astype(
            element.dtype, copy=False
        )
    words = np.array(values, np.int32).view(np.uint32)
    if element.dtype == bool:
        return words.astype(bool)
    if element.bits in (2, 4):
        return words.astype(np.uint8)
    if element.bits == 6:
        words &= np.uint32(0x3F)
    return words.astype(np.dtype(f"u{element.dtype.itemsize}")).view(element.dtype)


def _typed(raw: np.ndarray, element: ElementType) -> np.ndarray:
    """Little-endian bytes as values; sub-byte types stay bytes."""
    if element.bits < 8:
        return raw
    if sys.byteorder == "big" and element.dtype.itemsize > 1:
        width = element.dtype.itemsize // (2 if element.dtype.kind == "c" else 1)
        raw = raw.view(np.dtype(f"u{width}")).byteswap().view(np.uint8)
    return raw.view(element.dtype)


def _unpacked(values: np.ndarray, facts: Layout) -> np.ndarray:
    """Sub-byte values spread to one byte each, everything in its shape."""
    bits = facts.element.bits
    if values.dtype == facts.element.dtype:
        return values.reshape(facts.shape)
    if bits == 6:
        # Four elements lie in three bytes, lowest bits first.
        stream = np.unpackbits(values, bitorder="little")[: facts.elements * 6].reshape(-1, 6)
        spread = np.packbits(stream, axis=1, bitorder="little").reshape(-1)
    else:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        spread = ((values[:, None] >> shifts) & np.uint8(2**bits - 1)).reshape(-1)[: facts.elements]
    return spread.view(facts.element.dtype).reshape(facts.shape)


def _nonfinite_in_file(entry: external.ExternalTensor, element: ElementType) -> str:
    """As :func:`describe_nonfinite`, reading an external file piece by piece instead of mapping it."""
    if element.dtype.kind in "biu" or element.bits < 8:
        return ""
    found = ""
    with external.opened(entry) as stream:
        left = entry.length
        while left and (piece := stream.read(min(left, CHUNK))):
            left -= len(piece)
            found = describe_nonfinite(_typed(np.frombuffer(piece, np.uint8), element)) or found
            if found == "NaN":
                break
    return found


def _mismatch(tensor: TensorProto, facts: Layout, needed: str, got: int) -> InputError:
    return InputError(
        "tensor.size_mismatch",
        f"tensor {quoted(tensor.name)}: {facts.element.dtype} {shown_shape(facts.shape)} needs {needed}, has {got}",
        "re-export or download the model again",
    )
