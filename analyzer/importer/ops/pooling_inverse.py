"""MaxUnpool: values scattered to the indices at which a max pool found them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.recorder import integers
from analyzer.importer.table import operator


@operator("MaxUnpool")
def max_unpool(node: Node, x: Tensor, indices: Tensor, output_shape: Tensor | None = None) -> Tensor:
    """``indices`` count in the flattened result, as ONNX's MaxPool gives them."""
    kernel = node.required("kernel_shape")
    dims = len(kernel)
    strides = node.attr("strides") or [1] * dims
    pads = node.attr("pads") or [0] * (2 * dims)
    sizes = [
        (size - 1) * stride + k - before - after
        for size, stride, k, before, after in zip(x.shape[2:], strides, kernel, pads[:dims], pads[dims:], strict=True)
    ]
    shape = [*x.shape[:2], *sizes] if output_shape is None else integers(output_shape)
    empty = torch.zeros(math.prod(shape), dtype=x.dtype, device=x.device)
    return torch.scatter(empty, 0, indices.reshape(-1), x.reshape(-1)).reshape(shape)
