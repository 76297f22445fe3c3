"""Drawn 64x64 scenes with one object of a known class and its exact mask.

Belongs here: classes, outlines of the shapes, composing a scene, data sets of scenes. Not here: what lies behind the
object (``backdrop``), the written tag (``tag``), anything that learns.

Everything is drawn by Pillow at four times the resolution and averaged down, from one ``numpy`` generator, so a seed
names a picture. The mask makes the scenes a ground truth for explanations: the class depends on nothing outside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.shapes.backdrop import SIZE, SUPER, backdrop, color, shrink
from models.shapes.tag import paste_tag, tag_mask

__all__ = ["CLASSES", "SIZE", "Scene", "dataset", "paste_tag", "scene", "tag_mask"]

CLASSES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross", "ring")

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """One picture and what is true of it.

    Attributes
    ----------
    image
        ``uint8``, (64, 64, 3), RGB.
    mask
        ``bool``, (64, 64): where the object covers at least half of the pixel.
    label
        Index into `CLASSES`.
    background
        ``uint8``, (64, 64, 3): the same picture, noise included, without the object.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    label: int
    background: NDArray[np.uint8]


def _radial(radii: Sequence[float], start: float = 0.0) -> Points:
    """Polygon whose corners lie at equal angles and at the given radii, (corners, 2)."""
    angles = start + np.arange(len(radii)) * (2 * np.pi / len(radii))
    return np.asarray(np.asarray(radii)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def _outlines(name: str, rng: np.random.Generator) -> tuple[Points, Points | None]:
    """Outline of a shape of unit radius, and of its hole where it has one."""
    if name == "circle":
        return _radial([1.0] * 64), None
    if name == "ring":
        return _radial([1.0] * 64), _radial([float(rng.uniform(0.48, 0.68))] * 64)
    if name == "square":
        return _radial([1.0] * 4), None
    if name == "triangle":
        return _radial([1.0] * 3), None
    if name == "star":
        return _radial([1.0, float(rng.uniform(0.36, 0.48))] * 5), None
    arm = float(rng.uniform(0.24, 0.36))  # cross: a plus sign whose arms are 2 * arm wide
    quarter = np.array([[1.0, -arm], [1.0, arm], [arm, arm]])
    return np.concatenate([quarter @ _turn(k * np.pi / 2).T for k in range(4)]), None


def _turn(angle: float) -> Points:
    """Rotation matrix, (2, 2)."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _coverage(name: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Share of each pixel that a randomly sized, placed and turned shape covers: (64, 64) in [0, 1]."""
    radius = rng.uniform(10.0, 20.0)
    centre = rng.uniform(radius + 1.0, SIZE - radius - 1.0, size=2)
    squeeze = np.diag([1.0, rng.uniform(0.85, 1.0)])
    place = radius * _turn(rng.uniform(0, 2 * np.pi)) @ squeeze @ _turn(rng.uniform(0, 2 * np.pi))
    canvas = Image.new("L", (SIZE * SUPER, SIZE * SUPER), 0)
    pen = ImageDraw.Draw(canvas)
    for outline, ink in zip(_outlines(name, rng), (255, 0), strict=True):
        if outline is not None:
            pen.polygon([(x, y) for x, y in ((outline @ place.T + centre) * SUPER).tolist()], fill=ink)
    return shrink(np.asarray(canvas)[:, :, None])[:, :, 0] / 255.0


def _fill(behind: NDArray[np.float64], where: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Colour of the object, (64, 64, 3) in [0, 255]: shaded, and well apart from what lies behind it."""
    weight = where / where.sum()
    mean = np.tensordot(weight, behind, axes=([0, 1], [0, 1]))
    ink = color(rng)
    while np.linalg.norm(ink - mean) < 110.0:
        ink = color(rng)
    direction = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE - 0.5
    shade = rng.uniform(0.0, 50.0) * (np.cos(direction) * columns + np.sin(direction) * rows)
    return np.asarray(ink + shade[:, :, None])


def scene(rng: np.random.Generator, label: int | None = None) -> Scene:
    """Draw a scene with one object.

    Parameters
    ----------
    rng
        The only source of chance.
    label
        Class of the object, an index into `CLASSES`; drawn at random where it is None.
    """
    if label is None:
        label = int(rng.integers(len(CLASSES)))
    behind = backdrop(rng)
    cover = _coverage(CLASSES[label], rng)
    fill = _fill(behind, cover, rng)
    noise = rng.normal(0.0, rng.uniform(1.0, 8.0), size=behind.shape)
    drawn = behind + cover[:, :, None] * (fill - behind)
    return Scene(_bytes(drawn + noise), cover >= 0.5, label, _bytes(behind + noise))


def _bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colours in [0, 255], rounded."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def dataset(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
    """Draw many scenes; every run of ``len(CLASSES)`` scenes has each class once.

    A larger `count` with the same seed begins with the same scenes.

    Returns
    -------
    images
        ``uint8``, (count, 64, 64, 3), RGB.
    masks
        ``bool``, (count, 64, 64).
    labels
        ``int64``, (count,).
    """
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    masks = np.empty((count, SIZE, SIZE), np.bool_)
    labels = np.empty(count, np.int64)
    for index in range(count):
        block, place = divmod(index, len(CLASSES))
        order = np.random.default_rng([seed, 0, block]).permutation(len(CLASSES))
        drawn = scene(np.random.default_rng([seed, 1, index]), int(order[place]))
        images[index], masks[index], labels[index] = drawn.image, drawn.mask, drawn.label
    return images, masks, labels
