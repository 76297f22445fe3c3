"""The picture of an explained image: input, map and overlay, one colour bar.

Belongs here: the layout of the three parts. Not here: other kinds of samples (the other ``picture_*`` modules), pixels of
the parts (``heat``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.report import heat
from analyzer.report.canvas import LIGHT, LINE, Canvas, Theme, bar_height, fit
from analyzer.report.headings import Heading, heading
from analyzer.report.panel import Panel, Sample

MARGIN = 32
GAP = 24
SMALL = 16
WIDE = 2.2
"""Pictures wider than this times their height are stacked instead of lined up."""


def draw_image(sample: Sample, panel: Panel, theme: Theme = LIGHT) -> NDArray[np.uint8]:
    """Three parts, each drawn at ``heat.display_size``: in a row, or one above the other for wide pictures."""
    parts = heat.layers(sample, panel)
    tall, wide = heat.display_size(*parts.picture.shape[:2])
    pictures = [
        heat.resize(parts.picture, tall, wide, smooth=True),
        heat.resize(parts.heat, tall, wide, smooth=False),
        heat.resize(parts.overlay, tall, wide, smooth=True),
    ]
    height, width = parts.picture.shape[:2]
    summed = f"relevance, {'; '.join(parts.notes)}" if parts.notes else "relevance"
    reduced = f", drawn at {round(100 * wide / width)} %" if wide < width else ""
    captions = [f"{sample.name}, {width} × {height}", summed, f"overlay{reduced}"]
    stacked = wide > WIDE * tall
    draw = _stack if stacked else _row
    return draw(heading(panel, parts.scale.notes), parts, pictures, captions, theme)


def _row(
    head: Heading,
    parts: heat.Layers,
    pictures: list[NDArray[np.uint8]],
    captions: list[str],
    theme: Theme,
) -> NDArray[np.uint8]:
    tall, wide = pictures[0].shape[:2]
    column = max(wide, 260)  # narrow pictures still need room for words
    width = 2 * MARGIN + 3 * column + 2 * GAP
    top = MARGIN + head.height(width - 2 * MARGIN) + 14
    below = round(top + LINE * SMALL + 6 + tall + 18)
    notes = head.note_lines(column, 6)
    bar = MARGIN + column + GAP
    under = max(bar_height(parts.scale, width - MARGIN - bar), len(notes) * LINE * SMALL)
    height = round(below + under + MARGIN - 6)
    canvas = Canvas(width, height, theme)
    head.draw(canvas, MARGIN, MARGIN, width - 2 * MARGIN)
    for number, (pixels, caption) in enumerate(zip(pictures, captions, strict=True)):
        x = MARGIN + number * (column + GAP)
        canvas.text(x, top, fit(caption, column, SMALL), SMALL, colour=theme.faint)
        canvas.image(x, round(top + LINE * SMALL + 6), pixels)
    canvas.lines(MARGIN, below - 4, notes, SMALL, colour=theme.faint)
    canvas.colour_bar(bar, below, width - MARGIN - bar, parts.scale, parts.table)
    return canvas.pixels()


def _stack(
    head: Heading,
    parts: heat.Layers,
    pictures: list[NDArray[np.uint8]],
    captions: list[str],
    theme: Theme,
) -> NDArray[np.uint8]:
    tall, wide = pictures[0].shape[:2]
    width = 2 * MARGIN + max(wide, 520)
    inner = width - 2 * MARGIN
    y = MARGIN + head.height(inner) + 14
    step = LINE * SMALL + 6 + tall + 16
    notes = head.note_lines(inner, 6)
    height = round(y + 3 * step + bar_height(parts.scale, inner) + 8 + len(notes) * LINE * SMALL + MARGIN)
    canvas = Canvas(width, height, theme)
    head.draw(canvas, MARGIN, MARGIN, inner)
    for pixels, caption in zip(pictures, captions, strict=True):
        canvas.text(MARGIN, y, fit(caption, inner, SMALL), SMALL, colour=theme.faint)
        canvas.image(MARGIN, round(y + LINE * SMALL + 6), pixels)
        y += step
    y = canvas.colour_bar(MARGIN, round(y + 2), inner, parts.scale, parts.table)
    canvas.lines(MARGIN, y + 6, notes, SMALL, colour=theme.faint)
    return canvas.pixels()
