"""Decompositions of ATen operators that have no ONNX form and that torch doesn't decompose suitably: mostly derivatives.

Belongs here: ATen operators in terms of simpler ATen operators. Not here: ONNX (``lowering``), using them (``recorder``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from analyzer.importer import straight_through

aten = torch.ops.aten
DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.onnxplain.dynamic_range.default: straight_through.dynamic_range_definition,
}


def _decomposes(*targets: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for target in targets:
            DECOMPOSITIONS[target] = function
        return function

    return register


@_decomposes(torch.ops.onnxplain.fake_quantize.default)
def fake_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, low: float, high: float, kind: str, grid: Tensor | None = None
) -> Tensor:
    """Quantised values by elementary operators."""
    return straight_through.fake_quantize_definition(x, scale, zero_point, low, high, kind, grid)


@_decomposes(aten.convolution_backward.default)
def convolution_backward(
    grad: Tensor, x: Tensor, w: Tensor, bias_sizes: Any, stride: list[int], padding: list[int], dilation: list[int],
    transposed: bool, output_padding: list[int], groups: int, mask: Sequence[bool],
) -> tuple[Tensor | None, None, None]:  # fmt: skip
    """The gradient of the input: a transposed convolution with the same weights, and a convolution for a transposed one."""
    if mask[1] or mask[2]:
        raise NotImplementedError("derivatives by weights")
    if not mask[0]:
        return None, None, None
    if transposed:
        return aten.convolution.default(grad, w, None, stride, padding, dilation, False, [0], groups), None, None
    missing = [
        size - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
        for size, out, s, p, d, k in zip(
            x.shape[2:], grad.shape[2:], stride, padding, dilation, w.shape[2:], strict=True
        )
    ]
    return aten.convolution.default(grad, w, None, stride, padding, dilation, True, missing, groups), None, None


@_decomposes(aten.avg_pool2d_backward.default, aten.avg_pool3d_backward.default)
def avg_pool_backward(
    grad: Tensor, x: Tensor, kernel: list[int], stride: list[int], padding: list[int], ceil: bool, count_pad: bool,
    divisor: int | None = None,
) -> Tensor:  # fmt: skip
    """Every window's gradient spread evenly over its elements: a transposed convolution with ones."""
    n = len(kernel)
    stride, padding = list(stride) or list(kernel), list(padding) * (n if len(padding) == 1 else 1)
    pool = {2: aten.avg_pool2d.default, 3: aten.avg_pool3d.default}[n]
    inside = pool(torch.ones(1, 1, *x.shape[-n:], dtype=x.dtype), kernel, stride, padding, ceil, True, 1)
    if divisor is not None:
        counts = torch.full_like(inside, float(divisor))
    elif count_pad:
        bordered = [size + 2 * p for size, p in zip(x.shape[-n:], padding, strict=True)]
        counts = pool(torch.ones(1, 1, *bordered, dtype=x.dtype), kernel, stride, [0] * n, ceil, True, 1)
    else:
        counts = inside
    share = (grad / counts).reshape(-1, 1, *grad.shape[-n:])
    missing = [
        size - ((out - 1) * s - 2 * p + k)
        for size, out, s, p, k in zip(x.shape[-n:], grad.shape[-n:], stride, padding, kernel, strict=True)
    ]
    over = [max(0, -m) for m in missing]  # windows that reach past the border in ceil mode
    spread = aten.convolution.default(
        share, torch.ones(1, 1, *kernel, dtype=grad.dtype), None, stride, padding, [1] * n, True,
        [max(0, m) for m in missing], 1,
    )  # fmt: skip
    for axis, extra in enumerate(over):
        if extra:
            spread = spread.narrow(2 + axis, 0, x.shape[-n + axis])
    result: Tensor = spread.reshape(x.shape)
    return result


@_decomposes(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default)
def adaptive_avg_pool(x: Tensor, size: list[int]) -> Tensor:
    """Means over bins, one axis after the other: a product with a constant matrix."""
    return _along(x, [_bins(have, want, x.dtype) for have, want in zip(x.shape[-len(size) :], size, strict=True)])


@_decomposes(aten._adaptive_avg_pool2d_backward.default, aten._adaptive_avg_pool3d_backward.default)
def adaptive_avg_pool_backward(grad: Tensor, x: Tensor) -> Tensor:
    """The same matrices transposed."""
    n = grad.ndim - 2 if grad.ndim > 3 else 2
    return _along(grad, [_bins(h, w, x.dtype).T for h, w in zip(x.shape[-n:], grad.shape[-n:], strict=True)])


def _bins(have: int, want: int, dtype: torch.dtype) -> Tensor:
    matrix = torch.zeros(want, have, dtype=dtype)
    for row in range(want):
        start, stop = row * have // want, -(-(row + 1) * have // want)
        matrix[row, start:stop] = 1 / (stop - start)
    return matrix


def _along(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Every spatial axis multiplied by its matrix (out, in)."""
    for back, matrix in enumerate(reversed(matrices)):
        if matrix.shape[0] == matrix.shape[1] and torch.equal(matrix, torch.eye(len(matrix), dtype=matrix.dtype)):
            continue
        x = (x.transpose(-1, -1 - back) @ matrix.T).transpose(-1, -1 - back)
    return x


def _resampling(function: Any, have: int, want: int, dtype: torch.dtype, scale: float | None, *more: Any) -> Tensor:
    """The matrix (out, in) of a resampling along one axis."""
    identity = torch.eye(have, dtype=dtype)[None]
    return function(identity, [want], *more, scale)[0].T  # type: ignore[no-any-return]


def _cubic(x: Tensor, size: list[int], corners: bool, scale: float | None) -> Tensor:
    flat = x.reshape(1, -1, 1, x.shape[-1])
    out = aten.upsample_bicubic2d.default(flat, [1, size[0]], corners, None, scale)
    rows: Tensor = out.reshape(1, -1, size[0])
    return rows


def _register_resampling() -> None:
    linear, nearest = aten.upsample_linear1d.default, aten.upsample_nearest1d.default
    kinds = [
        (linear, 1, True, (aten.upsample_linear1d.default, aten.upsample_linear1d_backward.default)),
        (linear, 2, True, (aten.upsample_bilinear2d.default, aten.upsample_bilinear2d_backward.default)),
        (linear, 3, True, (aten.upsample_trilinear3d.default, aten.upsample_trilinear3d_backward.default)),
        (_cubic, 2, True, (aten.upsample_bicubic2d.default, aten.upsample_bicubic2d_backward.default)),
        (nearest, 1, False, (aten.upsample_nearest1d.default, aten.upsample_nearest1d_backward.default)),
        (nearest, 2, False, (aten.upsample_nearest2d.default, aten.upsample_nearest2d_backward.default)),
        (nearest, 3, False, (aten.upsample_nearest3d.default, aten.upsample_nearest3d_backward.default)),
    ]
    for function, n, corners, (forward, backward) in kinds:
        DECOMPOSITIONS[forward] = _forward_resampling(function, n, corners)
        DECOMPOSITIONS[backward] = _backward_resampling(function, n, corners)
        vec = getattr(getattr(aten, forward.overloadpacket.__name__), "vec", None)
        if vec is not None:
            DECOMPOSITIONS[vec] = _forward_scaled(function, n, corners)


def _matrices(
    function: Any, have: Sequence[int], want: Sequence[int], dtype: torch.dtype, corners: tuple[Any, ...], scales: Any
) -> list[Tensor]:
    scales = list(scales) or [None] * len(have)
    return [_resampling(function, h, w, dtype, s, *corners) for h, w, s in zip(have, want, scales, strict=True)]


def _forward_resampling(function: Any, n: int, corners: bool) -> Callable[..., Tensor]:
    def run(x: Tensor, size: Sequence[int], *more: Any) -> Tensor:
        fixed, scales = (more[:1], more[1:]) if corners else ((), more)
        return _along(x, _matrices(function, x.shape[-n:], size, x.dtype, fixed, scales))

    return run


def _forward_scaled(function: Any, n: int, corners: bool) -> Callable[..., Tensor]:
    def run(x: Tensor, size: Any, *more: Any) -> Tensor:
        fixed, scales = (more[:1], more[1]) if corners else ((), more[0])
        want = size or [int(h * s) for h, s in zip(x.shape[-n:], scales, strict=True)]
        return _along(x, _matrices(function, x.shape[-n:], want, x.dtype, fixed, scales or ()))

    return run


def _backward_resampling(function: Any, n: int, corners: bool) -> Callable[..., Tensor]:
    def run(grad: Tensor, size: Sequence[int], shape: Sequence[int], *more: Any) -> Tensor:
        fixed, scales = (more[:1], more[1:]) if corners else ((), more)
        forward = _matrices(function, shape[-n:], size, grad.dtype, fixed, scales)
        return _along(grad, [matrix.T for matrix in forward])

    return run


_register_resampling()


@_decomposes(aten.slice_backward.default)
def slice_backward(grad: Tensor, sizes: list[int], dim: int, start: int, end: int, step: int) -> Tensor:
    """The gradient of the slice padded with zeros."""
    dim %= len(sizes)
    start, end, _ = slice(start, end).indices(sizes[dim])
    if step > 1:
        count = grad.shape[dim]
        apart = torch.nn.functional.pad(grad.unsqueeze(dim + 1), _pad(grad.ndim + 1, dim + 1, 0, step - 1))
        grad = apart.flatten(dim, dim + 1).narrow(dim, 0, (count - 1) * step + 1)
    return torch.nn.functional.pad(grad, _pad(len(sizes), dim, start, sizes[dim] - start - grad.shape[dim]))


@_decomposes(aten.select_backward.default)
def select_backward(grad: Tensor, sizes: list[int], dim: int, index: int) -> Tensor:
    """The gradient of the selected row padded with zeros."""
    dim, index = dim % len(sizes), index % sizes[dim]
    return torch.nn.functional.pad(grad.unsqueeze(dim), _pad(len(sizes), dim, index, sizes[dim] - index - 1))


def _pad(rank: int, dim: int, before: int, after: int) -> list[int]:
    return [0, 0] * (rank - dim - 1) + [before, after]


@_decomposes(aten.gelu.default)
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """GELU by erf or tanh."""
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + torch.erf(x * 0.7071067811865476))


@_decomposes(aten._prelu_kernel.default)
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU by its two branches."""
    return torch.where(x > 0, x, slope * x)


@_decomposes(aten._prelu_kernel_backward.default)
def prelu_backward(grad: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The branch's slope; the parameter's own derivative is not used."""
    return torch.where(x > 0, grad, slope * grad), torch.zeros_like(slope)


@_decomposes(aten.native_layer_norm.default)
def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalisation with its mean and reciprocal deviation."""
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    rstd = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    out = centred * rstd
    out = out if weight is None else out * weight
    return out if bias is None else out + bias, mean, rstd


@_decomposes(aten.native_layer_norm_backward.default)
def layer_norm_backward(
    grad: Tensor, x: Tensor, shape: Sequence[int], mean: Tensor, rstd: Tensor, weight: Tensor | None,
    bias: Tensor | None, mask: Sequence[bool],
) -> tuple[Tensor | None, None, None]:  # fmt: skip
    """The input's gradient."""
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    normal = (x - mean) * rstd
    scaled = grad if weight is None else grad * weight
    spread = scaled - scaled.mean(axes, keepdim=True) - normal * (scaled * normal).mean(axes, keepdim=True)
    return spread * rstd, None, None


def _extreme_of(largest: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    def run(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
        values = torch.amax(x, dim, keepdim) if largest else torch.amin(x, dim, keepdim)
        return values, torch.argmax(x, dim, keepdim) if largest else torch.argmin(x, dim, keepdim)

    return run


DECOMPOSITIONS[aten.max.dim], DECOMPOSITIONS[aten.min.dim] = _extreme_of(True), _extreme_of(False)


@_decomposes(aten.value_selecting_reduction_backward.default)
def selecting_backward(grad: Tensor, dim: int, indices: Tensor, sizes: Sequence[int], keepdim: bool) -> Tensor:
    """The gradient of a maximum goes to the element that was selected."""
    if not keepdim and len(sizes):
        grad, indices = grad.unsqueeze(dim), indices.unsqueeze(dim)
    return torch.scatter(torch.zeros(tuple(sizes), dtype=grad.dtype), dim, indices, grad)


@_decomposes(aten.log1p.default)
def log1p(x: Tensor) -> Tensor:
    """log(1 + x), exact near 0: what rounding 1 + x loses is made up for (Kahan; Higham 2002, section 1.14.1)."""
    u = 1 + x
    exact = torch.log(u) * (x / torch.where(u == 1, torch.ones_like(u), u - 1))
    return torch.where(u == 1, x, torch.where(torch.isinf(u), u, exact))


@_decomposes(aten.expm1.default)
def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1, exact near 0, in the same way (Higham 2002, section 1.14.1)."""
    u = torch.exp(x)
    logarithm = torch.log(u)
    plain = (u == 1) | (u == 0) | torch.isinf(u)
    exact = (u - 1) * (x / torch.where(plain, torch.ones_like(u), logarithm))
    return torch.where(u == 1, x, torch.where(plain, u - 1, exact))
