"""What lies behind the object of a scene: a textured ground and small distractors that are none of the classes.

Belongs here: sizes of the drawing, colours, textures, distractors. Not here: the shapes that have a class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 64
SUPER = 4  # everything with an edge is drawn this many times larger and averaged down

Floats = NDArray[np.float64]


def color(rng: np.random.Generator) -> Floats:
    """A random RGB colour in [0, 255]."""
    return rng.uniform(15, 240, size=3)


def shrink(drawn: NDArray[np.uint8]) -> Floats:
    """Average SUPER x SUPER blocks: (SUPER*h, SUPER*w, c) to (h, w, c)."""
    height, width, channels = drawn.shape
    blocks = drawn.reshape(height // SUPER, SUPER, width // SUPER, SUPER, channels)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64))


def _wave(rng: np.random.Generator) -> Floats:
    """A plane coordinate in a random direction, in pixels, (64, 64)."""
    angle = rng.uniform(0, np.pi)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    return np.asarray(np.cos(angle) * columns + np.sin(angle) * rows + rng.uniform(0, SIZE))


def _clouds(rng: np.random.Generator, cells: int) -> Floats:
    """Smooth noise in [0, 1] with about ``cells`` bumps along a side, (64, 64)."""
    coarse = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
    fine = np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float64)
    return np.asarray(np.clip(fine, 0.0, 1.0))


def _texture(rng: np.random.Generator) -> Floats:
    """How much of the second colour each pixel takes: (64, 64) in [0, 1]."""
    kind = rng.choice(["plain", "gradient", "clouds", "stripes", "checks", "speckle", "weave"])
    if kind == "plain":
        return np.zeros((SIZE, SIZE))
    if kind == "gradient":
        ramp = _wave(rng)
        return np.asarray((ramp - ramp.min()) / np.ptp(ramp))
    if kind == "clouds":
        return _clouds(rng, int(rng.integers(3, 12)))
    period = rng.uniform(3.0, 12.0)
    stripes = 0.5 + 0.5 * np.clip(3 * np.sin(2 * np.pi * _wave(rng) / period), -1, 1)
    if kind == "stripes":
        return np.asarray(stripes)
    across = 0.5 + 0.5 * np.clip(3 * np.sin(2 * np.pi * _wave(rng) / period), -1, 1)
    if kind == "checks":
        return np.asarray(stripes * across + (1 - stripes) * (1 - across))
    if kind == "weave":
        return np.asarray(0.5 * stripes + 0.5 * across)
    return np.asarray((rng.random((SIZE, SIZE)) < rng.uniform(0.1, 0.5)).astype(np.float64))


def _distractors(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Draw lines, bows, dots and ragged blobs: all thin, or far smaller than an object."""
    for _ in range(int(rng.integers(2, 8))):
        ink = (*(int(part) for part in color(rng)), 255)
        kind = rng.choice(["line", "bow", "dot", "blob"])
        x, y = rng.uniform(0, SIZE, size=2) * SUPER
        width = int(rng.uniform(1.0, 2.5) * SUPER)
        if kind == "line":
            angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(6, 40) * SUPER
            pen.line((x, y, x + length * np.cos(angle), y + length * np.sin(angle)), fill=ink, width=width)
        elif kind == "bow":
            half, start = rng.uniform(4, 14) * SUPER, rng.uniform(0, 360)
            box = (x - half, y - half, x + half, y + half)
            pen.arc(box, start, start + rng.uniform(40, 130), fill=ink, width=width)
        elif kind == "dot":
            half = rng.uniform(0.8, 2.2) * SUPER
            pen.ellipse((x - half, y - half, x + half, y + half), fill=ink)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, size=9))
            radii = rng.uniform(1.0, 4.5, size=9) * SUPER
            ragged = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1)
            pen.polygon([(float(px), float(py)) for px, py in ragged], fill=ink)


def backdrop(rng: np.random.Generator) -> Floats:
    """Draw a ground with distractors, (64, 64, 3) in [0, 255], without noise."""
    first = color(rng)
    second = first + rng.uniform(-70, 70, size=3)
    ground = first + _texture(rng)[:, :, None] * (second - first)
    layer = Image.new("RGBA", (SIZE * SUPER, SIZE * SUPER), (0, 0, 0, 0))
    _distractors(ImageDraw.Draw(layer), rng)
    pixels = np.asarray(layer)
    alpha = shrink(pixels[:, :, 3:]) / 255.0
    ink = shrink(pixels[:, :, :3])  # transparent pixels are black: already multiplied by alpha
    return np.asarray(ground * (1 - alpha) + ink)
