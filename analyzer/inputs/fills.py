"""What replaces a removed region: a value, the mean, a blur, noise.

Belongs here: making the replacement. Not here: which region is removed (``segments``), blending the two
(``analyzer.executor.mask_ops``).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.nearest import nearest

FILLS = ("zero", "mean", "blur", "noise")
BLUR = 0.1
"""Standard deviation of ``blur`` as a fraction of each axis' length."""


def fill(
    x: NDArray[Any],
    how: str | float | NDArray[Any] = 0.0,
    *,
    layout: Literal["CHW", "HWC"] = "CHW",
    seed: int = 0,
) -> NDArray[np.float32]:
    """What replaces removed elements of ``x``.

    No sample's fill depends on the others in the batch.

    Parameters
    ----------
    x
        (N, ...) batch in the model's input space; (N, C, ...) or, with ``layout="HWC"``, (N, ..., C). Rank 2 is one
        channel: (N, features) or (N, time).
    how
        A number; ``zero``; ``mean`` of each sample and channel; ``blur``, Gaussian, or ``blur:0.05`` with the
        standard deviation as a fraction of each axis; ``noise``, normal with each sample's and channel's mean and
        standard deviation; or an array that broadcasts to ``x``.
    layout
        Where the channels are.
    seed
        For ``noise``.

    Returns
    -------
    ndarray
        float32 of ``x``'s shape, its own memory.

    Raises
    ------
    UsageError
        ``fill.unknown``, ``fill.bad_shape``, ``fill.nonfinite``.
    """
    values = np.asarray(x, dtype=np.float32)
    if isinstance(how, str):
        name, _, option = how.strip().lower().partition(":")
        if name == "blur":
            return _blur(values, _fraction(option, name), layout)
        if name in FILLS and not option:
            if name == "zero":
                return np.zeros_like(values)
            return _mean(values, layout) if name == "mean" else _noise(values, layout, seed)
        try:
            how = float(how)
        except ValueError:
            near = nearest(name, FILLS)
            hint = f"did you mean {near!r}? " if near else ""
            raise UsageError(
                "fill.unknown", f"no fill is called {name[:80]!r}", f"{hint}allowed: a number, {', '.join(FILLS)}"
            ) from None
    with np.errstate(over="ignore"):
        replacement = np.asarray(how, dtype=np.float32)
    if not np.isfinite(replacement).all():
        raise UsageError("fill.nonfinite", "the fill holds NaN or infinite values", "give finite values")
    try:
        return np.broadcast_to(replacement, values.shape).copy()
    except ValueError:
        raise UsageError(
            "fill.bad_shape", f"a fill of shape {replacement.shape} doesn't broadcast to {values.shape}", "reshape it"
        ) from None


def _fraction(option: str, name: str) -> float:
    try:
        sigma = float(option) if option else BLUR
    except ValueError:
        sigma = -1.0
    if not 0 < sigma <= 1:
        raise UsageError(
            "fill.unknown",
            f"{name}:{option[:40]} is no blur: it takes a fraction of the size",
            'for example "blur:0.05"',
        )
    return sigma


def _spatial(rank: int, layout: str) -> tuple[int, ...]:
    """Axes other than batch and channels."""
    if rank <= 2:
        return tuple(range(1, rank))
    return tuple(range(1, rank - 1)) if layout == "HWC" else tuple(range(2, rank))


def _mean(values: NDArray[np.float32], layout: str) -> NDArray[np.float32]:
    mean = values.mean(axis=_spatial(values.ndim, layout), keepdims=True, dtype=np.float64)
    return np.broadcast_to(mean.astype(np.float32), values.shape).copy()


def _blur(values: NDArray[np.float32], fraction: float, layout: str) -> NDArray[np.float32]:
    from skimage.filters import gaussian

    axes = _spatial(values.ndim, layout)
    sigma = [fraction * side if axis in axes else 0.0 for axis, side in enumerate(values.shape)]
    return np.array(gaussian(values, sigma=sigma, mode="nearest", preserve_range=True), dtype=np.float32)


def _noise(values: NDArray[np.float32], layout: str, seed: int) -> NDArray[np.float32]:
    axes = _spatial(values.ndim, layout)
    spread = values.std(axis=axes, keepdims=True, dtype=np.float64)
    mean = values.mean(axis=axes, keepdims=True, dtype=np.float64)
    drawn = np.random.default_rng(seed).standard_normal(values.shape[1:])
    return np.asarray(mean + spread * drawn, dtype=np.float32)
