"""Animations: frames of a picture that loses its pixels with its score beside it, and the file that plays any frames.

Belongs here: one frame's layout, and writing frames as GIF or WebP. Not here: which pixels go (``analyzer.evaluation``), the
page that lets one step through them (``evaluation_page``).
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.files import write_atomically
from analyzer.report.heat import display_size, resize
from analyzer.report.picture_curves import Line, draw_curves

Pixels = NDArray[np.uint8]
#: Milliseconds for which a frame is seen; the first and the last are held longer.
_FRAME_MS, _HELD_MS = 220, 1400


@dataclass(frozen=True, eq=False)
class Flipping:
    """One input losing its units.

    Attributes
    ----------
    title
        What is seen.
    pictures
        uint8 (frames, H, W, 3); the first is whole.
    shares, scores
        (frames,): the share of the units that is gone, and the score that is left.
    score_label
        What the score is.
    """

    title: str
    pictures: Pixels
    shares: NDArray[np.float64]
    scores: NDArray[np.float64]
    score_label: str = "score"


def frames(flipping: Flipping) -> list[Pixels]:
    """Each frame with its place on the curve, uint8 (height, width, 3), all of one size."""
    shape = flipping.pictures.shape
    height, width = display_size(shape[1], shape[2], smallest=384, largest=384)
    line = Line("", flipping.shares, flipping.scores)
    found = []
    for picture, share in zip(flipping.pictures, flipping.shares, strict=True):
        chart = draw_curves(
            flipping.title, [line], "share of the picture taken away", flipping.score_label, width=520,
            height=max(height, 300), point=float(share),
        )  # fmt: skip
        sheet = np.full((max(height, len(chart)) + 2 * 16, width + 16 + chart.shape[1], 3), 255, np.uint8)
        sheet[16 : 16 + height, 16 : 16 + width] = resize(picture, height, width, smooth=False)
        sheet[16 : 16 + len(chart), 16 + width :] = chart
        found.append(sheet)
    return found


def save_animation(flipping: Flipping, path: str | os.PathLike[str]) -> None:
    """Write the frames as ``.gif`` or ``.webp``, which play by themselves, completely or not at all.

    Raises
    ------
    UsageError
        ``output.format`` for another suffix, ``output.unwritable`` where the file can't be written.
    """
    target = Path(path)
    formats: dict[str, Literal["GIF", "WEBP"]] = {".gif": "GIF", ".webp": "WEBP"}
    if target.suffix.lower() not in formats:
        message = f"can't save an animation as {target.suffix!r}"
        raise UsageError("output.format", message, "use .gif or .webp")
    content = encoded(frames(flipping), formats[target.suffix.lower()])
    write_atomically(target, lambda draft: draft.write_bytes(content))


def encoded(pictures: Sequence[Pixels], kind: Literal["GIF", "WEBP"]) -> bytes:
    """Pictures of one size as an animation that plays by itself, over and over.

    Parameters
    ----------
    pictures
        uint8 (height, width, 3).
    """
    from PIL import Image

    images = [Image.fromarray(picture) for picture in pictures]
    if kind == "GIF":  # one palette for all frames, else the ground flickers
        together = np.concatenate([pictures[0], pictures[len(pictures) // 2], pictures[-1]])
        palette = Image.fromarray(together).quantize(255, dither=Image.Dither.NONE)
        images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [_HELD_MS, *[_FRAME_MS] * (len(images) - 2), _HELD_MS][: len(images)]
    stream = io.BytesIO()
    more = {"lossless": True, "method": 4} if kind == "WEBP" else {"optimize": False}
    images[0].save(stream, kind, save_all=True, append_images=images[1:], duration=durations, loop=0, **more)
    return stream.getvalue()
