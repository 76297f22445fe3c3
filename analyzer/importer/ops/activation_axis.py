"""Softmax and its relatives: functions of all elements along an axis.

Belongs here: softmax, log-softmax and hardmax, in the form before opset 13 (the tensor flattened to a matrix)
and after it (one axis). Not here: elementwise functions (``activation``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.table import operator


def _hardmax(x: Tensor, axis: int) -> Tensor:
    """1 at the first largest element along the axis, else 0."""
    axis = axis % x.dim()
    largest = torch.argmax(x, dim=axis, keepdim=True)
    count = torch.arange(x.shape[axis], device=x.device).reshape(-1, *(1,) * (x.dim() - 1 - axis))
    return (largest == count).to(x.dtype)


def _flattened(function: Callable[[Tensor, int], Tensor], x: Tensor, axis: int) -> Tensor:
    """Apply to the matrix that has the dimensions from ``axis`` on as its columns."""
    axis = axis + x.dim() if axis < 0 else axis
    if axis == x.dim() - 1:
        return function(x, -1)
    matrix = x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    return function(matrix, -1).reshape(x.shape)


@operator("Softmax", since=13)
def softmax(node: Node, x: Tensor) -> Tensor:
    return torch.softmax(x, node.attr("axis", -1))


@operator("Softmax", since=1)
def softmax_flattened(node: Node, x: Tensor) -> Tensor:
    return _flattened(torch.softmax, x, node.attr("axis", 1))


@operator("LogSoftmax", since=13)
def log_softmax(node: Node, x: Tensor) -> Tensor:
    return torch.log_softmax(x, node.attr("axis", -1))


@operator("LogSoftmax", since=1)
def log_softmax_flattened(node: Node, x: Tensor) -> Tensor:
    return _flattened(torch.log_softmax, x, node.attr("axis", 1))


@operator("Hardmax", since=13)
def hardmax(node: Node, x: Tensor) -> Tensor:
    return _hardmax(x, node.attr("axis", -1))


@operator("Hardmax", since=1)
def hardmax_flattened(node: Node, x: Tensor) -> Tensor:
    return _flattened(_hardmax, x, node.attr("axis", 1))
