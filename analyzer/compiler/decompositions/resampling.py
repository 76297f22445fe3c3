"""Resampling: a product with a constant matrix along every axis.

Belongs here: linear, cubic and nearest resampling, and their derivatives. Not here: sampling at computed places
(``sampling``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from analyzer.compiler.decompositions.table import DECOMPOSITIONS

aten = torch.ops.aten


def along(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Every spatial axis multiplied by its matrix (out, in)."""
    for place, matrix in enumerate(reversed(matrices)):
        if matrix.shape[0] == matrix.shape[1] and torch.equal(matrix, torch.eye(len(matrix), dtype=matrix.dtype)):
            continue
        x = (x.transpose(-1, -1 - place) @ matrix.T).transpose(-1, -1 - place)
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
        return along(x, _matrices(function, x.shape[-n:], size, x.dtype, fixed, scales))

    return run


def _forward_scaled(function: Any, n: int, corners: bool) -> Callable[..., Tensor]:
    def run(x: Tensor, size: Any, *more: Any) -> Tensor:
        fixed, scales = (more[:1], more[1]) if corners else ((), more[0])
        want = size or [int(h * s) for h, s in zip(x.shape[-n:], scales, strict=True)]
        return along(x, _matrices(function, x.shape[-n:], want, x.dtype, fixed, scales or ()))

    return run


def _backward_resampling(function: Any, n: int, corners: bool) -> Callable[..., Tensor]:
    def run(grad: Tensor, size: Sequence[int], shape: Sequence[int], *more: Any) -> Tensor:
        fixed, scales = (more[:1], more[1:]) if corners else ((), more)
        forward = _matrices(function, shape[-n:], size, grad.dtype, fixed, scales)
        return along(grad, [matrix.T for matrix in forward])

    return run


_register_resampling()
