"""Targets that aren't linear in one output, written behind the model as ONNX nodes: likeness to a reference vector,
reconstruction error, and combinations over several outputs.

Belongs here: the nodes, and the model with them. Not here: which of them a target needs (``resolve``).

The model with these nodes is a model like any other, with one more output, on which the target is linear: every method, LRP
included, follows the functional as it follows the model. The nodes are written as all opsets since 7 read them.

    cosine          <y, r> / (|y| |r|)
    distance        -|y - r|, so that relevance says what makes the output more alike, as with cosine
    reconstruction  |y - x|^2, the sum over the elements; both sides change with the input
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from analyzer.errors import UnsupportedError
from analyzer.model_facts import probabilities_of
from analyzer.onnx_model import OnnxModel

Array = NDArray[Any]
#: Models with nodes behind them that are kept with a model; the oldest go.
_KEPT = 4
#: Keeps a root from zero, where it has no derivative: there the gradient is zero. Far below rounding anywhere else.
_TINY = 1e-30
_OLDEST_OPSET = 7


@dataclass(frozen=True, eq=False)
class Part:
    """Columns of the explained value.

    Attributes
    ----------
    kind
        ``values`` for all elements of an ONNX value, else ``cosine``, ``distance`` or ``reconstruction``.
    value
        The ONNX value that they are computed from.
    shape, dtype
        Of this value on the explained batch.
    reference
        The vector that it is held against, (elements,).
    other
        The input that it is held against.
    """

    kind: str
    value: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    reference: Array | None = field(default=None, repr=False)
    other: str = ""

    @property
    def columns(self) -> int:
        """How many there are."""
        return int(np.prod(self.shape[1:])) if self.kind == "values" else 1

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from other parts."""
        digest = "" if self.reference is None else hashlib.sha256(self.reference.tobytes()).hexdigest()
        return self.kind, self.value, self.dtype.name, self.other, digest


@dataclass
class Extension:
    """A model with a value behind it that holds parts side by side.

    Attributes
    ----------
    value
        Its name; (batch, columns).
    """

    model: OnnxModel
    value: str


def extended(model: OnnxModel, parts: Sequence[Part]) -> Extension:
    """The model with the parts as one more output; made once.

    Raises
    ------
    UnsupportedError
        ``target.opset`` where the model is older than the nodes.
    """
    key = tuple(part.key for part in parts)
    kept = model.extensions
    if key not in kept:
        kept[key] = _made(model, parts, hashlib.sha256(repr(key).encode()).hexdigest())
        while len(kept) > _KEPT:
            kept.pop(next(iter(kept))).model.clear()
    found: Extension = kept[key]
    return found


def _made(model: OnnxModel, parts: Sequence[Part], digest: str) -> Extension:
    opset = next((entry.version for entry in model.proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST_OPSET:
        raise UnsupportedError(
            "target.opset", f"opset {opset} is older than {_OLDEST_OPSET}: this target can't be written behind it",
            "convert the model to a newer opset",
        )  # fmt: skip
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    write = _Writer(proto, f"onnxplain_{digest[:12]}", np.dtype(_common([part.dtype for part in parts])))
    columns = [write.part(part) for part in parts]
    result = f"{write.prefix}_score"
    if len(columns) == 1:
        write("Identity", columns[0], result=result)
    else:
        write("Concat", *columns, result=result, axis=1)
    kind = helper.np_dtype_to_tensor_dtype(write.dtype)
    first = parts[0].shape[0] if model.fixed_batch is not None else None
    proto.graph.output.append(helper.make_tensor_value_info(result, kind, [first, sum(part.columns for part in parts)]))
    sha256 = hashlib.sha256(f"{model.sha256} {digest}".encode()).hexdigest()
    loaded = replace(model.loaded, proto=proto, sha256=sha256, repaired=True)
    made = OnnxModel(loaded, model.device, model.preprocess, None, model.threads, None, tf32=model.tf32)
    made.behind = (*model.behind, result)
    return Extension(made, result)


def _common(dtypes: Sequence[np.dtype[Any]]) -> str:
    return "float64" if any(dtype == np.float64 for dtype in dtypes) else "float32"


class _Writer:
    """Adds nodes to a model; names start with the prefix."""

    def __init__(self, proto: onnx.ModelProto, prefix: str, dtype: np.dtype[Any]) -> None:
        self.graph, self.prefix, self.dtype = proto.graph, prefix, dtype
        self._count = 0

    def __call__(self, op: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        """A node; gives the name of its result."""
        self._count += 1
        result = result or f"{self.prefix}_{self._count}"
        self.graph.node.append(
            helper.make_node(op, inputs, [result], f"{self.prefix}/{op}_{self._count}", **attributes)
        )
        return result

    def part(self, part: Part) -> str:
        """The columns of a part."""
        flat = self.flat(part.value, part.dtype)
        if part.kind == "values":
            return flat
        size = int(np.prod(part.shape[1:]))
        if part.kind == "reconstruction":
            return self.squares(self("Sub", flat, self.flat(part.other, part.dtype)), size)
        assert part.reference is not None
        reference = part.reference.reshape(1, size)
        if part.kind == "distance":
            gap = self("Sub", flat, self.constant(reference))
            return self("Neg", self.root(self.squares(gap, size)))
        unit = (reference / np.linalg.norm(reference)).reshape(size, 1)
        along = self("MatMul", flat, self.constant(unit))
        return self("Div", along, self.root(self.squares(flat, size)))

    def flat(self, value: str, dtype: np.dtype[Any]) -> str:
        """A value as (batch, elements)."""
        source = probabilities_of(self.graph, value)
        if dtype != self.dtype:
            source = self("Cast", source, to=helper.np_dtype_to_tensor_dtype(self.dtype))
        return self("Flatten", source, axis=1)

    def squares(self, value: str, size: int) -> str:
        """The sum of the squares of (batch, elements) as (batch, 1)."""
        return self("MatMul", self("Mul", value, value), self.constant(np.ones((size, 1))))

    def root(self, value: str) -> str:
        """A square root that has a derivative everywhere."""
        return self("Sqrt", self("Add", value, self.constant(np.array(_TINY))))

    def constant(self, value: Array) -> str:
        """A constant of the common element type."""
        self._count += 1
        name = f"{self.prefix}_constant_{self._count}"
        tensor: TensorProto = numpy_helper.from_array(np.ascontiguousarray(value, self.dtype), name)
        self.graph.initializer.append(tensor)
        return name
