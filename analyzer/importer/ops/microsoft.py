"""Further operators of onnxruntime's own domain: those that are a standard operator by another name, and a few
small ones.

Belongs here: what fits no other family. Not here: fusions (``microsoft_fused``), normalisation (``microsoft_norm``),
attention (``microsoft_attention``), quantised operators (``microsoft_quantized``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from analyzer.importer import recorder
from analyzer.importer.graph import Node
from analyzer.importer.ops.quantization import MICROSOFT, standard
from analyzer.importer.quantized import Quantized, dequantize
from analyzer.importer.quantized_nodes import accepts_quantized
from analyzer.importer.table import operator

#: Operators that became standard ones -> the opset whose definition they have.
_RENAMED = {"GatherND": 12, "Pad": 13, "Trilu": 14, "Range": 11}


def _register_renamed(op_type: str, version: int) -> None:
    @operator(op_type, domain=MICROSOFT)
    def same(node: Node, *inputs: Tensor | None) -> Any:
        return standard(op_type, version)(replace(node, domain="", version=version), *inputs)


for _name, _version in _RENAMED.items():
    _register_renamed(_name, _version)


@operator("GridSample", domain=MICROSOFT)
def grid_sample(node: Node, x: Tensor, grid: Tensor) -> Any:
    return standard("GridSample", 16)(replace(node, domain="", version=16), x, grid)


@operator("Unique", domain=MICROSOFT)
def unique(node: Node, x: Tensor) -> Any:
    """Unique values of a vector in order of appearance, indices of their first occurrences, inverse indices, counts."""
    attributes = {"sorted": 0}
    values, first, inverse, counts = standard("Unique", 11)(
        replace(node, domain="", version=11, attributes=attributes, outputs=("y", "i", "b", "c")), x
    )
    return values, inverse, counts if len(node.outputs) > 2 else first


@operator("ExpandDims", domain=MICROSOFT)
def expand_dims(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    return x.unsqueeze(recorder.integers(axis)[0])


@operator("Inverse", domain=MICROSOFT)
def inverse(node: Node, x: Tensor) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    result: Tensor = torch.linalg.inv(wide).to(x.dtype)
    return result


@operator("CDist", domain=MICROSOFT)
def cdist(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Distances between the rows of two matrices."""
    squared = (a * a).sum(1, keepdim=True) + (b * b).sum(1) - 2.0 * torch.mm(a, b.t())
    squared = torch.clamp(squared, min=0.0)
    return squared if node.attr("metric", "sqeuclidean") == "sqeuclidean" else squared.sqrt()


@operator("IsAllFinite", domain=MICROSOFT)
def is_all_finite(node: Node, *inputs: Tensor) -> Tensor:
    """One truth value for all inputs; not a number and infinities can each be let pass."""
    verdict = torch.ones((), dtype=torch.bool)
    for x in inputs:
        good = torch.isfinite(x)
        if node.attr("isinf_only", 0):
            good = ~torch.isinf(x)
        elif node.attr("isnan_only", 0):
            good = ~torch.isnan(x)
        verdict = verdict & good.all()
    return verdict


@operator("MulInteger", domain=MICROSOFT)
@accepts_quantized
def mul_integer(
    node: Node,
    a: Tensor | Quantized,
    a_zero: Tensor | None,
    b: Tensor | Quantized,
    b_zero: Tensor | None = None,
) -> Quantized:
    """Element-wise integer product; an int32 accumulator."""
    one = torch.ones(())
    real = [
        (
            dequantize(v, v.scale if isinstance(v, Quantized) else one, zero),
            v.scale if isinstance(v, Quantized) else one,
        )
        for v, zero in ((a, a_zero), (b, b_zero))
    ]
    return Quantized(real[0][0] * real[1][0], real[0][1] * real[1][1], torch.zeros(()), "int32")


@operator("ComplexMul", domain=MICROSOFT)
def complex_mul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Product of complex numbers held as pairs in the last dimension."""
    (ar, ai), (br, bi) = a.unbind(-1), b.unbind(-1)
    return torch.stack([ar * br - ai * bi, ar * bi + ai * br], -1)


@operator("ComplexMulConj", domain=MICROSOFT)
def complex_mul_conj(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Product of a complex number and another's conjugate."""
    (ar, ai), (br, bi) = a.unbind(-1), b.unbind(-1)
    return torch.stack([ar * br + ai * bi, ai * br - ar * bi], -1)
