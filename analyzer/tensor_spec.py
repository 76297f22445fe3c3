"""Names, element types and shapes of a model's inputs and outputs, and fitting arrays to them.

Belongs here: reading value infos and checking arrays. Not here: reading files (``inputs``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from analyzer.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """Element type and shape of an input or output.

    Attributes
    ----------
    shape
        A dynamic dimension is its name or None.
    ranked
        Whether the shape is declared at all; where it isn't, ``shape`` is empty, as a scalar's is.
    """

    dtype: str
    shape: tuple[int | str | None, ...]
    ranked: bool = True

    def __str__(self) -> str:
        if not self.ranked:
            return f"{self.dtype} of any rank"
        return f"{self.dtype} [{', '.join('?' if d is None else str(d) for d in self.shape)}]"


def batch_axis(shape: tuple[int | str | None, ...], first: int | str | None, value: Array, batch: int) -> int | None:
    """Which axis of an input counts the samples; None where none does.

    Parameters
    ----------
    shape
        The input's declared dimensions.
    first
        The model's declared batch dimension: inputs may have it elsewhere than in front under the same name.
    value, batch
        The input's value, and how many samples there are.
    """
    if isinstance(first, str) and first in shape and value.ndim == len(shape):
        return shape.index(first) if value.shape[shape.index(first)] == batch else None
    if value.ndim and len(value) == batch:
        return 0
    free = [axis for axis, size in enumerate(shape) if not isinstance(size, int) and axis < value.ndim]
    return next((axis for axis in free if value.shape[axis] == batch), None)


def spec_of(value: onnx.ValueInfoProto) -> TensorSpec:
    """The spec of a graph input or output; sequences and maps give their kind as element type."""
    if not value.type.HasField("tensor_type"):
        return TensorSpec(value.type.WhichOneof("value") or "unknown", ())
    tensor = value.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:
        dtype = "unknown"
    dims = (
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param or None for d in tensor.shape.dim
    )
    return TensorSpec("string" if dtype == "object" else dtype, tuple(dims), tensor.HasField("shape"))


def fitted(name: str, value: Array, spec: TensorSpec | None) -> Array:
    """An array as the model takes it: numbers are cast to its element type, a wrong shape is refused.

    Text, of whatever type numpy holds it in, becomes an array of Python strings: numpy's own would cut longer ones that
    are put into it.

    Raises
    ------
    InputError
        ``data.bad_type``, ``data.bad_shape``.
    """
    if spec is None or spec.dtype == "unknown":
        return value
    if spec.dtype == "string":
        value = _text(name, value, spec)
    elif value.dtype.name != spec.dtype:
        whole = spec.dtype.startswith(("int", "uint"))
        kind = "f" if value.dtype.name == "bfloat16" else value.dtype.kind
        wraps = whole and value.dtype.kind in "iu" and not _holds(spec.dtype, value)
        if kind not in "fiub" or (whole and kind == "f") or wraps:
            given = "text" if value.dtype.kind in "OSUT" else value.dtype.name
            raise InputError("data.bad_type", f"input {name!r} takes {spec}, not {given}", "convert it first")
        value = value.astype(onnx.helper.tensor_dtype_to_np_dtype(code_of(spec.dtype)))
    fits = value.ndim == len(spec.shape) and all(
        not isinstance(want, int) or want == have for want, have in zip(spec.shape[1:], value.shape[1:], strict=True)
    )
    if spec.shape and not fits:
        raise InputError(
            "data.bad_shape",
            f"input {name!r} takes {spec}, not shape {list(value.shape)}",
            "give the batch axis first and the sizes that `onnxplain inspect` shows",
        )
    return np.ascontiguousarray(value) if value.ndim else value


def _text(name: str, value: Array, spec: TensorSpec) -> Array:
    """An array of strings, of type object."""
    if value.dtype.kind == "U":
        return value.astype(object)
    given = value.astype(object)
    for at, each in np.ndenumerate(given):
        if not isinstance(each, str):
            where = f" at {list(at)}" if at else ""
            raise InputError(
                "data.bad_type",
                f"input {name!r} takes {spec}, not {type(each).__name__}{where}",
                "give strings; an empty one where a text is missing",
            )
        given[at] = str(each)
    return given


def _holds(dtype: str, value: Array) -> bool:
    """Whether a whole-number type of at least eight bits can hold all values."""
    if value.size == 0 or dtype.endswith(("int4", "int2")):
        return True
    range_ = np.iinfo(dtype)
    return bool(range_.min <= int(value.min()) and int(value.max()) <= range_.max)


def code_of(dtype: str) -> int:
    """ONNX's number of an element type."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
