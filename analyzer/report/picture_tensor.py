"""The picture of an explained tensor without further meaning: its values in grey, its relevance in colours.

Belongs here: the layout of strips. Not here: samples whose axes mean something (the other ``picture_*`` modules).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.report import colours, heat
from analyzer.report.canvas import LIGHT, LINE, Canvas, Theme, bar_height, fit
from analyzer.report.headings import heading
from analyzer.report.panel import Panel, Sample
from analyzer.report.reduce import tensor_map
from analyzer.report.scale import fit_scale
from analyzer.report.text import number

MARGIN = 32
WIDTH = 1100
SMALL = 16


def draw_tensor(
    sample: Sample, panel: Panel, theme: Theme = LIGHT, map_only: bool = False, width: int = WIDTH
) -> NDArray[np.uint8]:
    """Two strips, the last axis across, all others down; ``map_only`` leaves out all but them and their captions."""
    drawn = tensor_map(panel.attribution)
    scale = fit_scale(panel.attribution, panel.signed)
    table: colours.Table = "diverging" if panel.signed else "light"
    head = heading(panel, (*scale.notes, *drawn.notes))
    margin = 8 if map_only else MARGIN
    inner = width - 2 * margin
    relevance = colours.paint(scale.position(drawn.values), table)
    strips = [(f"relevance, shape {' × '.join(map(str, panel.attribution.shape)) or 'scalar'}", relevance)]
    if np.asarray(sample.values).dtype.kind in "biuf" and sample.values.size:
        strips.insert(0, _grey(sample))
    notes = [] if map_only else head.note_lines(inner, 6)
    sizes = [_strip_height(strip.shape, inner) for _, strip in strips]
    top = 8 if map_only else MARGIN + head.height(inner) + 16
    bottom = top + sum(LINE * SMALL + 4 + size + 14 for size in sizes)
    below = 10 + bar_height(scale, inner) + len(notes) * LINE * SMALL + MARGIN
    canvas = Canvas(width, round(bottom + (0 if map_only else below)), theme)
    if not map_only:
        head.draw(canvas, MARGIN, MARGIN, inner)
    y = top
    for (caption, strip), size in zip(strips, sizes, strict=True):
        canvas.text(margin, y, fit(caption, inner, SMALL), SMALL, colour=theme.faint)
        y += LINE * SMALL + 4
        canvas.image(margin, round(y), heat.resize(strip, size, inner, smooth=False))
        y += size + 14
    if not map_only:
        y = canvas.colour_bar(margin, round(y + 4), inner, scale, table)
        canvas.lines(margin, y + 6, notes, SMALL, colour=theme.faint)
    return canvas.pixels()


def _strip_height(shape: tuple[int, ...], width: int) -> int:
    rows, columns = shape[:2]
    return int(np.clip(round(width * rows / columns), 48 if rows == 1 else 96, 420))


def _grey(sample: Sample) -> tuple[str, NDArray[np.uint8]]:
    matrix = tensor_map(sample.values).values
    finite = matrix[np.isfinite(matrix)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    unit = (np.nan_to_num(matrix, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    shades = np.round(255 * (0.06 + 0.9 * unit)).astype(np.uint8)
    shape = " × ".join(map(str, sample.values.shape)) or "scalar"
    caption = f"{sample.name}, shape {shape}, black {number(low, 3)}, white {number(high, 3)}"
    return caption, np.repeat(shades[..., None], 3, axis=2)
