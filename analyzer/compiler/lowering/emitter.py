"""What lowerings write with: nodes, constants, sizes that follow the batch.

Belongs here: naming and collecting. Not here: what an operator becomes (the other files of this room), the walk over a
program (``writer``).
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
from analyzer.errors import UnsupportedError

TYPES = {
    torch.float32: TensorProto.FLOAT, torch.float64: TensorProto.DOUBLE, torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16, torch.int64: TensorProto.INT64, torch.int32: TensorProto.INT32,
    torch.int16: TensorProto.INT16, torch.int8: TensorProto.INT8, torch.uint8: TensorProto.UINT8,
    torch.bool: TensorProto.BOOL,
}  # fmt: skip
#: Constants of one value from this many elements on are repeated when the model is loaded.
_LARGE = 1 << 10


class Emitter:
    """Collects nodes and constants of the model that is written."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.values: dict[str, Value] = {}
        #: Places in a channel -> the same places in the whole tensor, as MaxPool gives them.
        self.places: dict[str, str] = {}
        #: A broadcast value -> the value before.
        self.narrow: dict[str, Value] = {}
        self._known: dict[Any, str] = {}
        self._written: dict[Any, list[str]] = {}
        self._count = 0
        self._taken: set[str] = set()

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result; gives its name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several results; gives their names. The same node twice is written once."""
        key = (kind, count, inputs, str(sorted(attributes.items())))
        if key not in self._written:
            names = [self.fresh(kind.lower()) for _ in range(count)]
            self.nodes.append(helper.make_node(kind, list(inputs), names, name=self.fresh(kind), **attributes))
            self._written[key] = names
        return list(self._written[key])

    def fresh(self, stem: str) -> str:
        """A name that nothing has yet."""
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
        """A constant; equal ones, and views of one storage in another order of axes, are kept once."""
        if value.numel() > _LARGE and not value.is_complex() and bool((value == value.reshape(-1)[0]).all()):
            one = self.tensor(value.reshape(-1)[0])
            return self.expand(Value(one, (), value.dtype), list(value.shape))
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
        """A vector of sizes as int64, computed where the batch is among them."""
        if not any(isinstance(s, Batch) for s in sizes):
            return self.integers([int(s) for s in sizes])  # type: ignore[arg-type]
        parts = [self.times(s.times) if isinstance(s, Batch) else self.integers([s]) for s in sizes]
        return self.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def times(self, times: int) -> str:
        """Vector of one: the batch times a number."""
        key = ("batch", times)
        if key not in self._known:
            if "batch" not in self._known:
                name, place, per = self._batch_input()
                shape = self.op("Shape", name, start=place, end=place + 1)
                self._known["batch"] = self.op("Div", shape, self.integers([per])) if per > 1 else shape
            one = self._known["batch"]
            self._known[key] = self.op("Mul", one, self.integers([times])) if times > 1 else one
        return self._known[key]

    def _batch_input(self) -> tuple[str, int, int]:
        for name, result in self.program.inputs.values():
            for place, size in enumerate(result.shape):
                if isinstance(size, Batch):
                    return name, place, size.times
        raise UnsupportedError("compile.no_batch", "no input has a batch axis", "give batch=1")

    def reshape(self, name: str, sizes: Sequence[Size]) -> str:
        """A view; one size of the batch is left to onnxruntime to work out."""
        grown = [place for place, size in enumerate(sizes) if isinstance(size, Batch)]
        if len(grown) <= 1 and 0 not in sizes:
            return self.op("Reshape", name, self.integers([-1 if isinstance(s, Batch) else s for s in sizes]))
        return self.op("Reshape", name, self.size(sizes))

    def expand(self, value: Value, sizes: Sequence[Size]) -> str:
        """A value broadcast to sizes."""
        have = (1,) * (len(sizes) - value.rank) + value.shape
        if tuple(have) == tuple(sizes):
            return value.name if value.rank == len(sizes) else self.reshape(value.name, sizes)
        wide = self.op("Expand", value.name, self.size([1 if h == s else s for h, s in zip(have, sizes, strict=True)]))
        self.narrow[wide] = value
        return wide

    def zeros(self, sizes: str, dtype: torch.dtype) -> str:
        """Zeros of computed sizes."""
        zero = helper.make_tensor("value", TYPES[dtype], [1], [0])
        return self.op("ConstantOfShape", sizes, value=zero)

    def narrowed(self, result: Result, *operands: Any) -> list[Any]:
        """Operands of an elementwise operator as they were before broadcasting, where another has the full sizes."""
        full = (isinstance(v, Value) and v.name not in self.narrow and v.shape == result.shape for v in operands)
        if not any(full):
            return list(operands)
        return [self.narrow.get(v.name, v) if isinstance(v, Value) else v for v in operands]

    def cast(self, name: str, dtype: torch.dtype) -> str:
        """A value of another element type."""
        return self.op("Cast", name, to=TYPES[dtype])

    def of(self, value: Any, dtype: torch.dtype) -> str:
        """An operand, a value or number, in an element type."""
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
