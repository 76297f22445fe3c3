"""The words around a picture: what was explained, by what method, and what else a reader must know.

Belongs here: title, second line, remarks. Not here: the picture itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.report.canvas import LINE, Canvas, wrap
from analyzer.report.panel import Panel
from analyzer.report.text import clean, params_text, score_text

TITLE = 26
SECOND = 18


@dataclass(frozen=True)
class Heading:
    """Title, second line and remarks of one picture."""

    title: str
    second: str
    remarks: tuple[str, ...]

    def _lines(self, width: float) -> tuple[list[str], list[str]]:
        title = wrap(self.title, width, TITLE, bold=True, most=2)
        return title, wrap(self.second, width, SECOND, most=2)

    def height(self, width: float) -> float:
        """Height of title and second line, wrapped to ``width`` pixels."""
        title, second = self._lines(width)
        return LINE * (TITLE * len(title) + SECOND * len(second))

    def draw(self, canvas: Canvas, x: float, y: float, width: float) -> None:
        """Title and second line, from the top left."""
        title, second = self._lines(width)
        y = canvas.lines(x, y, title, TITLE, bold=True)
        canvas.lines(x, y, second, SECOND, colour=canvas.theme.faint)

    def notes(self, width: float, most: int, size: float = 16) -> list[str]:
        """All remarks, wrapped to ``width``, on at most ``most`` lines."""
        lines = [line for remark in self.remarks for line in wrap(remark, width, size, most=most)]
        return lines if len(lines) <= most else [*lines[: most - 1], "…"]


def heading(panel: Panel, remarks: tuple[str, ...] = ()) -> Heading:
    """The heading of a panel; ``remarks`` (about the map) come before the panel's own notes."""
    score = f"{panel.score_kind} {score_text(panel.score, panel.score_kind)}"
    second = "  ·  ".join([score, clean(panel.method, 60), *params_text(panel.params)])
    said = [f"{remark[:1].upper()}{remark[1:]}" for remark in remarks]
    own = [panel.completeness] if panel.completeness else []
    return Heading(clean(panel.target) or "unnamed target", second, (*said, *own, *panel.notes))
