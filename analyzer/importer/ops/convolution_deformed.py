"""Convolution at learned positions, and the folding of columns into images.

Belongs here: DeformConv and Col2Im, which both deal with the columns of a convolution. Not here: ordinary convolutions
(``convolution``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.ops.convolution_window import Window, window
from analyzer.importer.recorder import integers
from analyzer.importer.table import operator

aten = torch.ops.aten


def _taps(span: Window) -> list[Tensor]:
    """Undeformed positions per dimension, each (kernel elements, *output sizes)."""
    kernel = torch.meshgrid(*(torch.arange(k) for k in span.kernel), indexing="ij")
    grids = torch.meshgrid(*(torch.arange(s) for s in span.sizes), indexing="ij")
    return [
        (tap * dilation).reshape(-1, *(1,) * span.dims) + cell * stride - before
        for tap, cell, dilation, stride, before in zip(
            kernel, grids, span.dilations, span.strides, span.begin, strict=True
        )
    ]


@operator("DeformConv")
def deform_conv(
    node: Node,
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Samples every kernel element's input by linear interpolation, then one 1x1 convolution over the samples."""
    spatial = tuple(x.shape[2:])
    span = window(node, spatial, node.attr("kernel_shape") or weight.shape[2:])
    if span.dims not in (2, 3):
        raise InputError("op.unsupported", f"{node}: data must have 2 or 3 spatial dimensions", "use occlusion")
    samples, channels = x.shape[:2]
    parts, taps = node.attr("offset_group", 1), math.prod(span.kernel)
    shifts = offset.reshape(samples * parts, taps, span.dims, *span.sizes)
    grid = []
    for dim, position in enumerate(_taps(span)):
        cell = shifts[:, :, dim] + position.to(shifts)
        grid.append((cell * 2 + 1) / spatial[dim] - 1)
    # grid_sample counts coordinates from the last dimension; kernel elements lie along the first output dimension
    grids = torch.stack(grid[::-1], dim=-1).flatten(1, 2)
    sampled = functional.grid_sample(
        x.reshape(samples * parts, channels // parts, *spatial), grids, "bilinear", "zeros", align_corners=False
    )
    columns = sampled.reshape(samples, parts, channels // parts, taps, *span.sizes)
    if mask is not None:
        columns = columns * mask.reshape(samples, parts, 1, taps, *span.sizes)
    columns = columns.reshape(samples, channels * taps, -1)
    kernel = weight.reshape(weight.shape[0], -1, 1)
    out: Tensor = aten.convolution(columns, kernel, bias, [1], [0], [1], False, [0], node.attr("group", 1))
    return out.reshape(samples, -1, *span.sizes)


@operator("Col2Im")
def col2im(node: Node, x: Tensor, image_shape: Tensor, block_shape: Tensor) -> Tensor:
    image, block = integers(image_shape), integers(block_shape)
    dims = len(image)
    strides, dilations = node.attr("strides") or [1] * dims, node.attr("dilations") or [1] * dims
    pads = node.attr("pads") or [0] * (2 * dims)
    padded = [size + b + e for size, b, e in zip(image, pads[:dims], pads[dims:], strict=True)]
    if dims <= 2:
        one = [1] * (2 - dims)
        out: Tensor = aten.col2im(x, [*one, *padded], [*one, *block], [*one, *dilations], [0, 0], [*one, *strides])
        out = out.reshape(x.shape[0], -1, *padded)
    else:
        out = _fold(x, padded, block, dilations, strides)
    for dim, (before, size) in enumerate(zip(pads, image, strict=False), start=2):
        if out.shape[dim] != size:
            out = out.narrow(dim, before, size)
    return out


def _fold(
    x: Tensor, image: Sequence[int], block: Sequence[int], dilations: Sequence[int], strides: Sequence[int]
) -> Tensor:
    """Add up columns in an image of any number of dimensions."""
    sizes = tuple(
        (size - (k - 1) * dilation - 1) // stride + 1
        for size, k, dilation, stride in zip(image, block, dilations, strides, strict=True)
    )
    zeros = (0,) * len(image)
    span = Window(tuple(block), tuple(strides), tuple(dilations), zeros, zeros, sizes)
    flat: Tensor | int = 0
    for cell, size in zip(_taps(span), image, strict=True):
        flat = flat * size + cell
    columns = x.reshape(x.shape[0], -1, math.prod(block) * math.prod(sizes))
    empty = torch.zeros(*columns.shape[:2], math.prod(image), dtype=x.dtype, device=x.device)
    index = torch.as_tensor(flat, device=x.device).reshape(-1)
    return torch.index_add(empty, 2, index, columns).reshape(*columns.shape[:2], *image)
