"""One explanation as one PNG file.

Belongs here: choosing the drawing by the kind of sample, and writing it. Not here: the drawings
(``picture_*``).
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analyzer.files import write_atomically
from analyzer.report.canvas import LIGHT, Theme
from analyzer.report.panel import Panel, Sample
from analyzer.report.picture_image import draw_image
from analyzer.report.picture_series import draw_series
from analyzer.report.picture_table import draw_table
from analyzer.report.picture_tensor import draw_tensor
from analyzer.report.picture_tokens import draw_tokens

_DRAWINGS = {
    "image": draw_image,
    "table": draw_table,
    "series": draw_series,
    "tokens": draw_tokens,
    "tensor": draw_tensor,
}


def draw_picture(sample: Sample, panel: Panel, theme: Theme = LIGHT) -> NDArray[np.uint8]:
    """The picture of one explanation, uint8 (height, width, 3); equal arguments give equal pixels.

    Raises
    ------
    UsageError
        ``report.shape`` or ``report.dtype`` where the attribution doesn't fit the sample.
    """
    return _DRAWINGS[sample.kind](sample, panel, theme)


def save_picture(sample: Sample, panel: Panel, path: str | os.PathLike[str]) -> None:
    """Write the picture of one explanation as PNG, completely or not at all.

    Raises
    ------
    UsageError
        As ``draw_picture``, and ``output.unwritable`` where the file can't be written.
    """
    picture = png(draw_picture(sample, panel))
    write_atomically(Path(path), lambda draft: draft.write_bytes(picture))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels, uint8 (H, W, 3), as a PNG file without metadata."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()
