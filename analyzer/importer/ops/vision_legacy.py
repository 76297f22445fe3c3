"""Operators of ONNX before version 1.0 that converters from Core ML still wrote and onnxruntime still runs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from analyzer.importer.graph import Node
from analyzer.importer.table import operator


@operator("ImageScaler")
def image_scaler(node: Node, x: Tensor) -> Tensor:
    """An image times a factor plus one bias per channel."""
    bias = torch.tensor(node.attr("bias") or [0.0], dtype=x.dtype, device=x.device)
    return x * float(node.attr("scale", 1.0)) + bias.reshape(-1, 1, 1)


@operator("Crop")
def crop(node: Node, x: Tensor) -> Tensor:
    """Cuts a border (left, top, right, bottom), or a box of given height and width at its top left corner."""
    left, top, right, bottom = node.required("border")
    height, width = x.shape[2] - top - bottom, x.shape[3] - left - right
    if node.attr("scale"):
        height, width = node.attr("scale")
    return x.narrow(2, top, height).narrow(3, left, width)


@operator("Affine")
def affine(node: Node, x: Tensor) -> Tensor:
    return x * float(node.attr("alpha", 1.0)) + float(node.attr("beta", 0.0))


@operator("Scale")
def scale(node: Node, x: Tensor) -> Tensor:
    return x * float(node.attr("scale", 1.0))


@operator("ScaledTanh")
def scaled_tanh(node: Node, x: Tensor) -> Tensor:
    return torch.tanh(x * float(node.attr("beta", 1.0))) * float(node.attr("alpha", 1.0))


@operator("ParametricSoftplus")
def parametric_softplus(node: Node, x: Tensor) -> Tensor:
    return functional.softplus(x * float(node.attr("beta", 1.0)), threshold=40.0) * float(node.attr("alpha", 1.0))
