"""The picture of an explained text: words on coloured ground.

Belongs here: the flow of words in lines. Not here: other kinds of samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.report import colours
from analyzer.report.canvas import LIGHT, LINE, Canvas, Theme, bar_height, fit, text_width
from analyzer.report.headings import heading
from analyzer.report.panel import Panel, Sample
from analyzer.report.reduce import token_map
from analyzer.report.scale import fit_scale

MARGIN = 32
WIDTH = 1000
SIZE = 21
PAD = 7
ROW = 40


def draw_tokens(sample: Sample, panel: Panel, theme: Theme = LIGHT) -> NDArray[np.uint8]:
    """Tokens flowing in lines; the colours end at the largest |relevance|."""
    drawn = token_map(sample, panel)
    scale = fit_scale(drawn.values, panel.signed, percentile=100)
    table: colours.Table = "diverging" if panel.signed else "light"
    ground = colours.paint(scale.position(drawn.values), table)
    head = heading(panel, (*scale.notes, *drawn.notes))
    inner = WIDTH - 2 * MARGIN
    notes = head.note_lines(inner, 6)

    boxes: list[tuple[float, int, str, float]] = []
    x, row = 0.0, 0
    for label in drawn.labels:
        text = fit(label, inner - 2 * PAD, SIZE)
        wide = text_width(text, SIZE) + 2 * PAD
        if x and x + wide > inner:
            x, row = 0.0, row + 1
        boxes.append((x, row, text, wide))
        x += wide + 5
    top = MARGIN + head.height(inner) + 20
    bottom = top + ROW * (row + 1) + 14
    canvas = Canvas(WIDTH, round(bottom + bar_height(scale, inner) + 6 + len(notes) * LINE * 16 + MARGIN), theme)
    head.draw(canvas, MARGIN, MARGIN, inner)
    for (left, line, text, wide), colour in zip(boxes, ground, strict=True):
        y = top + ROW * line
        canvas.rectangle(MARGIN + left, y, wide, ROW - 6, colours.hexadecimal(colour), round_by=5)
        canvas.text(MARGIN + left + PAD, y + 4, text, SIZE, colour=colours.ink_on(colour))
    y = canvas.colour_bar(MARGIN, round(bottom), inner, scale, table)
    canvas.lines(MARGIN, y + 6, notes, 16, colour=theme.faint)
    return canvas.pixels()
