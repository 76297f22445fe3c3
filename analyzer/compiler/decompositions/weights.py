"""The derivatives of a convolution: by its input, its weights and its bias, each a convolution or a sum.

Belongs here: ``convolution_backward``. Not here: how convolutions are written (``lowering.linear``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from analyzer.compiler.decompositions.table import decomposes

aten = torch.ops.aten


@decomposes(aten.convolution_backward.default)
def convolution_backward(
    grad: Tensor, x: Tensor, w: Tensor, bias_sizes: Any, stride: list[int], padding: list[int], dilation: list[int],
    transposed: bool, output_padding: list[int], groups: int, mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """What the mask asks for."""
    n = x.ndim - 2
    stride, padding, dilation = (list(v) * (n if len(v) == 1 else 1) for v in (stride, padding, dilation))
    by_input = _by_input(grad, x, w, stride, padding, dilation, transposed, groups) if mask[0] else None
    # a transposed convolution is the derivative of a plain one: input and gradient change places
    plain, at = (grad, x) if transposed else (x, grad)
    by_weights = _by_weights(plain, at, w, stride, padding, dilation, groups) if mask[1] else None
    return by_input, by_weights, grad.sum([0, *range(2, grad.ndim)]) if mask[2] else None


def _by_input(
    grad: Tensor, x: Tensor, w: Tensor, stride: list[int], padding: list[int], dilation: list[int], transposed: bool,
    groups: int,
) -> Any:  # fmt: skip
    """A transposed convolution with the same weights, a convolution for a transposed one."""
    if transposed:
        return aten.convolution.default(grad, w, None, stride, padding, dilation, False, [0], groups)
    missing = [
        size - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
        for size, out, s, p, d, k in zip(
            x.shape[2:], grad.shape[2:], stride, padding, dilation, w.shape[2:], strict=True
        )
    ]
    return aten.convolution.default(grad, w, None, stride, padding, dilation, True, missing, groups)


def _by_weights(
    x: Tensor, grad: Tensor, w: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> Tensor:
    """A convolution of input and gradient, samples for channels; stride and dilation change places."""
    count, within = x.shape[0], x.shape[1] // groups
    space = list(range(3, x.ndim + 1))
    apart_ = x.reshape(count, groups, within, *x.shape[2:]).permute(2, 1, 0, *space)
    rows = apart_.reshape(within, groups * count, *x.shape[2:])
    found = aten.convolution.default(rows, grad.transpose(0, 1), None, dilation, padding, stride, False, [0], groups)
    for place, size in enumerate(w.shape[2:]):  # what the stride leaves over at the border
        found = found.narrow(2 + place, 0, size)
    made: Tensor = found.transpose(0, 1)
    return made
