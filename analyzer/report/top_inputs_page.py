"""The page of top inputs: the samples that drive a unit most and least, what it sees of them, and relevance.

Belongs here: from plain facts and pixels to the page. Not here: finding samples (``analyzer.visualization``).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.report import heat
from analyzer.report.page import render, resource
from analyzer.report.pictures import png
from analyzer.report.text import clean, number

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture of a sample: its pixels, uint8 (H, W, 3), and what it shows; ``wide`` where it must not be reduced."""

    pixels: Pixels
    shows: str
    wide: bool = False


@dataclass(frozen=True, eq=False)
class Entry:
    """One sample.

    Attributes
    ----------
    facts
        Short sentences: its class, what the model says of it, where the unit fires.
    """

    name: str
    score: float
    facts: Sequence[str]
    shots: Sequence[Shot]


@dataclass(frozen=True, eq=False)
class Side:
    """One end of the data: a heading, a sentence, and its samples, the most extreme first."""

    title: str
    lead: str
    entries: Sequence[Entry] = field(default=())


def render_top_inputs(
    title: str,
    lead: str,
    caution: str,
    sides: Sequence[Side],
    notes: Sequence[str] = (),
    created: str = "",
    command: str | None = None,
) -> str:
    """The page, which loads nothing and runs nothing.

    Parameters
    ----------
    title, lead
        The unit's name, and a sentence on which data was looked at.
    caution
        What top inputs don't tell.
    """
    style = "\n".join([resource("report.css"), resource("top_inputs.css")])
    return render(
        "top_inputs.html.j2",
        style,
        title=clean(title, 200),
        lead=clean(lead, 500),
        caution=clean(caution, 500),
        sides=[_side(side) for side in sides],
        notes=[clean(note, 500) for note in notes],
        created=clean(created, 60),
        command=clean(command, 2000) if command else "",
    )


def _side(side: Side) -> dict[str, Any]:
    entries = [
        {
            "rank": rank,
            "name": clean(entry.name, 200),
            "score": number(entry.score),
            "facts": [clean(fact, 200) for fact in entry.facts],
            "shots": [_shot(shot, entry.name) for shot in entry.shots],
        }
        for rank, entry in enumerate(side.entries, 1)
    ]
    return {"title": clean(side.title, 100), "lead": clean(side.lead, 300), "entries": entries}


def _shot(shot: Shot, name: str) -> dict[str, Any]:
    pixels = shot.pixels
    if not shot.wide:
        tall, wide = heat.display_size(pixels.shape[0], pixels.shape[1], 160, 160, 12)
        pixels = heat.resize(pixels, tall, wide, smooth=True)
    uri = f"data:image/png;base64,{base64.b64encode(png(pixels)).decode('ascii')}"
    return {"uri": uri, "width": pixels.shape[1], "height": pixels.shape[0], "shows": clean(shot.shows, 100),
            "alt": clean(f"{name}: {shot.shows}", 300), "wide": shot.wide}  # fmt: skip
