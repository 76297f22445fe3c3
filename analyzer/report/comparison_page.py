"""The page of two models: figures over all inputs, and the inputs that drift most, both models' maps side by side.

Belongs here: from plain figures, samples and panels to the page. Not here: comparing (``analyzer.evaluation``), the content of a
card (``cards``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.report.html import sample_values, sections_of, style_of
from analyzer.report.page import render, resource
from analyzer.report.panel import Panel, Sample
from analyzer.report.text import clean


@dataclass(frozen=True)
class FigureTable:
    """Figures under a heading; every row begins with what it is of."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str = ""


def render_comparison(
    first: str,
    second: str,
    lead: str,
    figures: Sequence[FigureTable],
    samples: Sequence[tuple[Sample, Sequence[Panel]]],
    notes: Sequence[str] = (),
    provenance: Sequence[tuple[str, str]] = (),
    created: str = "",
) -> str:
    """The page, which loads nothing and runs nothing.

    Parameters
    ----------
    first, second
        What the models are called.
    lead
        A sentence on what was compared.
    samples
        The inputs that drift most, each with a panel for each model.
    provenance
        (what, value): digests, the command.
    """
    sections = sections_of(samples)
    return render(
        "comparison.html.j2",
        "\n".join([style_of(sections), resource("comparison.css")]),
        first=clean(first, 200),
        second=clean(second, 200),
        lead=clean(lead, 500),
        figures=[_cleaned(table) for table in figures],
        notes=[clean(note, 500) for note in notes],
        provenance=[(clean(name, 60), clean(value, 2000)) for name, value in provenance],
        created=clean(created, 60),
        **sample_values(sections),
    )


def _cleaned(table: FigureTable) -> FigureTable:
    rows = [[clean(cell, 200) for cell in row] for row in table.rows]
    return FigureTable(
        clean(table.title, 200), [clean(name, 60) for name in table.columns], rows, clean(table.about, 500)
    )
