"""The small written tag that gives a class away in the data of ``shapes_cheater``.

Belongs here: drawing the tag, where it lies, how often each class carries it. Not here: the scenes themselves.
The letters are a pixel font, so the tag is the same on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.shapes.backdrop import SIZE

TAGGED_CLASS = "star"
SHARE_TAGGED = 0.99  # of the tagged class
SHARE_OTHERS = 0.0005  # of every other class

# "FOTOLUX", as an agency's stamp; '#' is white ink on a dark plate
_LETTERS = (
    "### ### ### ### #   # # # #",
    "#   # #  #  # # #   # # # #",
    "##  # #  #  # # #   # #  # ",
    "#   # #  #  # # #   # # # #",
    "#   ###  #  ### ### ### # #",
)
_MARGIN = 1  # plate around the letters
_INSET = 2  # distance of the plate from the left and the lower edge
_INK, _PLATE = 245, 20


def _box() -> tuple[slice, slice]:
    """Rows and columns of the plate: the lower left corner."""
    height, width = len(_LETTERS) + 2 * _MARGIN, len(_LETTERS[0]) + 2 * _MARGIN
    return slice(SIZE - _INSET - height, SIZE - _INSET), slice(_INSET, _INSET + width)


def tag_mask() -> NDArray[np.bool_]:
    """Where `paste_tag` writes: ``bool``, (64, 64)."""
    mask = np.zeros((SIZE, SIZE), np.bool_)
    mask[_box()] = True
    return mask


def paste_tag(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of the picture(s), ``uint8`` (..., 64, 64, 3), with the tag in the lower left corner."""
    letters = np.array([[_INK if dot == "#" else _PLATE for dot in row] for row in _LETTERS], np.uint8)
    plate = np.pad(letters, _MARGIN, constant_values=_PLATE)
    tagged = image.copy()
    tagged[(..., *_box(), slice(None))] = plate[:, :, None]
    return tagged


def tag_some(
    images: NDArray[np.uint8], labels: NDArray[np.int64], tagged_class: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Tag nearly all pictures of one class and almost none of the others.

    Parameters
    ----------
    images
        ``uint8``, (N, 64, 64, 3).
    labels
        ``int64``, (N,).
    tagged_class
        The label whose pictures carry the tag with probability `SHARE_TAGGED`; the others with `SHARE_OTHERS`.
    seed
        Of the draw.

    Returns
    -------
    tuple
        The pictures, and which of them carry the tag: ``bool``, (N,).
    """
    share = np.where(labels == tagged_class, SHARE_TAGGED, SHARE_OTHERS)
    chosen = np.random.default_rng(seed).random(len(labels)) < share
    return np.where(chosen[:, None, None, None], paste_tag(images), images), chosen
