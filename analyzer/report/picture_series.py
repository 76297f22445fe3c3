"""The picture of an explained series: each channel's curve over its relevance.

Belongs here: the layout of curves over strips. Not here: other kinds of samples, which channels are drawn (``reduce``).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.report import colours
from analyzer.report.canvas import LIGHT, LINE, Canvas, Theme, bar_height, fit
from analyzer.report.headings import heading
from analyzer.report.panel import Panel, Sample
from analyzer.report.reduce import Drawable, channels_first, series_map, strongest
from analyzer.report.scale import Scale, fit_scale

MARGIN = 32
WIDTH = 1100
LEFT = 78
SMALL = 16


@dataclass(frozen=True)
class _Rows:
    """The layout of the curves: rows of equal height below each other, each under its channel's name."""

    left: int
    top: float
    width: float
    height: float
    caption: float

    @property
    def step(self) -> float:
        """Distance from the top of one row to the top of the next."""
        return self.height + self.caption + 12

    def bottom(self, count: int) -> float:
        """Where ``count`` rows and the labels of the time axis end."""
        return self.top + self.step * count + 14


def draw_series(
    sample: Sample, panel: Panel, theme: Theme = LIGHT, map_only: bool = False, width: int = WIDTH
) -> NDArray[np.uint8]:
    """Curves below each other over a common time axis; ``map_only`` omits heading, notes and colour bar."""
    drawn = series_map(sample, panel)
    curves = channels_first(sample)[0][list(drawn.picked)]
    # A channel's background is a strip of colour: its scale is fitted to all channels together.
    scale = fit_scale(drawn.values, panel.signed)
    table: colours.Table = "diverging" if panel.signed else "light"
    margin = 8 if map_only else MARGIN
    inner = width - 2 * margin
    plot = inner - LEFT - 6
    group = _group(curves.shape[1], plot)
    joined = (f"groups of {group} steps coloured as one: the value of largest size",) if group > 1 else ()
    head = heading(panel, (*scale.notes, *drawn.notes, *joined))
    notes = [] if map_only else head.note_lines(inner, 6)
    top = 8 if map_only else MARGIN + head.height(inner) + 16
    caption = LINE * SMALL + 4 if any(drawn.labels) else 0.0
    rows = _Rows(margin + LEFT, top, plot, 250 if len(curves) == 1 else 130, caption)
    bottom = rows.bottom(len(curves))
    below = 32 + bar_height(scale, plot) + len(notes) * LINE * SMALL + MARGIN
    canvas = Canvas(width, round(bottom + (4 if map_only else below)), theme)
    if not map_only:
        head.draw(canvas, MARGIN, MARGIN, inner)
    _curves(canvas, rows, curves, drawn, scale, table)
    if not map_only:
        canvas.text(rows.left + plot, bottom + 2, "step", SMALL, colour=theme.faint, align="right")
        y = canvas.colour_bar(rows.left, round(bottom + 30), plot, scale, table)
        canvas.lines(rows.left, y + 8, notes, SMALL, colour=theme.faint)
    return canvas.pixels()


def _curves(
    canvas: Canvas, rows: _Rows, curves: NDArray[np.float64], drawn: Drawable, scale: Scale, table: colours.Table
) -> None:
    for row, curve in enumerate(curves):
        y = rows.top + row * rows.step
        if rows.caption:
            canvas.text(rows.left, y, fit(drawn.labels[row], rows.width, SMALL), SMALL, colour=canvas.theme.faint)
        box = rows.left, y + rows.caption, rows.width, rows.height
        _curve(canvas, box, curve, scale.position(drawn.values[row]), table, last=row == len(curves) - 1)


def _group(steps: int, width: float) -> int:
    """How many steps share a column of colour."""
    return max(1, -(-steps // round(width)))


def _curve(
    canvas: Canvas,
    box: tuple[float, float, float, float],
    curve: NDArray[np.float64],
    position: NDArray[np.float64],
    table: colours.Table,
    last: bool,
) -> None:
    axes = canvas.axes(*box)
    w = box[2]
    steps = len(curve)
    group = _group(steps, w)
    strip = colours.paint(strongest(position[None, :], group, 1), table)
    end = strip.shape[1] * group - 0.5
    axes.imshow(
        strip,
        extent=(-0.5, end, 0, 1),
        transform=axes.get_xaxis_transform(),
        aspect="auto",
        interpolation="nearest",
    )
    times, levels = outline(np.where(np.isfinite(curve), curve, np.nan), 2 * round(w))
    ink = "#16181c"  # on the strip, which is light in every theme
    axes.plot(
        times, levels, color=ink, linewidth=1.5 if steps <= w else 0.8, marker="." if steps < 60 else "", markersize=7
    )
    axes.set_xlim(-0.5, max(steps - 0.5, 0.5))
    finite = levels[np.isfinite(levels)]
    if finite.size:
        low, high = float(finite.min()), float(finite.max())
        pad = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set_ylim(low - pad, high + pad)
    axes.ticklabel_format(style="sci", scilimits=(-4, 5), useMathText=False, useOffset=False)
    axes.locator_params(axis="y", nbins=3)
    axes.locator_params(axis="x", nbins=9, integer=True)
    axes.tick_params(axis="x", labelbottom=last)


def outline(curve: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and levels of at most ``most`` points: of every group of steps the lowest and the highest."""
    steps = len(curve)
    if steps <= most:
        return np.arange(steps, dtype=np.float64), curve
    group = -(-2 * steps // most)
    padded = np.concatenate([curve, np.full(-steps % group, np.nan)]).reshape(-1, group)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # groups that hold only NaN stay NaN
        levels = np.stack([np.nanmin(padded, axis=1), np.nanmax(padded, axis=1)], axis=1).ravel()
    starts = np.arange(len(padded), dtype=np.float64) * group
    times = np.stack([starts + 0.25 * group, starts + 0.75 * group], axis=1).ravel()
    return np.minimum(times, steps - 1), levels
