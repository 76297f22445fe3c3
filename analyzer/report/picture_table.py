"""The picture of an explained table row: bars of the most relevant features.

Belongs here: the layout of bars. Not here: which features these are (``reduce``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.report import colours
from analyzer.report.canvas import LIGHT, LINE, Canvas, Theme, fit, text_width
from analyzer.report.headings import heading
from analyzer.report.panel import Panel, Sample
from analyzer.report.reduce import feature_bars
from analyzer.report.text import number

MARGIN = 32
WIDTH = 1000
ROW = 34
SIZE = 17
LABEL = 360


def bar_colour(value: float, signed: bool) -> str:
    """Red for positive and blue for negative relevance; amber where the sign has no meaning."""
    if not signed:
        return colours.hexadecimal(colours.table("light")[140])
    return colours.hexadecimal(colours.table("diverging")[230 if value >= 0 else 24])


def _label(name: str, detail: str) -> str:
    """``name = value`` in at most ``LABEL`` pixels: a long name is cut, the value stays."""
    detail = fit(f" {detail}", 0.6 * LABEL, SIZE)
    return f"{fit(name, LABEL - text_width(detail, SIZE), SIZE)} {detail}"


def draw_table(sample: Sample, panel: Panel, theme: Theme = LIGHT) -> NDArray[np.uint8]:
    """One row per feature: ``name = value``, a bar from a common zero, the relevance as a number."""
    bars = feature_bars(sample, panel)
    values = bars.values
    finite = values[np.isfinite(values)]
    low, high = min(0.0, *finite, 0.0), max(0.0, *finite, 0.0)
    notes = list(bars.notes)
    if values.size and not finite.any():
        notes.insert(0, "map is zero everywhere" if finite.size else "map has no finite value")
    head = heading(panel, tuple(notes))
    inner = WIDTH - 2 * MARGIN
    top = MARGIN + head.height(inner) + 20
    notes = head.note_lines(inner, 6)
    bottom = top + ROW * len(values)
    height = round(bottom + 14 + len(notes) * LINE * 16 + MARGIN)
    canvas = Canvas(WIDTH, height, theme)
    head.draw(canvas, MARGIN, MARGIN, inner)

    numbers = [number(float(value), 3) for value in values]
    labels = [_label(name, detail) for name, detail in zip(bars.labels, bars.details, strict=True)]
    label_room = max((text_width(label, SIZE) for label in labels), default=0)
    number_room = max((text_width(text, SIZE) for text in numbers), default=0)
    left = MARGIN + label_room + 18
    room = WIDTH - MARGIN - number_room - 18 - left
    zero = left + (room * -low / (high - low) if high > low else 0)
    for row, value in enumerate(values):
        y = top + ROW * row
        canvas.text(left - 18, y + 5, labels[row], SIZE, align="right")
        canvas.text(WIDTH - MARGIN, y + 5, numbers[row], SIZE, colour=theme.faint, align="right")
        size = room * abs(value) / (high - low) if np.isfinite(value) and high > low else 0.0
        if size > 0:
            canvas.rectangle(
                zero - size if value < 0 else zero, y + 5, size, ROW - 10, bar_colour(float(value), panel.signed)
            )
    canvas.line(zero, top, zero, bottom, theme.faint)
    canvas.lines(MARGIN, bottom + 14, notes, 16, colour=theme.faint)
    return canvas.pixels()
