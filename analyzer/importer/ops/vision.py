"""Rearranging and sampling images: depth and space, sampling grids.

Belongs here: DepthToSpace, SpaceToDepth, GridSample, AffineGrid. Not here: regions of interest (``vision_regions``),
resizing (``resize``).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.ops.normalization import at_least_float32
from analyzer.importer.recorder import integers
from analyzer.importer.table import operator


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    block = node.required("blocksize")
    if node.attr("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, block)
    samples, channels, height, width = x.shape
    blocks = x.reshape(samples, block, block, channels // block**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(samples, -1, height * block, width * block)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    block = node.required("blocksize")
    if node.attr("mode", "DCR") == "CRD":
        return functional.pixel_unshuffle(x, block)
    samples, channels, height, width = x.shape
    blocks = x.reshape(samples, channels, height // block, block, width // block, block)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(samples, -1, height // block, width // block)


#: Names of GridSample's modes in all versions -> torch's.
_GRID_MODES = {
    "bilinear": "bilinear",
    "linear": "bilinear",
    "nearest": "nearest",
    "bicubic": "bicubic",
    "cubic": "bicubic",
}


@operator("GridSample")
def grid_sample(node: Node, x: Tensor, grid: Tensor) -> Tensor:
    mode = _GRID_MODES.get(node.attr("mode", "linear"))
    if mode is None:
        raise InputError("op.bad_attribute", f"{node}: unknown mode {node.attr('mode')!r}", "re-export the model")
    wide = at_least_float32(x)
    sampled = functional.grid_sample(
        wide,
        grid.to(wide.dtype),
        mode,
        node.attr("padding_mode", "zeros"),
        align_corners=bool(node.attr("align_corners", 0)),
    )
    return sampled.to(x.dtype)


@operator("AffineGrid")
def affine_grid(node: Node, theta: Tensor, size: Tensor) -> Tensor:
    return functional.affine_grid(theta, integers(size), align_corners=bool(node.attr("align_corners", 0)))
