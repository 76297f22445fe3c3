"""Pictures of what a layer holds: a grid of maps or filters, curves below each other, bars.

Belongs here: laying out many small pictures of one layer on a sheet. Not here: which values they are, and whose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.report import colours, heat
from analyzer.report.canvas import LIGHT, LINE, Canvas, Theme, bar_height, fit, wrap
from analyzer.report.scale import Scale, fit_scale
from analyzer.report.text import number

Array = NDArray[np.float64]
MOST = 64
"""So many maps, filters or curves are drawn."""
MARGIN, GAP, SMALL, TITLE = 28, 10, 14, 20
_WIDEST, _TILE, _LEAST = 1040, 120, 560


def draw_maps(
    title: str,
    maps: Array,
    labels: Sequence[str],
    notes: Sequence[str] = (),
    what: str = "activation",
    theme: Theme = LIGHT,
) -> NDArray[np.uint8]:
    """Maps as a grid with one scale of colours for all, uint8 (height, width, 3).

    Parameters
    ----------
    maps
        (maps, height, width); the first :data:`MOST` are drawn. Values below zero make the scale two-sided.
    labels
        One for each.
    what
        What the numbers are, in the words below the scale.
    """
    drawn = np.asarray(maps[:MOST], np.float64)
    signed = bool((drawn[np.isfinite(drawn)] < 0).any())
    scale, table = replace(fit_scale(drawn, signed), what=what), _table(signed)
    tiles = colours.paint(scale.position(drawn), table)
    return _sheet(title, tiles, labels, [*notes, *scale.notes], theme, (scale, table))


def draw_tiles(
    title: str, tiles: NDArray[np.uint8], labels: Sequence[str], notes: Sequence[str] = (), theme: Theme = LIGHT
) -> NDArray[np.uint8]:
    """Pictures in their own colours as a grid: uint8 (pictures, height, width, 3), the first :data:`MOST`."""
    return _sheet(title, tiles[:MOST], labels, notes, theme, None)


def _table(signed: bool) -> colours.Table:
    return "diverging" if signed else "dark"


def _sheet(
    title: str, tiles: NDArray[np.uint8], labels: Sequence[str], notes: Sequence[str], theme: Theme,
    bar: tuple[Scale, colours.Table] | None,
) -> NDArray[np.uint8]:  # fmt: skip
    count, height, width = tiles.shape[:3]
    tall, wide = _tile_size(height, width, count)
    column = max(wide, 34)
    most = max(1, (_WIDEST + GAP) // (column + GAP))
    columns = min(most, count if count <= most else int(np.ceil(np.sqrt(count * tall / wide))))
    columns = int(np.clip(columns, min(count, 4), most))
    rows = -(-count // columns)
    inner = max(columns * (column + GAP) - GAP, _LEAST)
    heads = wrap(title, inner, TITLE, bold=True)
    said = [line for note in notes for line in wrap(note, inner, SMALL, most=3)]
    top = MARGIN + len(heads) * LINE * TITLE + 4 + len(said) * LINE * SMALL + 12
    step = LINE * SMALL + 2 + tall + GAP
    below = bar_height(bar[0], inner) + 12 if bar is not None else 0
    canvas = Canvas(inner + 2 * MARGIN, round(top + rows * step + below + MARGIN - GAP), theme)
    y = canvas.lines(MARGIN, MARGIN, heads, TITLE, bold=True)
    canvas.lines(MARGIN, y + 4, said, SMALL, colour=theme.faint)
    for at, tile in enumerate(tiles):
        x, y = MARGIN + at % columns * (column + GAP), top + at // columns * step
        canvas.text(x, y, fit(labels[at], column, SMALL), SMALL, colour=theme.faint)
        canvas.image(x, round(y + LINE * SMALL + 2), heat.resize(tile, tall, wide, smooth=False))
    if bar is not None:
        canvas.colour_bar(MARGIN, round(top + rows * step + 4), inner, *bar)
    return canvas.pixels()


def _tile_size(height: int, width: int, count: int) -> tuple[int, int]:
    """Small tiles are enlarged by a whole number, large ones reduced; a single one may be larger."""
    tall, wide = (_TILE, _TILE) if count > 1 else (480, _WIDEST)
    factor = min(tall // height, wide // width)
    if factor:
        return height * factor, width * factor
    shrink = min(tall / height, wide / width)
    return max(8, round(height * shrink)), max(8, round(width * shrink))


def draw_rows(
    title: str, curves: Array, labels: Sequence[str], notes: Sequence[str] = (), theme: Theme = LIGHT
) -> NDArray[np.uint8]:
    """Curves below each other over one axis, on one scale: (curves, points), the first :data:`MOST`."""
    drawn = np.asarray(curves[:MOST], np.float64)
    finite = drawn[np.isfinite(drawn)]
    size = float(np.abs(finite).max()) if finite.size else 0.0
    notes = [*notes, f"one scale for all, the number of the largest size is {number(size, 3)}"]
    inner, left, tall = 760, 120, max(90, min(40 * len(drawn), 1400))
    canvas, axes, _ = _plot(title, notes, inner, left, tall, theme)
    for at, curve in enumerate(drawn):
        axes.axhline(-at, color=theme.rule, linewidth=0.6, zorder=0)
        axes.plot(np.arange(len(curve)), curve / (2.1 * (size or 1.0)) - at, color="#1a6bcb", linewidth=1.1,
                  marker="." if len(curve) < 40 else "", markersize=4)  # fmt: skip
    axes.set_ylim(-len(drawn) + 0.4, 0.6)
    axes.set_yticks([-at for at in range(len(drawn))], [fit(labels[at], left - 14, SMALL) for at in range(len(drawn))])
    axes.locator_params(axis="x", nbins=9, integer=True)
    return canvas.pixels()


def draw_bars(title: str, values: Array, notes: Sequence[str] = (), theme: Theme = LIGHT) -> NDArray[np.uint8]:
    """A vector as bars, or as a filled curve where it is longer than the sheet has pixels: (units,)."""
    values = np.asarray(values, np.float64)
    canvas, axes, inner = _plot(title, notes, 860, 70, 320, theme)
    axes.axhline(0, color=theme.rule, linewidth=0.8, zorder=0)
    units = np.arange(len(values))
    if len(values) <= inner // 3:
        axes.bar(units, values, color=np.where(values < 0, "#1a6bcb", "#bd3b33"), width=0.8)
    else:
        axes.fill_between(units, np.nan_to_num(values), step="mid", color="#4a505c", linewidth=0)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.locator_params(axis="x", nbins=9, integer=True)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-4, 5), useMathText=False, useOffset=False)
    return canvas.pixels()


def _plot(title: str, notes: Sequence[str], inner: int, left: int, tall: int, theme: Theme) -> tuple[Canvas, Any, int]:
    heads = wrap(title, inner, TITLE, bold=True)
    said = [line for note in notes for line in wrap(note, inner, SMALL, most=3)]
    top = MARGIN + len(heads) * LINE * TITLE + 4 + len(said) * LINE * SMALL + 12
    canvas = Canvas(inner + 2 * MARGIN, round(top + tall + 34 + MARGIN), theme)
    y = canvas.lines(MARGIN, MARGIN, heads, TITLE, bold=True)
    canvas.lines(MARGIN, y + 4, said, SMALL, colour=theme.faint)
    axes = canvas.axes(MARGIN + left, top, inner - left, tall)
    axes.set_facecolor(theme.paper)
    return canvas, axes, inner - left
