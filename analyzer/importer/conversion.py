"""Between numpy and torch: every element type that ONNX has, without copies where both know the type.

Belongs here: arrays to tensors and back. Not here: reading protobufs (``loading``), quantised values (``quantized``).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analyzer.errors import UnsupportedError

#: Attribute of a tensor that holds numbers of a type narrower than any of torch's: that type's name.
NARROW = "onnx_kind"


def as_tensor(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory where torch can; nobody writes to it."""
    array = np.asarray(array)
    if array.dtype.kind in "OSU":
        raise UnsupportedError("op.unsupported", "text tensors have no trace", "use a perturbation method")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16).reshape(array.shape)
    if array.dtype.name.startswith("float8"):
        kind = getattr(torch, array.dtype.name)
        return torch.from_numpy(array.view(np.uint8).copy()).view(kind).reshape(array.shape)
    if array.dtype.name in ("int4", "int2", "uint4", "uint2"):
        held = torch.from_numpy(array.astype(np.uint8 if array.dtype.name.startswith("u") else np.int8))
        setattr(held, NARROW, array.dtype.name)  # torch knows no such type; as a zero point it names one
        return held
    if not array.flags.c_contiguous or any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # read-only memory: nobody writes to it
        return torch.from_numpy(array)


def to_numpy(value: Any) -> np.ndarray:
    """A tensor as an array, the way back from :func:`as_tensor`; bfloat16, which numpy lacks, becomes float32."""
    if not isinstance(value, Tensor):
        return np.asarray(value)
    cpu = value.detach().cpu()
    return np.asarray(cpu.float().numpy() if cpu.dtype == torch.bfloat16 else cpu.numpy())
