"""Cutting an input into the pieces that LIME, SHAP and ablation switch on and off.

Belongs here: superpixels, grids, windows of a series, masks. Not here: what replaces a piece (``fills``).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.nearest import nearest

Kind = Literal["image", "table", "series", "tokens"]
WAYS = ("slic", "grid", "voronoi", "elements")
COUNT = 50

_GRID = re.compile(r"grid(?::(\d+)(?:x(\d+))?)?")
_log = logging.getLogger(__name__)
Ids = NDArray[np.int64]


def segment(
    sample: NDArray[Any],
    how: str | int | NDArray[Any] | None = None,
    count: int | None = None,
    seed: int = 0,
    *,
    kind: Kind | None = None,
    layout: Literal["CHW", "HWC"] | None = None,
) -> Ids:
    """Cut one sample into segments numbered 0..S-1 without gaps.

    Parameters
    ----------
    sample
        One sample without batch axis: a picture (H, W), (C, H, W), (H, W, C) or uint8 (H, W, 3); a series (T,),
        or (T, C) / (C, T); a table row (F,); tokens (T,) of integers.
    how
        ``slic``: superpixels (pictures); ``grid:8`` or ``grid:HxW``: blocks of that many elements, the last cut at
        the border; ``voronoi``: cells around random points, blind to the content; ``elements``: each on its own; a
        number: as many superpixels, or equal pieces of a series; an integer array: a mask of segment numbers.
        None: superpixels for pictures; equal pieces for a series of more than ``count`` and wherever ``count`` is
        given; else each column or token.
    count
        About how many segments, 50 where None.
    seed
        For ``voronoi``; the other ways draw nothing.
    kind
        What the sample is; guessed from rank and type where None.
    layout
        Where a picture's channels are; guessed where None. Given as ``HWC``, the result keeps a last axis of 1.

    Returns
    -------
    ndarray
        int64, broadcastable to the sample: (H, W) for pictures, (H, W, 1) for ``layout="HWC"``; a mask with a
        channel axis keeps it.

    Raises
    ------
    UsageError
        ``segments.unknown``, ``segments.bad_count``, ``segments.bad_mask``.

    Notes
    -----
    SLIC: Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", TPAMI 2012, as
    implemented in scikit-image, on the picture in CIELAB.
    """
    ids, notes = segment_with_notes(sample, how, count, seed, kind=kind, layout=layout)
    for note in notes:
        _log.info(note)
    return ids


def segment_with_notes(
    sample: NDArray[Any],
    how: str | int | NDArray[Any] | None = None,
    count: int | None = None,
    seed: int = 0,
    *,
    kind: Kind | None = None,
    layout: Literal["CHW", "HWC"] | None = None,
) -> tuple[Ids, tuple[str, ...]]:
    """`segment`, and notes on what had to be done differently."""
    sample = np.asarray(sample)
    if sample.size == 0:
        raise UsageError("segments.bad_count", f"a sample of shape {sample.shape} has nothing to cut", "")
    if isinstance(how, list | tuple) or (isinstance(how, np.ndarray) and how.ndim):
        return _from_mask(np.asarray(how), sample, layout), ()
    if isinstance(how, str) and how.strip().isdigit():
        how = int(how)
    if how is not None and not isinstance(how, str):
        how, count, counted = None, _checked(how), True
    else:
        counted = count is not None
        count = COUNT if count is None else _checked(count)
    kind = kind or _guess(sample)
    if kind == "image":
        pixels, keep = _pixels(sample, layout)
        ids, notes = _cut_image(pixels, how, count, seed)
        return (ids[..., None] if keep else ids), notes
    return _cut_line(sample, how, count, counted, seed, kind, layout), ()


def blocks(sides: Sequence[int], how: Any, count: int | None = None) -> Ids:
    """A volume or a video cut into blocks, (*sides), numbered from 0 without gaps.

    Parameters
    ----------
    how
        None: about ``count`` blocks, 50 where None, of like proportions as the whole; ``grid:8``: blocks of that many
        elements along each axis; ``elements``: each on its own.

    Raises
    ------
    UsageError
        ``segments.unknown``, ``segments.bad_count``.
    """
    if how is not None and not isinstance(how, str):
        how, count = None, _checked(how)
    wanted = COUNT if count is None else _checked(count)
    name = "blocks" if how is None or how == "slic" else _name(how)
    if name == "elements":
        sizes = [1] * len(sides)
    elif name == "grid" and _GRID.fullmatch(how.strip().lower()) and ":" in how:
        sizes = [_block(how, 1, 1, 1)[0]] * len(sides)
    elif name in ("blocks", "grid"):
        sizes = [math.ceil(side / pieces) for side, pieces in zip(sides, _pieces(sides, wanted), strict=True)]
    else:
        raise UsageError("segments.unknown", f"can't cut a volume by {how!r}", 'allowed: a count, "grid:8", "elements"')
    index = np.indices(sides).reshape(len(sides), -1)
    at = [axis // size for axis, size in zip(index, sizes, strict=True)]
    numbers = np.ravel_multi_index(at, [math.ceil(side / size) for side, size in zip(sides, sizes, strict=True)])
    return _contiguous(numbers.reshape(sides))


def _pieces(sides: Sequence[int], count: int) -> list[int]:
    """How often each axis is cut for about ``count`` blocks: the longest blocks are halved, shared out by their length."""
    pieces = [1] * len(sides)
    while True:
        longest = max(range(len(sides)), key=lambda axis: sides[axis] / pieces[axis])
        if pieces[longest] >= sides[longest]:
            return pieces
        pieces[longest] += 1
        if math.prod(pieces) > count:
            pieces[longest] -= 1
            return pieces


def _checked(count: Any) -> int:
    is_integer = isinstance(count, int | np.integer) or (isinstance(count, np.ndarray) and count.dtype.kind in "iu")
    if not is_integer or isinstance(count, bool) or int(count) < 1:
        raise UsageError("segments.bad_count", f"{count} segments", "give a count of at least 1")
    return int(count)


def _guess(sample: NDArray[Any]) -> Kind:
    if sample.ndim == 3:
        return "image"
    if sample.ndim == 2:
        return "image" if min(sample.shape) > 1 else "series"
    if sample.ndim == 1 and sample.dtype.kind in "iu":
        return "tokens"
    return "series" if sample.ndim == 1 else "table"


def _pixels(sample: NDArray[Any], layout: str | None) -> tuple[NDArray[Any], bool]:
    """The picture as (H, W, C), and whether the result must keep a channel axis at the end."""
    if sample.ndim == 2:
        return sample[..., None], False
    if sample.ndim != 3:
        raise UsageError("segments.unknown", f"a picture has rank 2 or 3, not {sample.ndim}", "cut it as elements")
    if layout is None:
        last = sample.shape[2] == 3 and (sample.dtype == np.uint8 or sample.shape[0] not in (1, 3))
        return (sample if last else np.moveaxis(sample, 0, -1)), False
    return (sample, True) if layout == "HWC" else (np.moveaxis(sample, 0, -1), False)


def _cut_image(pixels: NDArray[Any], how: Any, count: int, seed: int) -> tuple[Ids, tuple[str, ...]]:
    height, width = pixels.shape[:2]
    name = "slic" if how is None else _name(how)
    if name == "grid":
        return _contiguous(_grid(height, width, *_block(how, height, width, count))), ()
    if name == "elements":
        return np.arange(height * width, dtype=np.int64).reshape(height, width), ()
    if name == "voronoi":
        return _voronoi(height, width, count, seed), ()
    ids = _slic(pixels, count)
    if count > 1 and ids.max() == 0 and height * width > 1:
        block = _block("grid", height, width, count)
        return _contiguous(_grid(height, width, *block)), (
            f"the picture has no structure to follow: cut into a grid of {block[0]}x{block[1]} blocks",
        )
    return ids, ()


def _cut_line(
    sample: NDArray[Any], how: Any, count: int, counted: bool, seed: int, kind: Kind, layout: str | None
) -> Ids:
    """Segments along the time axis of a series, or over the elements of a row; ``counted``: whether a count was given."""
    if kind != "series":
        ids = np.arange(sample.size, dtype=np.int64).reshape(sample.shape)
        if (how is None and not counted) or (how is not None and _name(how) in ("elements", "slic")):
            return ids
        return _line(sample.size, how, count, seed).reshape(sample.shape)
    if sample.ndim == 2:  # (T, C) unless the layout or a first axis of 1 says channels first
        first = layout == "CHW" or (layout is None and sample.shape[0] == 1)
        length, shape = (sample.shape[1], (1, -1)) if first else (sample.shape[0], (-1, 1))
    else:
        length, shape = sample.size, sample.shape
    if how is None and not counted and length <= count:
        how = "elements"
    return _line(length, how, count, seed).reshape(shape)


def _line(length: int, how: Any, count: int, seed: int) -> Ids:
    name = "pieces" if how is None else _name(how)
    if name == "grid":
        return _grid(1, length, 1, _block(how, 1, length, count)[1]).ravel()
    if name == "elements":
        return np.arange(length, dtype=np.int64)
    if name == "voronoi":
        return _voronoi(1, length, count, seed).ravel()
    pieces = min(count, length)
    return np.asarray(np.arange(length) * pieces // length, dtype=np.int64)


def _name(how: Any) -> str:
    name = str(how).strip().lower().partition(":")[0]
    if not isinstance(how, str) or name not in WAYS or (name != "grid" and ":" in how):
        near = nearest(name, WAYS)
        hint = f"did you mean {near!r}? " if near else ""
        raise UsageError(
            "segments.unknown",
            f"can't cut by {str(how)[:80]!r}",
            f'{hint}allowed: a count, "slic", "grid:8", "grid:8x16", "voronoi", "elements" or an integer mask',
        )
    return name


def _block(how: str, height: int, width: int, count: int) -> tuple[int, int]:
    """Rows and columns of a grid's blocks; a grid without size gets about ``count`` square ones."""
    match = _GRID.fullmatch(how.strip().lower())
    sides = [int(side[:9]) for side in match.groups() if side] if match else [0]
    if any(side < 1 for side in sides):
        raise UsageError("segments.unknown", f"{how[:80]!r} is no grid", 'write "grid:8" or "grid:8x16", in elements')
    if not sides:
        side = max(1, math.floor(math.sqrt(height * width / count))) if height > 1 else math.ceil(width / count)
        return side, side
    return sides[0], sides[-1]


def _grid(height: int, width: int, rows: int, columns: int) -> Ids:
    down, across = np.arange(height, dtype=np.int64) // rows, np.arange(width, dtype=np.int64) // columns
    return np.asarray(down[:, None] * (across[-1] + 1) + across[None], dtype=np.int64)


def _slic(pixels: NDArray[Any], count: int) -> Ids:
    from skimage.segmentation import slic

    if pixels.dtype != np.uint8:
        values = pixels.astype(np.float64)
        low, high = values.min(), values.max()
        pixels = (values - low) / (high - low) if high > low else np.zeros_like(values)
    if pixels.shape[2] != 3:  # one distance for grey and colour: grey repeated, other counts by their mean
        pixels = np.repeat(pixels if pixels.shape[2] == 1 else pixels.mean(axis=2, keepdims=True), 3, axis=2)
        pixels = pixels / 255.0 if pixels.max() > 1 else pixels
    return _contiguous(slic(pixels, n_segments=count, compactness=10.0, sigma=1.0, start_label=0, channel_axis=-1))


def _voronoi(height: int, width: int, count: int, seed: int) -> Ids:
    """Each element goes to the nearest of ``count`` random points."""
    drawn = np.random.default_rng(seed).choice(height * width, size=min(count, height * width), replace=False)
    down, across = np.arange(height)[:, None], np.arange(width)[None]
    best = np.full((height, width), np.inf)
    ids = np.zeros((height, width), dtype=np.int64)
    for index, point in enumerate(np.sort(drawn)):
        distance = (down - point // width) ** 2.0 + (across - point % width) ** 2.0
        nearer = distance < best
        best[nearer], ids[nearer] = distance[nearer], index
    return _contiguous(ids)


def _from_mask(mask: NDArray[Any], sample: NDArray[Any], layout: str | None) -> Ids:
    integers = mask.dtype.kind in "iub" or (mask.dtype.kind == "f" and bool(np.array_equal(mask, np.rint(mask))))
    if not integers:
        raise UsageError("segments.bad_mask", f"a mask of type {mask.dtype} holds no segment numbers", "give integers")
    shape = mask.shape
    while len(shape) > sample.ndim and shape[0] == 1:
        shape = shape[1:]
    mask = mask.reshape(shape)
    if layout == "HWC" and sample.ndim == 3 and shape == sample.shape[:2]:
        mask = mask[..., None]
    elif sample.ndim == 3 and layout is None and shape == sample.shape[:2] and shape != sample.shape[1:]:
        return _contiguous(mask)  # an (H, W, 3) picture: as `segment` gives for one
    try:
        fits = np.broadcast_shapes(mask.shape, sample.shape) == sample.shape
    except ValueError:
        fits = False
    if not fits or mask.size == 0:
        raise UsageError(
            "segments.bad_mask",
            f"a mask of shape {mask.shape} doesn't fit a sample of {sample.shape}",
            "resize the mask",
        )
    return _contiguous(mask)


def _contiguous(ids: NDArray[Any]) -> Ids:
    """The same partition numbered 0..S-1 in the order of the old numbers."""
    return np.unique(ids, return_inverse=True)[1].reshape(ids.shape).astype(np.int64)
