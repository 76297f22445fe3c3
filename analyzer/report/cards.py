"""The content of a sample's section, ready for the template: cleaned strings, numbers as text, pictures as data
URIs.

Belongs here: the step from records to what the template prints. Not here: HTML, CSS, files.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.report import colours, heat
from analyzer.report.canvas import DARK, LIGHT
from analyzer.report.panel import Panel, Sample
from analyzer.report.picture_series import draw_series
from analyzer.report.picture_tensor import draw_tensor
from analyzer.report.reduce import feature_bars, series_map, tensor_map, token_map
from analyzer.report.scale import Scale, fit_scale
from analyzer.report.text import clean, number, params_text, score_text

STEPS = 32
"""Colour steps on each side of zero behind words; CSS classes carry them."""
FIGURE_WIDTH = 1000


@dataclass(frozen=True)
class Picture:
    """One embedded picture; ``dark`` is its version for dark pages where that differs."""

    uri: str
    width: int
    height: int
    alt: str
    dark: str = ""


@dataclass(frozen=True)
class Bar:
    """A bar in percent of its track: where it starts, how long it is, its CSS class, and the words beside it."""

    label: str
    text: str
    start: float
    length: float
    css: str
    detail: str = ""


@dataclass(frozen=True)
class Word:
    """A token, its relevance as text, and the CSS class of its ground."""

    label: str
    text: str
    css: str


#: What a map's sum beside another number says.
SUM_MEANS = "the sum of the map, and the difference of scores that this method promises it to be"


@dataclass(frozen=True)
class Legend:
    """A colour scale: which colours, the labels of its ends, where it ends and why."""

    table: colours.Table
    ends: tuple[str, str, str]
    brief: str


@dataclass(frozen=True)
class Card:
    """One method's explanation of a sample; what isn't there is None or empty. ``facts`` are (meaning, text)."""

    method: str
    params: tuple[str, ...]
    target: str
    score: str
    score_kind: str
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    legend: Legend | None = None
    overlay: Picture | None = None
    map: Picture | None = None
    figure: Picture | None = None
    bars: tuple[Bar, ...] = ()
    zero: float = 0.0
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Section:
    """One sample: its input, the prediction, and a card per method."""

    anchor: str
    name: str
    kind: str
    about: str
    lead: tuple[str, str] | None
    picture: Picture | None
    top: tuple[Bar, ...]
    top_zero: float
    top_kind: str
    cards: tuple[Card, ...]


def section(number_: int, sample: Sample, panels: Sequence[Panel]) -> Section:
    """The section of the ``number_``-th sample of a page."""
    name = clean(sample.name, 80) or "unnamed"
    picture = None
    if sample.kind == "image":
        picture = _photo(heat.picture_of(sample), f"{name}: what the model saw")
    top = tuple((clean(label, 80) or "unnamed", float(value)) for label, value in sample.top[:5])
    shape = " × ".join(str(side) for side in sample.values.shape)
    bars, zero = _top_bars(top, sample.top_kind)
    return Section(
        anchor=f"sample-{number_}",
        name=name,
        kind=sample.kind,
        about=f"{sample.kind}, {shape}" if shape else sample.kind,
        lead=(top[0][0], score_text(top[0][1], sample.top_kind)) if top else None,
        picture=picture,
        top=bars,
        top_zero=zero,
        top_kind=sample.top_kind,
        cards=tuple(card(sample, panel) for panel in panels),
    )


def card(sample: Sample, panel: Panel) -> Card:
    """The card of one explanation, drawn by the kind of its sample."""
    method = clean(panel.method, 60) or "unnamed method"
    target = clean(panel.target, 120) or "unnamed target"
    alt = f"{method} of {clean(sample.name, 80)} for {target}"
    content = _CONTENT[sample.kind](sample, panel, alt)
    facts = []
    if panel.completeness:
        facts.append((SUM_MEANS, clean(panel.completeness, 120)))
    if panel.seconds is not None:
        facts.append(("", f"{number(panel.seconds, 3)} s"))
    return Card(
        method=method,
        params=params_text(panel.params),
        target=target,
        score=score_text(panel.score, panel.score_kind),
        score_kind=panel.score_kind,
        facts=tuple(facts),
        notes=(*content.notes, *(clean(note) for note in panel.notes)),
        legend=content.legend,
        overlay=content.overlay,
        map=content.map,
        figure=content.figure,
        bars=content.bars,
        zero=content.zero,
        words=content.words,
    )


@dataclass(frozen=True)
class _Content:
    notes: tuple[str, ...]
    legend: Legend | None = None
    overlay: Picture | None = None
    map: Picture | None = None
    figure: Picture | None = None
    bars: tuple[Bar, ...] = ()
    zero: float = 0.0
    words: tuple[Word, ...] = ()


def _legend(scale: Scale, table: colours.Table) -> Legend:
    return Legend(table, scale.ends(), scale.brief())


def _image(sample: Sample, panel: Panel, alt: str) -> _Content:
    drawn = heat.layers(sample, panel)
    tall, wide = _stored_size(*drawn.index.shape)
    if (tall, wide) == drawn.index.shape:
        uri = _palette(drawn.index, drawn.table)
    else:
        uri = _uri(heat.resize(drawn.heat, tall, wide, smooth=False), "PNG")
    about_scale = ", ".join((*drawn.scale.notes, drawn.scale.describe()))
    return _Content(
        notes=(*drawn.scale.notes, *drawn.notes),
        legend=_legend(drawn.scale, drawn.table),
        overlay=_photo(drawn.overlay, f"{alt}, over the picture: {about_scale}"),
        map=Picture(uri, wide, tall, f"{alt}, map alone: {about_scale}"),
    )


def _table(sample: Sample, panel: Panel, alt: str) -> _Content:
    del alt  # bars are text already
    drawn = feature_bars(sample, panel)
    values = np.where(np.isfinite(drawn.values), drawn.values, 0.0)
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    span = (high - low) or 1.0
    bars = tuple(
        Bar(
            label,
            number(float(exact), 3),
            100 * (min(value, 0.0) - low) / span,
            100 * abs(value) / span,
            ("neg" if value < 0 else "pos") if panel.signed else "size",
            detail,
        )
        for label, detail, exact, value in zip(drawn.labels, drawn.details, drawn.values, values, strict=True)
    )
    notes = drawn.notes if values.any() else ("map is zero everywhere", *drawn.notes)
    return _Content(notes, bars=bars, zero=100 * -low / span)


def _tokens(sample: Sample, panel: Panel, alt: str) -> _Content:
    del alt  # words are text already
    drawn = token_map(sample, panel)
    scale = fit_scale(drawn.values, panel.signed, percentile=100)
    table: colours.Table = "diverging" if panel.signed else "light"
    words = tuple(
        Word(label, number(float(value), 3), word_class(float(position), table))
        for label, value, position in zip(drawn.labels, drawn.values, scale.position(drawn.values), strict=True)
    )
    return _Content((*scale.notes, *drawn.notes), _legend(scale, table), words=words)


def word_class(position: float, table: colours.Table) -> str:
    """CSS class of a position: ``d`` or ``l`` and a step, or ``nan``."""
    if np.isnan(position):
        return "nan"
    step = round(abs(position) * STEPS)
    if table == "light":
        return f"l{step}"
    return f"d{'n' if position < 0 else 'p'}{step}"


def word_styles() -> list[tuple[str, str, str]]:
    """(class, ground, ink) for every class that ``word_class`` can give."""
    styles = []
    tables: tuple[tuple[str, colours.Table, int], ...] = (
        ("dp", "diverging", 1),
        ("dn", "diverging", -1),
        ("l", "light", 1),
    )
    for name, table, sign in tables:
        ramp = colours.paint(sign * np.linspace(0, 1, STEPS + 1), table)
        styles += [
            (f"{name}{step}", colours.hexadecimal(ramp[step]), colours.ink_on(ramp[step])) for step in range(STEPS + 1)
        ]
    grey = colours.table("diverging")[colours.NAN_INDEX]
    return [*styles, ("nan", colours.hexadecimal(grey), colours.ink_on(grey))]


def _series(sample: Sample, panel: Panel, alt: str) -> _Content:
    drawn = series_map(sample, panel)
    scale = fit_scale(drawn.values, panel.signed)
    figure = _figure(
        [draw_series(sample, panel, theme, map_only=True, width=FIGURE_WIDTH) for theme in (LIGHT, DARK)],
        f"{alt}: curve over its relevance, {scale.describe()}",
    )
    legend = _legend(scale, "diverging" if panel.signed else "light")
    return _Content((*scale.notes, *drawn.notes), legend, figure=figure)


def _tensor(sample: Sample, panel: Panel, alt: str) -> _Content:
    drawn = tensor_map(panel.attribution)
    scale = fit_scale(panel.attribution, panel.signed)
    figure = _figure(
        [draw_tensor(sample, panel, theme, map_only=True, width=FIGURE_WIDTH) for theme in (LIGHT, DARK)],
        f"{alt}: values and relevance as strips, {scale.describe()}",
    )
    legend = _legend(scale, "diverging" if panel.signed else "light")
    return _Content((*scale.notes, *drawn.notes), legend, figure=figure)


_CONTENT = {"image": _image, "table": _table, "tokens": _tokens, "series": _series, "tensor": _tensor}


def _top_bars(top: Sequence[tuple[str, float]], kind: str) -> tuple[tuple[Bar, ...], float]:
    """A bar for each of the largest outputs from a common zero, and where that lies; a single value needs no bar."""
    if len(top) == 1 and kind == "value":
        return (), 0.0
    values = [value if np.isfinite(value) else 0.0 for _, value in top]
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    if kind == "probability" and high <= 1:
        high = 1.0
    span = (high - low) or 1.0
    bars = tuple(
        Bar(
            label,
            score_text(exact, kind),
            100 * (min(value, 0.0) - low) / span,
            100 * abs(value) / span,
            "neg" if value < 0 else "fill",
        )
        for (label, exact), value in zip(top, values, strict=True)
    )
    return bars, -100 * low / span


def _stored_size(height: int, width: int) -> tuple[int, int]:
    """Small pictures are enlarged because browsers would blur them, large ones are reduced to 640 pixels."""
    if max(height, width) < 160:
        return heat.display_size(height, width, smallest=336, thinnest=1)
    return heat.display_size(height, width, smallest=1, largest=640, thinnest=1)


def _photo(pixels: NDArray[np.uint8], alt: str) -> Picture:
    tall, wide = _stored_size(*pixels.shape[:2])
    enlarged = tall > pixels.shape[0]
    stored = heat.resize(pixels, tall, wide, smooth=not enlarged)
    return Picture(_uri(stored, "PNG" if enlarged else "JPEG"), wide, tall, alt)


def _figure(versions: Sequence[NDArray[np.uint8]], alt: str) -> Picture:
    light, dark = versions
    tall, wide = light.shape[:2]
    return Picture(_uri(light, "PNG"), wide, tall, alt, dark=_uri(dark, "PNG"))


def _uri(pixels: NDArray[np.uint8], form: str) -> str:
    from PIL import Image

    stream = io.BytesIO()
    if form == "JPEG":
        Image.fromarray(pixels).save(stream, format=form, quality=90, subsampling=0, optimize=True)
    else:
        Image.fromarray(pixels).save(stream, format=form, optimize=True)
    return _data_uri(stream.getvalue(), form)


def _palette(index: NDArray[np.uint8], table: colours.Table) -> str:
    """A map as a PNG with a palette: a quarter of the size of its colours."""
    from PIL import Image

    picture = Image.fromarray(index)
    picture.putpalette(colours.table(table).tobytes())
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return _data_uri(stream.getvalue(), "PNG")


def _data_uri(content: bytes, form: str) -> str:
    return f"data:image/{form.lower()};base64,{base64.b64encode(content).decode('ascii')}"
