"""Pictures of inputs that were made: grids with their scores, and frames of the way there.

Belongs here: from an input's numbers to pixels. Not here: making inputs (``analyzer.visualization``), layouts of sheets
(``analyzer.report``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.inputs.reading import array_picture
from analyzer.report.heat import display_size, resize
from analyzer.report.picture_grid import draw_bars, draw_rows, draw_tiles
from analyzer.visualization.domain import Domain

Pixels = NDArray[np.uint8]
Array = NDArray[Any]
#: Most sides of frames, and the gap between several pictures of one.
_SIDE, _GAP = 384, 8
#: Width of a tile in a grid.
_TILE = 120


def as_picture(domain: Domain, x: Array) -> Pixels | None:
    """An input without its axis of samples as it looks, uint8 (height, width, 3); None for what is no picture."""
    if domain.preprocess is None or x.ndim != 3:
        return None
    return array_picture(x, "CHW" if domain.order[0] == 0 else "HWC", domain.preprocess)[0]


def sheet(
    title: str, domain: Domain, inputs: Sequence[Array], labels: Sequence[str], notes: Sequence[str]
) -> Pixels | None:
    """Inputs with a label each: pictures as a grid, series as curves, a table's row as bars; None for other tensors."""
    pictures = [as_picture(domain, x) for x in inputs]
    found = [each for each in pictures if each is not None]
    if len(found) == len(inputs):
        return draw_tiles(title, np.stack([_wide_enough(each) for each in found]), labels, notes)
    if len(domain.canonical) == 2:
        rows = np.concatenate([domain.from_model(x[None])[0] for x in inputs]).astype(np.float64)
        channels = domain.canonical[0]
        named = [label if channels == 1 else f"{label} [{at}]" for label in labels for at in range(channels)]
        return draw_rows(title, rows, named, notes)
    if len(domain.canonical) == 1 and len(inputs) == 1:
        return draw_bars(f"{title}: {labels[0]}", np.asarray(inputs[0], np.float64).reshape(-1), notes)
    if len(domain.canonical) == 1:
        return draw_rows(title, np.stack([np.asarray(x, np.float64).reshape(-1) for x in inputs]), labels, notes)
    return None


def _wide_enough(picture: Pixels) -> Pixels:
    """A picture as wide as its label needs, where whole multiples of its pixels aren't."""
    height, width = picture.shape[:2]
    if not _TILE / 2 < width < _TILE:
        return picture
    return resize(picture, round(height * _TILE / width), _TILE, smooth=True)


def frames(domain: Domain, ways: Sequence[Sequence[Array]]) -> list[Pixels]:
    """Pictures on their way side by side, all frames of one size; ways that end early stay as they are.

    Empty for what is no picture.
    """
    length = max((len(way) for way in ways), default=0)
    if not length or as_picture(domain, ways[0][0]) is None:
        return []
    return [_side_by_side([as_picture(domain, way[min(at, len(way) - 1)]) for way in ways]) for at in range(length)]


def _side_by_side(pictures: Sequence[Pixels | None]) -> Pixels:
    shown = [picture for picture in pictures if picture is not None]
    columns = int(np.ceil(np.sqrt(len(shown))))
    side = _SIDE // columns if len(shown) > 1 else _SIDE
    tall, wide = shown[0].shape[:2]
    height, width = display_size(tall, wide, smallest=min(side, _SIDE), largest=max(side, _SIDE // 2))
    rows = -(-len(shown) // columns)
    canvas = np.full((rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), 255, np.uint8)
    for at, picture in enumerate(shown):
        y, x = _GAP + at // columns * (height + _GAP), _GAP + at % columns * (width + _GAP)
        canvas[y : y + height, x : x + width] = resize(picture, height, width, smooth=False)
    return canvas
