"""The text around a picture: what was explained, by which method, and notes for the reader.

Belongs here: title, subtitle, notes. Not here: the picture itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.report.canvas import LINE, Canvas, wrap
from analyzer.report.panel import Panel
from analyzer.report.text import clean, params_text, score_text

TITLE = 26
SUBTITLE = 18


@dataclass(frozen=True)
class Heading:
    """Title, subtitle and notes of one picture."""

    title: str
    subtitle: str
    notes: tuple[str, ...]

    def _lines(self, width: float) -> tuple[list[str], list[str]]:
        title = wrap(self.title, width, TITLE, bold=True, most=2)
        return title, wrap(self.subtitle, width, SUBTITLE, most=2)

    def height(self, width: float) -> float:
        """Height of title and subtitle, wrapped to ``width`` pixels."""
        title, subtitle = self._lines(width)
        return LINE * (TITLE * len(title) + SUBTITLE * len(subtitle))

    def draw(self, canvas: Canvas, x: float, y: float, width: float) -> None:
        """Title and subtitle, from the top left."""
        title, subtitle = self._lines(width)
        y = canvas.lines(x, y, title, TITLE, bold=True)
        canvas.lines(x, y, subtitle, SUBTITLE, colour=canvas.theme.faint)

    def note_lines(self, width: float, most: int, size: float = 16) -> list[str]:
        """All notes, wrapped to ``width``, on at most ``most`` lines."""
        lines = [line for note in self.notes for line in wrap(note, width, size, most=most)]
        return lines if len(lines) <= most else [*lines[: most - 1], "…"]


def heading(panel: Panel, map_notes: tuple[str, ...] = ()) -> Heading:
    """The heading of a panel; notes about the map come before the panel's own."""
    score = f"{panel.score_kind} {score_text(panel.score, panel.score_kind)}"
    subtitle = "  ·  ".join([score, clean(panel.method, 60), *params_text(panel.params)])
    about_map = [f"{note[:1].upper()}{note[1:]}" for note in map_notes]
    completeness = [panel.completeness] if panel.completeness else []
    return Heading(clean(panel.target) or "unnamed target", subtitle, (*about_map, *completeness, *panel.notes))
