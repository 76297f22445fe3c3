"""The page of judged explanations: a table for each metric, its curves, and inputs that lose their pixels.

Belongs here: from plain figures to the page. Not here: judging (``analyzer.evaluation``), curves and frames themselves
(``picture_curves``, ``animation``).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.report.animation import Flipping, frames
from analyzer.report.canvas import DARK, LIGHT
from analyzer.report.page import render, resource
from analyzer.report.picture_curves import Line, draw_curves
from analyzer.report.pictures import png
from analyzer.report.text import clean


@dataclass(frozen=True)
class Row:
    """One explanation's values of a metric.

    Attributes
    ----------
    name
        The explanation: its method and what tells it from others.
    mean, low, high
        Of all inputs that have a value, and its confidence interval; NaN where there is none.
    count, missing
        How many inputs have a value, and how many haven't.
    reason
        Why those haven't.
    """

    name: str
    mean: float
    low: float
    high: float
    count: int
    missing: int = 0
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Chart:
    """Curves of several explanations in one picture."""

    title: str
    lines: Sequence[Line]
    x_label: str
    y_label: str


@dataclass(frozen=True, eq=False)
class MetricTable:
    """All explanations under one metric.

    Attributes
    ----------
    name, summary, direction, blind_spot
        As the registry has them.
    """

    name: str
    summary: str
    direction: str
    blind_spot: str
    rows: Sequence[Row]
    charts: Sequence[Chart] = field(default=())


def render_evaluation(
    title: str,
    lead: str,
    tables: Sequence[MetricTable],
    flips: Sequence[Flipping] = (),
    notes: Sequence[str] = (),
    created: str = "",
    command: str | None = None,
    confidence: float = 0.95,
) -> str:
    """The page, which loads nothing and runs nothing.

    Parameters
    ----------
    title, lead
        The model's name, and a sentence on what was judged.
    confidence
        Of the intervals.
    """
    shown = [_flip(at, flip) for at, flip in enumerate(flips, 1)]
    style = "\n".join([resource("report.css"), resource("evaluation.css"), *(_stops(flip) for flip in shown)])
    return render(
        "evaluation.html.j2",
        style,
        title=clean(title, 200),
        lead=clean(lead, 500),
        tables=[_table(table, confidence) for table in tables],
        flips=shown,
        notes=[clean(note, 500) for note in notes],
        created=clean(created, 60),
        command=clean(command, 2000) if command else "",
    )


def _table(table: MetricTable, confidence: float) -> dict[str, Any]:
    known = [value for row in table.rows for value in (row.low, row.mean, row.high) if np.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    span = (high - low) or 1.0

    def place(value: float) -> str | None:
        return f"{4 + 92 * (value - low) / span:.2f}" if np.isfinite(value) else None

    rows = [
        {
            "name": clean(row.name, 200),
            "mean": _number(row.mean),
            "interval": f"{_number(row.low)} to {_number(row.high)}" if np.isfinite(row.low) else "",
            "at": place(row.mean),
            "low": place(row.low) or place(row.mean),
            "high": place(row.high) or place(row.mean),
            "count": row.count,
            "missing": row.missing or "",
            "reason": clean(row.reason, 300),
        }
        for row in table.rows
    ]
    return {
        "name": clean(table.name, 100), "summary": clean(table.summary, 400),
        "direction": clean(table.direction, 60).capitalize(),
        "blind_spot": clean(table.blind_spot, 400), "interval": f"{confidence:.0%} interval", "rows": rows,
        "charts": [_chart(chart) for chart in table.charts],
    }  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "none"


def _chart(chart: Chart) -> dict[str, Any]:
    drawn = [
        draw_curves(chart.title, chart.lines, chart.x_label, chart.y_label, theme=theme) for theme in (LIGHT, DARK)
    ]
    light, dark = (_uri(png(pixels), "png") for pixels in drawn)
    names = ", ".join(line.name for line in chart.lines)
    return {
        "light": light, "dark": dark, "width": drawn[0].shape[1], "height": drawn[0].shape[0],
        "alt": clean(f"{chart.title}: {chart.y_label} over {chart.x_label}, for {names}", 500),
    }  # fmt: skip


def _flip(at: int, flip: Flipping) -> dict[str, Any]:
    label = clean(flip.score_label, 60)
    pictures = [
        {
            "uri": _uri(_webp(pixels), "webp"), "width": pixels.shape[1], "height": pixels.shape[0],
            "alt": f"{share:.0%} taken away: {label} {score:.3g}",
        }
        for pixels, share, score in zip(frames(flip), flip.shares, flip.scores, strict=True)
    ]  # fmt: skip
    return {"id": f"flip-{at}", "title": clean(flip.title, 200), "frames": pictures}


def _stops(flip: dict[str, Any]) -> str:
    """The style that shows the frame whose stop is chosen; of a printed page the first."""
    name = flip["id"]
    shown = [f"#{name}:has(#{name}-{at}:checked) .frame-{at}{{display:block}}" for at in range(len(flip["frames"]))]
    return "\n".join([f"#{name} .stage img{{display:none}}", *shown])


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=True, method=4)
    return stream.getvalue()


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
