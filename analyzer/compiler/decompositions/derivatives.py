"""Pooling, slices, activations and their derivatives, taken apart.

Belongs here: what has no file of its own. Not here: ``normalisation``, ``reductions``, ``resampling``, ``sampling``, ``weights``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from analyzer.compiler.decompositions.resampling import along
from analyzer.compiler.decompositions.table import DECOMPOSITIONS, decomposes
from analyzer.importer import straight_through

aten = torch.ops.aten
DECOMPOSITIONS[torch.ops.onnxplain.dynamic_range.default] = straight_through.dynamic_range_definition


@decomposes(torch.ops.onnxplain.fake_quantize.default)
def fake_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, low: float, high: float, kind: str, grid: Tensor | None = None
) -> Tensor:
    """Quantised values in plain operators."""
    return straight_through.fake_quantize_definition(x, scale, zero_point, low, high, kind, grid)


@decomposes(aten.avg_pool2d_backward.default, aten.avg_pool3d_backward.default)
def avg_pool_backward(
    grad: Tensor, x: Tensor, kernel: list[int], stride: list[int], padding: list[int], ceil: bool, count_pad: bool,
    divisor: int | None = None,
) -> Tensor:  # fmt: skip
    """Every window's gradient spread evenly over its places: a transposed convolution with ones."""
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
    for place, extra in enumerate(over):
        if extra:
            spread = spread.narrow(2 + place, 0, x.shape[-n + place])
    whole: Tensor = spread.reshape(x.shape)
    return whole


@decomposes(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default)
def adaptive_avg_pool(x: Tensor, size: list[int]) -> Tensor:
    """Means over bins, one axis after the other: a product with a constant matrix."""
    return along(x, [_bins(have, want, x.dtype) for have, want in zip(x.shape[-len(size) :], size, strict=True)])


@decomposes(aten._adaptive_avg_pool2d_backward.default, aten._adaptive_avg_pool3d_backward.default)
def adaptive_avg_pool_backward(grad: Tensor, x: Tensor) -> Tensor:
    """The same matrices transposed."""
    n = grad.ndim - 2 if grad.ndim > 3 else 2
    return along(grad, [_bins(h, w, x.dtype).T for h, w in zip(x.shape[-n:], grad.shape[-n:], strict=True)])


def _bins(have: int, want: int, dtype: torch.dtype) -> Tensor:
    matrix = torch.zeros(want, have, dtype=dtype)
    for row in range(want):
        start, stop = row * have // want, -(-(row + 1) * have // want)
        matrix[row, start:stop] = 1 / (stop - start)
    return matrix


@decomposes(aten.slice_backward.default)
def slice_backward(grad: Tensor, sizes: list[int], dim: int, start: int, end: int, step: int) -> Tensor:
    """The slice put back between zeros."""
    dim %= len(sizes)
    start, end, _ = slice(start, end).indices(sizes[dim])
    if step > 1:
        count = grad.shape[dim]
        apart = torch.nn.functional.pad(grad.unsqueeze(dim + 1), _pad(grad.ndim + 1, dim + 1, 0, step - 1))
        grad = apart.flatten(dim, dim + 1).narrow(dim, 0, (count - 1) * step + 1)
    return torch.nn.functional.pad(grad, _pad(len(sizes), dim, start, sizes[dim] - start - grad.shape[dim]))


@decomposes(aten.select_backward.default)
def select_backward(grad: Tensor, sizes: list[int], dim: int, index: int) -> Tensor:
    """The selected row put back between zeros."""
    dim, index = dim % len(sizes), index % sizes[dim]
    return torch.nn.functional.pad(grad.unsqueeze(dim), _pad(len(sizes), dim, index, sizes[dim] - index - 1))


def _pad(rank: int, dim: int, before: int, after: int) -> list[int]:
    return [0, 0] * (rank - dim - 1) + [before, after]


@decomposes(aten.gelu.default)
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """GELU by erf or tanh."""
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + torch.erf(x * 0.7071067811865476))


@decomposes(aten._prelu_kernel.default)
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU by its two branches."""
    return torch.where(x > 0, x, slope * x)


@decomposes(aten._prelu_kernel_backward.default)
def prelu_backward(grad: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The branch's slope, and what each negative value gives it."""
    return torch.where(x > 0, grad, slope * grad), torch.where(x > 0, 0.0, x * grad)


@decomposes(aten.hardshrink_backward.default, aten.softshrink_backward.default)
def shrink_backward(grad: Tensor, x: Tensor, by: float) -> Tensor:
    """The gradient outside the band that shrinks to zero."""
    return torch.where((x >= -by) & (x <= by), 0.0, grad)


def _extreme_of(largest: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    def run(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
        values = torch.amax(x, dim, keepdim) if largest else torch.amin(x, dim, keepdim)
        numbers = x.to(torch.int32) if x.dtype == torch.bool else x
        return values, (torch.argmax if largest else torch.argmin)(numbers, dim, keepdim)

    return run


DECOMPOSITIONS[aten.max.dim], DECOMPOSITIONS[aten.min.dim] = _extreme_of(True), _extreme_of(False)


@decomposes(aten.value_selecting_reduction_backward.default)
def selecting_backward(grad: Tensor, dim: int, indices: Tensor, sizes: Sequence[int], keepdim: bool) -> Tensor:
    """A maximum's gradient goes to where it came from."""
    if not keepdim and len(sizes):
        grad, indices = grad.unsqueeze(dim), indices.unsqueeze(dim)
    return torch.scatter(torch.zeros(tuple(sizes), dtype=grad.dtype), dim, indices, grad)


@decomposes(aten.log1p.default)
def log1p(x: Tensor) -> Tensor:
    """log(1 + x), exact near 0: what rounding 1 + x loses is made up for (Kahan; Higham 2002, section 1.14.1)."""
    u = 1 + x
    exact = torch.log(u) * (x / torch.where(u == 1, torch.ones_like(u), u - 1))
    return torch.where(u == 1, x, torch.where(torch.isinf(u), u, exact))


@decomposes(aten.expm1.default)
def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1, exact near 0, in the same way (Higham 2002, section 1.14.1)."""
    u = torch.exp(x)
    logarithm = torch.log(u)
    plain = (u == 1) | (u == 0) | torch.isinf(u)
    exact = (u - 1) * (x / torch.where(plain, torch.ones_like(u), logarithm))
    return torch.where(u == 1, x, torch.where(plain, u - 1, exact))
