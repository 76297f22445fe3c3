"""The builder that lowerings write nodes, constants and batch-dependent sizes with.

Belongs here: naming and collecting them. Not here: what an operator becomes (the other files of this package), the walk over
a program (``writer``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor

from analyzer.compiler.ir import Batch, Program, Result, Size, Value
from analyzer.compiler.lowering.operators import OPERATORS
from analyzer.errors import UnsupportedError

TYPES = {
    torch.float32: TensorProto.FLOAT, torch.float64: TensorProto.DOUBLE, torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16, torch.int64: TensorProto.INT64, torch.int32: TensorProto.INT32,
    torch.int16: TensorProto.INT16, torch.int8: TensorProto.INT8, torch.uint8: TensorProto.UINT8,
    torch.bool: TensorProto.BOOL,
}  # fmt: skip
#: A constant of equal elements with more than this many is stored as one element and expanded when the model is loaded.
_LARGE = 1 << 10


class Emitter:
    """Collects the nodes and constants of a model."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.values: dict[str, Value] = {}
        #: Name of indices within a channel -> name of the same in the flattened tensor, as MaxPool gives them.
        self.flat_indices: dict[str, str] = {}
        #: Name of such indices -> name of the maxima themselves, for windows side by side.
        self.maxima: dict[str, str] = {}
        #: Name of a broadcast value -> the value before broadcasting.
        self.unbroadcast: dict[str, Value] = {}
        self._known: dict[Any, str] = {}
        self._written: dict[Any, list[str]] = {}
        self._count = 0
        self._taken: set[str] = set()

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result; gives its name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several results; gives their names. The same node twice is written once."""
        assert kind in OPERATORS, f"{kind} isn't among the operators that compiled explanations are made of"
        key = (kind, count, inputs, str(sorted(attributes.items())))
        if key not in self._written:
            names = [self.fresh(kind.lower()) for _ in range(count)]
            self.nodes.append(helper.make_node(kind, list(inputs), names, name=self.fresh(kind), **attributes))
            self._written[key] = names
        return list(self._written[key])

    def fresh(self, stem: str) -> str:
        """A name that isn't used yet."""
        while True:
            self._count += 1
            name = f"{stem}_{self._count}"
            if name not in self._taken:
                return name

    def integers(self, values: Sequence[int]) -> str:
        """A constant vector of int64."""
        return self.array(np.asarray(values, np.int64).reshape(-1))

    def scalar(self, value: Any, dtype: torch.dtype) -> str:
        """A constant of rank 0."""
        return self.tensor(torch.tensor(value, dtype=dtype))

    def array(self, array: NDArray[Any]) -> str:
        """A constant from an array."""
        return self.tensor(torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape)))

    def tensor(self, value: Tensor) -> str:
        """A constant; equal ones, and transposed views of one storage, are stored once."""
        if value.numel() > _LARGE and not value.is_complex() and bool((value == value.reshape(-1)[0]).all()):
            element = self.tensor(value.reshape(-1)[0])
            return self.expand(Value(element, (), value.dtype), list(value.shape))
        strides = value.stride()
        order = sorted(range(value.ndim), key=lambda a: (-strides[a], a)) if value.numel() > 1 else []
        if order != list(range(len(order))) and value.permute(order).is_contiguous():
            base = self.tensor(value.permute(order))
            key: tuple[Any, ...] = ("transposed", base, tuple(order))
            if key not in self._known:
                self._known[key] = self.op("Transpose", base, perm=[order.index(i) for i in range(value.ndim)])
            return self._known[key]
        value = value.detach().contiguous()
        content = _bytes(value)
        key = (value.dtype, tuple(value.shape), hashlib.sha256(content).digest())
        if key not in self._known:
            name = self.fresh("constant")
            self.initializers.append(helper.make_tensor(name, TYPES[value.dtype], list(value.shape), content, raw=True))
            self._known[key] = name
        return self._known[key]

    def size(self, sizes: Sequence[Size]) -> str:
        """A vector of sizes as int64, computed where one depends on the batch."""
        if not any(isinstance(s, Batch) for s in sizes):
            return self.integers([int(s) for s in sizes])  # type: ignore[arg-type]
        parts = [self.times(s.times) if isinstance(s, Batch) else self.integers([s]) for s in sizes]
        return self.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def times(self, times: int) -> str:
        """A vector with one element: the batch size times a number."""
        key = ("batch", times)
        if key not in self._known:
            if "batch" not in self._known:
                name, axis, per = self._batch_input()
                shape = self.op("Shape", name, start=axis, end=axis + 1)
                self._known["batch"] = self.op("Div", shape, self.integers([per])) if per > 1 else shape
            batch_size = self._known["batch"]
            self._known[key] = self.op("Mul", batch_size, self.integers([times])) if times > 1 else batch_size
        return self._known[key]

    def _batch_input(self) -> tuple[str, int, int]:
        for name, result in self.program.inputs.values():
            for axis, size in enumerate(result.shape):
                if isinstance(size, Batch):
                    return name, axis, size.times
        raise UnsupportedError("compile.no_batch", "no input has a batch axis", "give batch=1")

    def reshape(self, name: str, sizes: Sequence[Size]) -> str:
        """A view in another shape; a single size that depends on the batch is left to onnxruntime to infer."""
        follow_batch = [size for size in sizes if isinstance(size, Batch)]
        if len(follow_batch) <= 1 and 0 not in sizes:
            return self.op("Reshape", name, self.integers([-1 if isinstance(s, Batch) else s for s in sizes]))
        return self.op("Reshape", name, self.size(sizes))

    def expand(self, value: Value, sizes: Sequence[Size]) -> str:
        """A value broadcast to sizes."""
        have = (1,) * (len(sizes) - value.rank) + value.shape
        if tuple(have) == tuple(sizes):
            return value.name if value.rank == len(sizes) else self.reshape(value.name, sizes)
        factors = [1 if h == s else s for h, s in zip(have, sizes, strict=True)]
        expanded = self.op("Expand", value.name, self.size(factors))
        self.unbroadcast[expanded] = value
        return expanded

    def zeros(self, sizes: str, dtype: torch.dtype) -> str:
        """Zeros of a computed shape."""
        zero = helper.make_tensor("value", TYPES[dtype], [1], [0])
        return self.op("ConstantOfShape", sizes, value=zero)

    def narrowed(self, result: Result, *operands: Any) -> list[Any]:
        """Operands of an elementwise operator as they were before broadcasting, where another one has the result's shape."""
        full = (isinstance(v, Value) and v.name not in self.unbroadcast and v.shape == result.shape for v in operands)
        if not any(full):
            return list(operands)
        return [self.unbroadcast.get(v.name, v) if isinstance(v, Value) else v for v in operands]

    def cast(self, name: str, dtype: torch.dtype) -> str:
        """A value cast to an element type."""
        return self.op("Cast", name, to=TYPES[dtype])

    def of(self, value: Any, dtype: torch.dtype) -> str:
        """The name of an operand, a value or a number, in an element type."""
        if isinstance(value, Batch):
            return self.cast(self.op("Squeeze", self.times(value.times)), dtype)
        if not isinstance(value, Value):
            return self.scalar(value, dtype)
        return value.name if value.dtype == dtype else self.cast(value.name, dtype)


def _bytes(value: Tensor) -> bytes:
    if value.dtype == torch.bfloat16:
        value = value.view(torch.int16)
    content: bytes = value.cpu().numpy().tobytes()
    return content
