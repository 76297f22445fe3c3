"""Tensors from nothing: Constant, ConstantOfShape, Range, EyeLike. They are constants of the trace."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from analyzer.errors import UnsupportedError
from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import Node
from analyzer.importer.ops.casting import torch_dtype
from analyzer.importer.recorder import concrete, integers
from analyzer.importer.table import operator


@operator("Constant")
def constant(node: Node) -> Tensor:
    for name in ("value", "sparse_value"):
        if name in node.attributes:
            return as_tensor(node.attributes[name])
    for name, dtype in {
        "value_float": torch.float32,
        "value_floats": torch.float32,
        "value_int": torch.int64,
        "value_ints": torch.int64,
    }.items():
        if name in node.attributes:
            return torch.tensor(node.attributes[name], dtype=dtype)
    raise UnsupportedError("op.unsupported", f"{node}: text has no tensor in the trace", "use a perturbation method")


@operator("ConstantOfShape", since=9)
def constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    value = as_tensor(node.attr("value", np.zeros(1, np.float32)))
    return value.reshape(()).expand(integers(shape)).clone()


@operator("Range", since=11)
def number_range(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, step = (concrete(v).reshape(()).item() for v in (start, limit, delta))
    count = max(math.ceil((last - first) / step), 0)
    steps = torch.arange(count, dtype=torch.float64 if start.dtype.is_floating_point else torch.int64)
    return torch.add(first, torch.mul(steps, step)).to(start.dtype)


@operator("EyeLike", since=9)
def eye_like(node: Node, x: Tensor) -> Tensor:
    code = node.attr("dtype")
    dtype = x.dtype if code is None else torch_dtype(code, node)
    rows, columns = x.shape
    offset = int(node.attr("k", 0))
    eye = torch.arange(columns).unsqueeze(0) == torch.arange(rows).unsqueeze(1) + offset
    return eye.to(dtype)
