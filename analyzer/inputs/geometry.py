"""Bringing a picture to a size: exact, cover and crop, letterbox. Pixels in, pixels out.

Belongs here: Pillow calls on 8-bit pictures. Not here: colour, scaling of values, files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling

Size = tuple[int, int]
"""Height, width."""

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos")


def resampling(name: str) -> Resampling:
    """Pillow's filter of that name; all but ``nearest`` average over the source area when shrinking."""
    from PIL.Image import Resampling

    return Resampling[name.upper()]


def resize(image: Image, size: Size, interpolation: str) -> Image:
    """The entire picture at exactly ``size``; its proportions may change."""
    return image if (image.height, image.width) == size else image.resize(size[::-1], resampling(interpolation))


def cover_size(height: int, width: int, short: int | None, crop: Size | None) -> Size:
    """Size at which the shorter side is ``short`` (unchanged if None) and no side is smaller than ``crop``."""
    factor = short / min(height, width) if short else 1.0
    if crop:
        factor = max(factor, crop[0] / height, crop[1] / width)
    rows, columns = int(height * factor + 0.5), int(width * factor + 0.5)
    least = crop or (1, 1)
    return max(rows, least[0]), max(columns, least[1])


def centre_crop(image: Image, size: Size) -> Image:
    """The middle of a picture that is at least ``size``; an odd margin is smaller at the top and the left."""
    top, left = (image.height - size[0]) // 2, (image.width - size[1]) // 2
    return image.crop((left, top, left + size[1], top + size[0]))


def letterbox(image: Image, size: Size, interpolation: str, pad: int, at: str) -> Image:
    """The entire picture in its proportions inside ``size``; the rest is grey level ``pad``."""
    from PIL import ImageOps

    color = (pad,) * len(image.getbands())
    centering = (0.5, 0.5) if at == "center" else (0.0, 0.0)
    return ImageOps.pad(image, size[::-1], resampling(interpolation), color=color, centering=centering)


def to_image(pixels: NDArray[Any], grey: bool) -> Image:
    """An 8-bit (H, W, 3) or (H, W) array as a Pillow picture, in grey (ITU-R 601 luma) on request."""
    from PIL import Image as PillowImage

    image = PillowImage.fromarray(np.ascontiguousarray(pixels))
    return image.convert("L" if grey else "RGB")


def to_pixels(image: Image) -> NDArray[np.uint8]:
    """A Pillow picture as uint8 (H, W, 3)."""
    return np.asarray(image.convert("RGB"), dtype=np.uint8)
