"""Pixels of images: colouring a map, laying it over its picture, and sizes fit to be looked at.

Belongs here: arrays in, uint8 arrays out. Not here: text, figures, files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.report import colours
from analyzer.report.panel import Panel, Sample
from analyzer.report.reduce import grey_picture, image_map
from analyzer.report.scale import Scale, fit_scale

if TYPE_CHECKING:
    from PIL.Image import Resampling

OPACITY = 0.92
BOX = (0, 230, 118)
"""The outline of an explained detection, or of a region: green occurs in no colour table."""


@dataclass(frozen=True, eq=False)
class Layers:
    """An image explanation as pixels, all of one resolution.

    Parameters
    ----------
    picture
        What the model saw, uint8 (H, W, 3).
    index
        The map as entries of the colour table ``table``, uint8 (H, W).
    overlay
        The map over the greyed picture, uint8 (H, W, 3); opacity follows |relevance|.
    scale, table, notes
        Where the colours end, which colours, and what was summed or enlarged.
    """

    picture: NDArray[np.uint8]
    index: NDArray[np.uint8]
    overlay: NDArray[np.uint8]
    scale: Scale
    table: colours.Table
    notes: tuple[str, ...]

    @property
    def heat(self) -> NDArray[np.uint8]:
        """The map in colours, uint8 (H, W, 3)."""
        return np.asarray(colours.table(self.table)[self.index])


def picture_of(sample: Sample) -> NDArray[np.uint8]:
    """The picture of an image sample, drawn in grey from its values where it has none."""
    return grey_picture(sample) if sample.image is None else sample.image


def layers(sample: Sample, panel: Panel) -> Layers:
    """Colour one image explanation.

    The scale is fitted to the map at its own resolution; a map of another resolution than the picture is
    enlarged (bilinear) or reduced (mean) afterwards, with a note.

    Raises
    ------
    UsageError
        ``report.shape`` where the attribution isn't a map of an image.
    """
    picture = picture_of(sample)
    drawn = image_map(sample, panel)
    scale = fit_scale(drawn.values, panel.signed)
    position = scale.position(drawn.values)
    notes = list(drawn.notes)
    if position.shape != picture.shape[:2]:
        notes.append(f"map of {' × '.join(map(str, position.shape))} fitted to the picture")
        position = _fit(position, picture.shape[0], picture.shape[1])
    table: colours.Table = "diverging" if panel.signed else "dark"
    index = colours.index(position, table)
    heat = colours.table(table)[index]
    overlay = _overlay(picture, heat, position, panel.signed)
    for box in panel.boxes:
        picture, overlay = outlined(picture, box), outlined(overlay, box)
    if panel.region is not None:
        picture, overlay = bordered(picture, panel.region), bordered(overlay, panel.region)
    return Layers(picture, index, overlay, scale, table, tuple(notes))


def _overlay(
    picture: NDArray[np.uint8], heat: NDArray[np.uint8], position: NDArray[np.float64], signed: bool
) -> NDArray[np.uint8]:
    luminance = picture @ np.array([0.299, 0.587, 0.114])
    # Red and blue read on a light grey, the bright end of the sequential table on a dark one.
    grey = 0.62 * luminance + 86 if signed else 0.72 * luminance
    alpha = OPACITY * np.nan_to_num(np.abs(position), nan=1.0) ** 0.75
    mixed = alpha[..., None] * heat + (1 - alpha[..., None]) * grey[..., None]
    return np.asarray(np.round(mixed), dtype=np.uint8)


def outlined(pixels: NDArray[np.uint8], box: tuple[float, ...]) -> NDArray[np.uint8]:
    """A copy with the outline of a box x0, y0, x1, y1; what lies outside the picture is cut off."""
    from PIL import Image, ImageDraw

    height, width = pixels.shape[:2]
    if not np.isfinite(box).all():
        return pixels
    x0, y0, x1, y1 = np.clip(np.round(box), 0, [width, height, width, height]).astype(int).tolist()
    drawn = Image.fromarray(pixels)
    thick = max(1, round(max(height, width) / 240))
    ImageDraw.Draw(drawn).rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=BOX, width=thick)
    return np.asarray(drawn, dtype=np.uint8)


def bordered(pixels: NDArray[np.uint8], region: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A copy with the border of a region, drawn around it; a region of another shape than the picture's is left out."""
    if region.shape != pixels.shape[:2]:
        return pixels
    wide = np.pad(region, 1)
    around = wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    inner = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    border = (around & ~region) | (region & ~inner & _at_edge(region.shape))
    return np.where(border[..., None], np.asarray(BOX, np.uint8), pixels)


def _at_edge(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The outermost pixels of a picture."""
    edge = np.ones(shape, bool)
    edge[1:-1, 1:-1] = False
    return edge


def _fit(position: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    from PIL.Image import Resampling

    finite = bool(np.isfinite(position).all())
    enlarged = height >= position.shape[0] and width >= position.shape[1]
    smooth = Resampling.BILINEAR if enlarged else Resampling.BOX
    how = smooth if finite else Resampling.NEAREST  # the others would spread what isn't finite
    return _resampled(position.astype(np.float32), height, width, how).astype(np.float64)


def display_size(
    height: int, width: int, smallest: int = 448, largest: int = 560, thinnest: int = 24
) -> tuple[int, int]:
    """Height and width at which a picture is drawn.

    Small pictures are enlarged by an integer factor, up to ``smallest`` on the longer side; larger ones than
    ``largest`` are reduced; no side falls under ``thinnest``.
    """
    longer = max(height, width)
    if longer <= smallest:
        factor = smallest // longer
        height, width = height * factor, width * factor
    elif longer > largest:
        height, width = round(height * largest / longer), round(width * largest / longer)
    return max(height, thinnest), max(width, thinnest)


def resize(pixels: NDArray[np.uint8], height: int, width: int, smooth: bool) -> NDArray[np.uint8]:
    """Pixels at another size: reduced by the mean, enlarged in blocks, or smoothly for photographs.

    ``smooth`` has an effect up to threefold enlargement; beyond that, single pixels are what one wants to
    see.
    """
    from PIL.Image import Resampling

    if pixels.shape[:2] == (height, width):
        return pixels
    factor = max(height / pixels.shape[0], width / pixels.shape[1])
    if factor <= 1:
        how = Resampling.LANCZOS if smooth else Resampling.BOX
    else:
        how = Resampling.BICUBIC if smooth and factor <= 3 else Resampling.NEAREST
    return _resampled(pixels, height, width, how)


def _resampled(array: NDArray[Any], height: int, width: int, how: Resampling) -> NDArray[Any]:
    """An 8-bit picture or a float32 map at another size, by one of Pillow's filters."""
    from PIL import Image

    return np.asarray(Image.fromarray(array).resize((width, height), how))
