"""One self-contained page that compares the explanations of samples.

Belongs here: putting facts, sections and style into the template. Not here: the content of a card (``cards``),
how it looks (``report.css``), how it is built up (``report.html.j2``).

What keeps a page safe is in ``page``; strings reach it through ``text.clean`` and jinja2's autoescape only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.files import write_atomically
from analyzer.report import colours
from analyzer.report.cards import Section, section, word_styles
from analyzer.report.page import render, resource
from analyzer.report.panel import ModelFacts, Panel, Sample
from analyzer.report.text import bytes_text, clean, shorten

MOST_ENTRIES = 64
"""So many inputs, outputs and metadata entries of a model are listed; the page counts the others."""


def write_report(
    path: str | os.PathLike[str],
    facts: ModelFacts,
    samples: Sequence[tuple[Sample, Sequence[Panel]]],
    created: str,
    command: str | None = None,
) -> None:
    """Write ``report.html``, completely or not at all; equal arguments give equal bytes.

    Parameters
    ----------
    path
        The file to write.
    facts
        What the model file is.
    samples
        Each sample with its explanations, in the order of the page.
    created
        When, as it is to be read, ``"2026-05-04 12:30 UTC"``.
    command
        The command line that repeats this, where there is one.

    Raises
    ------
    UsageError
        ``report.shape`` or ``report.dtype`` where an attribution doesn't fit its sample,
        ``output.unwritable`` where the file can't be written.
    """
    page = render_report(facts, samples, created, command).encode("utf-8")
    write_atomically(Path(path), lambda draft: draft.write_bytes(page))


def render_report(
    facts: ModelFacts,
    samples: Sequence[tuple[Sample, Sequence[Panel]]],
    created: str,
    command: str | None = None,
) -> str:
    """The page that ``write_report`` writes."""
    sections = sections_of(samples)
    return render(
        "report.html.j2",
        style_of(sections),
        model=_model(facts),
        panels=sum(len(each.cards) for each in sections),
        created=clean(created, 60),
        command=clean(command, 2000) if command else "",
        **sample_values(sections),
    )


def sections_of(samples: Sequence[tuple[Sample, Sequence[Panel]]]) -> list[Section]:
    """The sections of samples, in the order of the page."""
    return [section(position, sample, panels) for position, (sample, panels) in enumerate(samples, start=1)]


def sample_values(sections: Sequence[Section]) -> dict[str, Any]:
    """What ``samples.html.j2`` prints."""
    return {
        "sections": sections,
        "tables": sorted({each.legend.table for one in sections for each in one.cards if each.legend}),
        "has_images": any(each.overlay for one in sections for each in one.cards),
    }


def style_of(sections: Sequence[Section]) -> str:
    """The style sheet and what depends on the page: colour scales, grounds of words, inputs behind their maps."""
    parts = [resource("report.css")]
    tables: tuple[colours.Table, ...] = ("diverging", "dark", "light")
    for name in tables:
        stops = colours.paint(np.linspace(-1 if name == "diverging" else 0, 1, 25), name)
        parts.append(f".ramp-{name}{{background:linear-gradient(90deg,{','.join(map(colours.hexadecimal, stops))})}}")
    if any(card.words for one in sections for card in one.cards):
        parts += [f".{name}{{background:{ground};color:{ink}}}" for name, ground, ink in word_styles()]
    for one in sections:
        if one.picture is not None and one.cards:
            parts.append(
                f"@media screen{{body:has(#view-input:checked) #{one.anchor} .frame"
                f"{{background-image:url({one.picture.uri})}}}}"
            )
    return "\n".join(parts).replace("\r", "")


def _model(facts: ModelFacts) -> dict[str, Any]:
    digest = clean(facts.sha256, 64)
    path = clean(facts.path, 500)
    return {
        "name": shorten(path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1], 120) or "unnamed model",
        "path": path,
        "sha256": digest,
        "sha256_short": digest[:12],
        "size": bytes_text(facts.size_bytes) if facts.size_bytes else "",
        "known": facts.ir_version > 0,  # else only an explanation is at hand, not its model
        "producer": clean(facts.producer, 80) or "not named",
        "ir_version": facts.ir_version,
        "opsets": ", ".join(f"{clean(name, 40) or 'ai.onnx'} {int(version)}" for name, version in facts.opsets.items()),
        "parameters": f"{facts.parameters:,}".replace(",", "\u202f"),
        "inputs": _pairs(facts.inputs),
        "outputs": _pairs(facts.outputs),
        "more_inputs": max(len(facts.inputs) - MOST_ENTRIES, 0),
        "more_outputs": max(len(facts.outputs) - MOST_ENTRIES, 0),
        "operators": _counts(facts.operators),
        "nodes": sum(facts.operators.values()),
        "description": clean(facts.description, 1200),
        "metadata": _pairs(tuple(facts.metadata.items()), limit=400),
        "more_metadata": max(len(facts.metadata) - MOST_ENTRIES, 0),
    }


def _pairs(pairs: Sequence[tuple[str, str]], limit: int = 120) -> list[tuple[str, str]]:
    return [(clean(name, 120) or "unnamed", clean(value, limit)) for name, value in pairs[:MOST_ENTRIES]]


def _counts(operators: Mapping[str, int]) -> list[tuple[str, int]]:
    ordered = sorted(operators.items(), key=lambda item: (-item[1], item[0]))
    return [(clean(name, 60) or "unnamed", count) for name, count in ordered]
