"""Convolution and transposed convolution, each one ``aten.convolution``.

Belongs here: operators that slide learned weights over data. Not here: pools (``pooling``), the arithmetic of
windows (``convolution_window``), convolutions of quantised numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.ops.convolution_window import pad_spatial, window
from analyzer.importer.table import operator

aten = torch.ops.aten


@operator("Conv")
def conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    span = window(node, x.shape[2:], node.attr("kernel_shape") or weight.shape[2:])
    padding = span.begin
    if not span.symmetric:
        x, padding = pad_spatial(x, span.begin, span.end), (0,) * span.dims
    out: Tensor = aten.convolution(
        x, weight, bias, span.strides, padding, span.dilations, False, [0] * span.dims, node.attr("group", 1)
    )
    return out


@operator("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    spatial, kernel = x.shape[2:], node.attr("kernel_shape") or weight.shape[2:]
    dims = len(spatial)
    strides = node.attr("strides") or [1] * dims
    dilations = node.attr("dilations") or [1] * dims
    begin, sizes = _transposed_sizes(node, spatial, kernel, strides, dilations)
    natural = [  # torch's size with the begin padding on both sides and no output padding
        (size - 1) * stride + (k - 1) * dilation + 1 - 2 * before
        for size, stride, k, dilation, before in zip(spatial, strides, kernel, dilations, begin, strict=True)
    ]
    extra = [max(0, size - have) for size, have in zip(sizes, natural, strict=True)]
    # torch allows less output padding than a stride or dilation: zeros after the data make the rest
    zeros = [
        0 if more < max(stride, dilation) else -(-more // stride)
        for more, stride, dilation in zip(extra, strides, dilations, strict=True)
    ]
    x = pad_spatial(x, [0] * dims, zeros)
    output_padding = [0 if zero else more for zero, more in zip(zeros, extra, strict=True)]
    group = node.attr("group", 1)
    out: Tensor = aten.convolution(x, weight, bias, strides, begin, dilations, True, output_padding, group)
    for dim, size in enumerate(sizes, start=2):
        if out.shape[dim] != size:
            out = out.narrow(dim, 0, size)
    return out


def _transposed_sizes(
    node: Node, spatial: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before the data and output sizes of a transposed convolution."""
    dims = len(spatial)
    more = node.attr("output_padding") or [0] * dims
    pads = node.attr("pads") or [0] * (2 * dims)
    mode = node.attr("auto_pad", "NOTSET")
    full = [
        (size - 1) * stride + (k - 1) * dilation + 1 + extra
        for size, stride, k, dilation, extra in zip(spatial, strides, kernel, dilations, more, strict=True)
    ]
    wanted = node.attr("output_shape")
    if wanted:
        wanted = list(wanted)[-dims:]
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * stride for size, stride in zip(spatial, strides, strict=True)]
    else:
        pads = [0] * (2 * dims) if mode == "VALID" else pads
        sizes = [f - b - e for f, b, e in zip(full, pads[:dims], pads[dims:], strict=True)]
        return list(pads[:dims]), sizes
    totals = [max(0, f - w) for f, w in zip(full, wanted, strict=True)]
    begin = [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in totals]
    if not node.attr("output_shape"):
        wanted = [f - total for f, total in zip(full, totals, strict=True)]  # the kernel may not reach that far
    return begin, wanted
