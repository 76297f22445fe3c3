"""The colours of relevance: lookup tables of 256 sRGB entries.

Belongs here: how a position on a scale becomes a colour. Not here: how a value becomes a position
(``scale``).

The diverging and the light sequential table are built in OKLCh, a cylinder of the perceptual space OKLab
(Björn Ottosson, "A perceptual color space for image processing", 2020): lightness falls linearly with
|position| and is the same on both sides, so relevance of equal size looks equally strong whatever its sign.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Table = Literal["diverging", "dark", "light"]

ENTRIES = 255
NAN_INDEX = 255
NAN_COLOUR = (150, 150, 150)

_LMS_FROM_LAB = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_RGB_FROM_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def _srgb(lightness: NDArray[np.float64], chroma: NDArray[np.float64], hue: NDArray[np.float64]) -> NDArray[np.uint8]:
    """OKLCh (hue in degrees) as 8-bit sRGB; colours outside the gamut lose chroma, not lightness."""
    angle = np.deg2rad(hue)
    shrink = np.ones_like(lightness)
    for _ in range(60):
        lab = np.stack([lightness, shrink * chroma * np.cos(angle), shrink * chroma * np.sin(angle)], axis=-1)
        linear = ((lab @ _LMS_FROM_LAB.T) ** 3) @ _RGB_FROM_LMS.T
        outside = ((linear < -1e-4) | (linear > 1 + 1e-4)).any(axis=-1)
        if not outside.any():
            break
        shrink = np.where(outside, 0.97 * shrink, shrink)
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(255 * encoded), dtype=np.uint8)


def _diverging() -> NDArray[np.uint8]:
    position = np.linspace(-1, 1, ENTRIES)
    strength = np.abs(position)
    lightness = 0.975 - 0.525 * strength
    chroma = 0.195 * strength**0.85
    # Pale blues lean to violet and pale reds to pink unless their hue turns a little towards cyan and orange.
    hue = np.where(position > 0, 40 - 14 * strength, 240 + 18 * strength)
    return _srgb(lightness, chroma, hue)


def _light() -> NDArray[np.uint8]:
    position = np.linspace(0, 1, ENTRIES)
    return _srgb(0.985 - 0.60 * position, 0.165 * np.sin(np.pi * position**0.8 * 0.72), 88 - 70 * position)


def _dark() -> NDArray[np.uint8]:
    from matplotlib import colormaps

    return np.asarray(colormaps["inferno"](np.linspace(0, 1, ENTRIES), bytes=True), dtype=np.uint8)[:, :3]


@lru_cache(maxsize=3)
def table(name: Table) -> NDArray[np.uint8]:
    """The table ``name``, uint8 of shape (256, 3), read-only.

    ``diverging`` runs blue, white, red, with zero exactly at entry 127; ``dark`` (inferno) from black and
    ``light`` from white start at zero. The last entry is the grey of values that aren't finite.
    """
    rows = {"diverging": _diverging, "light": _light, "dark": _dark}[name]()
    full = np.concatenate([rows, np.array([NAN_COLOUR], dtype=np.uint8)])
    full.setflags(write=False)
    return full


def index(position: NDArray[np.float64], name: Table) -> NDArray[np.uint8]:
    """Entries of table ``name`` for positions in [−1, 1] (diverging) or [0, 1]; NaN gets the grey entry."""
    unit = (position + 1) / 2 if name == "diverging" else position
    entry = np.clip(np.round(np.nan_to_num(unit) * (ENTRIES - 1)), 0, ENTRIES - 1)
    return np.where(np.isnan(position), NAN_INDEX, entry).astype(np.uint8)


def paint(position: NDArray[np.float64], name: Table) -> NDArray[np.uint8]:
    """Positions as sRGB: adds an axis of 3."""
    return np.asarray(table(name)[index(position, name)])


def ink_on(colour: NDArray[np.uint8]) -> str:
    """``#000000`` or ``#ffffff``: whichever has the higher WCAG contrast on ``colour``, uint8 (3,)."""
    unit = colour.astype(np.float64) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"


def hexadecimal(colour: NDArray[np.uint8]) -> str:
    """``#rrggbb`` of a colour, uint8 of shape (3,)."""
    return "#" + "".join(f"{int(part):02x}" for part in colour)
