"""The picture of curves: one for each explanation, over the same axis, with the band that their means lie in.

Belongs here: the layout of curves in one box. Not here: what they count (``analyzer.evaluation``), series that are explained
(``picture_series``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.report.canvas import DARK, LIGHT, LINE, Canvas, Theme, fit, wrap

Array = NDArray[np.float64]
MARGIN, LEFT, BELOW, SMALL, TITLE = 28, 70, 52, 15, 20
#: Told apart by people who see colours differently (Okabe, Ito 2008); in the dark lighter.
_INKS = {
    LIGHT: ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#3b3b3b", "#56b4e9", "#e69f00"),
    DARK: ("#56b4e9", "#ff8f4d", "#2fd0a0", "#e9a8ca", "#f0e442", "#d0d0d0", "#7cc7f2", "#f2b544"),
}
_DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True, eq=False)
class Line:
    """One curve.

    Parameters
    ----------
    x, y
        (points,).
    low, high
        The band around it, (points,); None where there is none.
    """

    name: str
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None


def draw_curves(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    theme: Theme = LIGHT,
    width: int = 760,
    height: int = 460,
    point: float | None = None,
) -> NDArray[np.uint8]:
    """Curves in one box with their names beside, uint8 (height, width, 3).

    Parameters
    ----------
    point
        Where on the x axis a dot is set on every curve: the frame of an animation.
    """
    inner = width - 2 * MARGIN
    heads = wrap(title, inner, TITLE, bold=True) if title else []
    names = [fit(line.name, inner - 30, SMALL) for line in lines] if len(lines) > 1 else []
    top = MARGIN + len(heads) * LINE * TITLE + (10 if heads else 0)
    listed = len(names) * LINE * SMALL + (10 if names else 0)
    canvas = Canvas(width, height + round(listed), theme)
    canvas.lines(MARGIN, MARGIN, heads, TITLE, bold=True)
    plot_height = height - top - BELOW - 8
    axes = canvas.axes(MARGIN + LEFT, top, inner - LEFT, plot_height)
    axes.set_facecolor(theme.paper)
    inks = _INKS[theme]
    for at, line in enumerate(lines):
        ink, dash = inks[at % len(inks)], _DASHES[at // len(inks) % len(_DASHES)]
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=ink, alpha=0.16, linewidth=0)
        axes.plot(line.x, line.y, color=ink, linestyle=dash, linewidth=1.6)
        if point is not None:
            axes.plot([point], [float(np.interp(point, line.x, line.y))], color=ink, marker="o", markersize=7)
        if names:
            y = height + at * LINE * SMALL
            canvas.line(MARGIN, y + SMALL * 0.62, MARGIN + 22, y + SMALL * 0.62, ink)
            canvas.line(MARGIN, y + SMALL * 0.62 + 1, MARGIN + 22, y + SMALL * 0.62 + 1, ink)
            canvas.text(MARGIN + 30, y, names[at], SMALL)
    axes.margins(x=0.01)
    axes.axhline(0, color=theme.rule, linewidth=0.8, zorder=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-4, 5), useMathText=False, useOffset=False)
    axes.locator_params(axis="y", nbins=5)
    axes.locator_params(axis="x", nbins=6)
    canvas.text(MARGIN, top - SMALL * 0.1 - 2, fit(y_label, LEFT * 2, SMALL), SMALL, colour=theme.faint)
    below = top + plot_height + 26
    canvas.text(MARGIN + inner, below, fit(x_label, inner - LEFT, SMALL), SMALL, colour=theme.faint, align="right")
    return canvas.pixels()
