"""ATen operators that sum, multiply matrices and convolve, in ONNX.

Belongs here: reductions, products, convolutions, softmax. Not here: derivatives (``decompositions``), pooling
(``pooling``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from analyzer.compiler.ir import Result, Value
from analyzer.compiler.lowering.emitter import Emitter
from analyzer.compiler.lowering.table import axis, lowers

aten, prims = torch.ops.aten, torch.ops.prims


@lowers(aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default)
def matmul(w: Emitter, result: Result, a: Value, b: Value) -> str:
    """A matrix product."""
    return w.op("MatMul", a.name, b.name)


@lowers(aten.addmm.default, aten.baddbmm.default, aten.addmv.default)
def addmm(w: Emitter, result: Result, bias: Value, a: Value, b: Value, beta: float = 1, alpha: float = 1) -> str:
    """beta bias + alpha a b."""
    if a.rank == 2 and b.rank == 2 and bias.rank <= 2:
        return w.op("Gemm", a.name, b.name, bias.name, alpha=float(alpha), beta=float(beta))
    product = w.op("MatMul", a.name, b.name)
    product = product if alpha == 1 else w.op("Mul", product, w.scalar(alpha, result.dtype))
    shift = bias.name if beta == 1 else w.op("Mul", bias.name, w.scalar(beta, result.dtype))
    return w.op("Add", product, shift)


@lowers(aten.convolution.default)
def convolution(
    w: Emitter, result: Result, x: Value, weight: Value, bias: Value | None, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
) -> str:  # fmt: skip
    """A convolution or a transposed one."""
    n = weight.rank - 2

    def each(values: Sequence[int]) -> list[int]:
        return list(values) * n if len(values) == 1 else list(values)

    more: dict[str, Any] = {"strides": each(stride), "pads": each(padding) * 2, "dilations": each(dilation)}
    inputs = [x.name, weight.name] + ([bias.name] if bias is not None else [])
    if transposed:
        mirrored = _mirrored_pads(weight, each(stride), each(padding), each(dilation), each(output_padding))
        if mirrored is not None and bias is None:
            flipped = _flipped(w, weight, groups)
            return w.op("Conv", x.name, flipped, group=groups, pads=mirrored, dilations=each(dilation))
        return w.op("ConvTranspose", *inputs, group=groups, output_padding=each(output_padding), **more)
    return w.op("Conv", *inputs, group=groups, **more)


def _mirrored_pads(
    weight: Value, stride: list[int], padding: list[int], dilation: list[int], output_padding: list[int]
) -> list[int] | None:
    """Pads with which a convolution equals a transposed one of stride 1; None where there are none."""
    pads = [d * (int(k) - 1) - p for k, p, d in zip(weight.shape[2:], padding, dilation, strict=True)]  # type: ignore[arg-type]
    plain = all(s == 1 for s in stride) and not any(output_padding) and min(pads, default=0) >= 0
    return pads * 2 if plain else None


def _flipped(w: Emitter, weight: Value, groups: int) -> str:
    """Weights of a transposed convolution as those of a convolution, which onnxruntime runs several times faster.

    Nodes on a constant: the file holds the weights once, the runtime computes this when it loads.
    """
    out, within, *kernel = (int(size) for size in weight.shape)  # type: ignore[arg-type]
    n = len(kernel)
    name = weight.name
    if groups > 1:
        name = w.reshape(name, [groups, out // groups, within, *kernel])
        name = w.op("Transpose", name, perm=[0, 2, 1, *range(3, 3 + n)])
        name = w.reshape(name, [groups * within, out // groups, *kernel])
    else:
        name = w.op("Transpose", name, perm=[1, 0, *range(2, 2 + n)])
    axes = [axis_ for axis_, size in enumerate(kernel, start=2) if size > 1]
    if not axes:
        return name
    count = len(axes)
    ends = w.integers([-(2**31)] * count)
    return w.op("Slice", name, w.integers([-1] * count), ends, w.integers(axes), w.integers([-1] * count))


def _axes(dims: Any, rank: int) -> list[int]:
    if dims is None or dims == ():
        return list(range(rank))
    return [axis(d, rank) for d in ((dims,) if isinstance(dims, int) else dims)]


def _reducing(kind: str) -> Any:
    def write(w: Emitter, result: Result, x: Value, dims: Any = None, keepdim: bool = False, **_: Any) -> str:
        name = w.of(x, result.dtype)
        if x.rank == 0:
            return name
        return w.op(kind, name, w.integers(_axes(dims, x.rank)), keepdims=int(keepdim))

    return write


for _target, _kind in {
    aten.sum.dim_IntList: "ReduceSum", aten.sum.default: "ReduceSum", aten.mean.dim: "ReduceMean",
    aten.mean.default: "ReduceMean", aten.amax.default: "ReduceMax", aten.amin.default: "ReduceMin",
    aten.max.default: "ReduceMax", aten.min.default: "ReduceMin", aten.prod.dim_int: "ReduceProd",
    aten.prod.default: "ReduceProd",
}.items():  # fmt: skip
    lowers(_target)(_reducing(_kind))


def _primitive(kind: str) -> Any:
    def write(w: Emitter, result: Result, x: Value, dims: Any = None, **_: Any) -> str:
        name = w.of(x, result.dtype)
        return name if x.rank == 0 else w.op(kind, name, w.integers(_axes(dims, x.rank)), keepdims=0)

    return write


for _target, _kind in {
    prims.sum.default: "ReduceSum", prims.prod.default: "ReduceProd", prims.amax.default: "ReduceMax",
    prims.amin.default: "ReduceMin",
}.items():  # fmt: skip
    lowers(_target)(_primitive(_kind))


@lowers(aten.any.default, aten.any.dim, aten.any.dims)
def any_(w: Emitter, result: Result, x: Value, dims: Any = None, keepdim: bool = False) -> str:
    """Whether any is not zero."""
    ones = w.cast(w.of(x, torch.bool), torch.int32)
    return w.cast(w.op("ReduceMax", ones, w.integers(_axes(dims, x.rank)), keepdims=int(keepdim)), torch.bool)


def _arg(kind: str) -> Any:
    def write(w: Emitter, result: Result, x: Value, dim: int | None = None, keepdim: bool = False) -> str:
        if dim is None:
            return w.op(kind, w.reshape(x.name, [-1]), axis=0, keepdims=0)
        return w.op(kind, x.name, axis=axis(dim, x.rank), keepdims=int(keepdim))

    return write


lowers(aten.argmax.default)(_arg("ArgMax"))
lowers(aten.argmin.default)(_arg("ArgMin"))


@lowers(aten.topk.default)
def topk(
    w: Emitter, result: Any, x: Value, k: int, dim: int = -1, largest: bool = True, ordered: bool = True
) -> list[str]:
    """The k largest or smallest with their indices."""
    count = w.size([k])
    return w.ops("TopK", 2, x.name, count, axis=axis(dim, x.rank), largest=int(largest), sorted=1)


@lowers(aten.cumsum.default)
def cumsum(w: Emitter, result: Result, x: Value, dim: int, **_: Any) -> str:
    """Running sums."""
    return w.op("CumSum", w.of(x, result.dtype), w.scalar(axis(dim, x.rank), torch.int64))


@lowers(aten._softmax.default)
def softmax(w: Emitter, result: Result, x: Value, dim: int, half_to_float: bool = False) -> str:
    """Softmax along an axis."""
    return w.op("Softmax", w.of(x, result.dtype), axis=axis(dim, x.rank))


@lowers(aten._log_softmax.default)
def log_softmax(w: Emitter, result: Result, x: Value, dim: int, half_to_float: bool = False) -> str:
    """Log-softmax along an axis."""
    return w.op("LogSoftmax", w.of(x, result.dtype), axis=axis(dim, x.rank))
