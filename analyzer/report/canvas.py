"""A sheet addressed in pixels from its top left corner, drawn by matplotlib's Agg renderer.

Belongs here: fonts, text that fits, colour bars, pixels placed one to one. Not here: what is drawn on it.

Everything is set explicitly and no pyplot state is touched, so that a picture depends only on its data. Text
never reaches matplotlib's mathtext or TeX.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.report import colours
from analyzer.report.scale import Scale
from analyzer.report.text import clean, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.font_manager import FontProperties

DPI = 100
LINE = 1.32
"""Height of a line of text in units of its size."""

BAR, BAR_TEXT = 16, 15
_APART = 10
"""Pixels between the labels of two ticks."""

_WIDE_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
)


@dataclass(frozen=True)
class Theme:
    """Colours of everything that isn't data."""

    paper: str
    ink: str
    faint: str
    rule: str


LIGHT = Theme(paper="#ffffff", ink="#1b1d21", faint="#5c626c", rule="#d5d8de")
DARK = Theme(paper="#1a1c20", ink="#eceae5", faint="#a3a8b0", rule="#3a3e46")


@lru_cache(maxsize=1)
def _families() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    installed = {entry.name for entry in fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in _WIDE_FONTS if name in installed))


def font(size: float, bold: bool = False) -> FontProperties:
    """The font of ``size`` pixels."""
    from matplotlib.font_manager import FontProperties

    return FontProperties(family=list(_families()), weight="bold" if bold else "normal", size=size * 72 / DPI)


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known: set[int] = set()
    for family in _families():
        known.update(get_font(findfont(FontProperties(family=family))).get_charmap())
    return frozenset(known)


def printable(text: str) -> str:
    """Cleaned ``text``; every character without a glyph is a white square, joiners are dropped."""
    glyphs = _glyphs()
    chars = (char for char in clean(text, 2000) if char not in "\u200c\u200d\ufe0e\ufe0f")
    return "".join(char if ord(char) in glyphs else "□" for char in chars)


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width in pixels of printable ``text``."""
    from matplotlib.backends.backend_agg import RendererAgg

    renderer: Any = RendererAgg  # matplotlib's own is untyped
    width, _, _ = renderer(1, 1, DPI).get_text_width_height_descent(text, font(size, bold), ismath=False)
    return float(width)


def fit(text: str, width: float, size: float, bold: bool = False) -> str:
    """``text`` made printable, and cut with an ellipsis where it is wider than ``width`` pixels."""
    text = printable(text)
    if text_width(text, size, bold) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle].rstrip() + "…", size, bold) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def wrap(text: str, width: float, size: float, bold: bool = False, most: int = 2) -> list[str]:
    """``text`` on at most ``most`` lines of ``width`` pixels: overlong words are broken, the rest is cut."""
    words = printable(text).split()
    lines: list[str] = []
    while words and len(lines) < most:
        if len(lines) == most - 1:
            lines.append(fit(" ".join(words), width, size, bold))
            break
        line = ""
        while words and text_width(f"{line} {words[0]}".strip(), size, bold) <= width:
            line = f"{line} {words.pop(0)}".strip()
        if not line:  # a single word wider than the line
            cut = max(len(fit(words[0], width, size, bold)) - 1, 1)
            line, words[0] = words[0][:cut], words[0][cut:]
        lines.append(line)
    return lines


class Canvas:
    """A sheet of ``width`` × ``height`` pixels; y runs down."""

    def __init__(self, width: int, height: int, theme: Theme = LIGHT) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height, self.theme = width, height, theme
        # Half a pixel more than needed keeps matplotlib's truncation from losing one.
        self._figure = Figure(
            figsize=((width + 0.5) / DPI, (height + 0.5) / DPI),
            dpi=DPI,
            facecolor=theme.paper,
            edgecolor="none",
        )
        self._agg: Any = FigureCanvasAgg(self._figure)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        *,
        bold: bool = False,
        colour: str | None = None,
        align: Literal["left", "center", "right"] = "left",
    ) -> None:
        """One line of printable text whose line box starts at height ``y``."""
        from matplotlib.text import Text
        from matplotlib.transforms import IdentityTransform

        self._figure.add_artist(
            Text(
                x,
                self.height - y - 0.98 * size,
                text,
                color=colour or self.theme.ink,
                fontproperties=font(size, bold),
                horizontalalignment=align,
                verticalalignment="baseline",
                parse_math=False,
                usetex=False,
                transform=IdentityTransform(),
            )
        )

    def lines(self, x: float, y: float, lines: list[str], size: float, **how: Any) -> float:
        """Lines under one another; returns the height below the last."""
        for line in lines:
            self.text(x, y, line, size, **how)
            y += LINE * size
        return y

    def image(self, x: int, y: int, pixels: NDArray[np.uint8]) -> None:
        """Pixels, uint8 (h, w, 3), one to one."""
        self._figure.figimage(pixels, xo=x, yo=self.height - y - pixels.shape[0], origin="upper")

    def rectangle(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        fill: str | None,
        edge: str | None = None,
        round_by: float = 0,
    ) -> None:
        """A filled or outlined rectangle, its corners rounded by ``round_by`` pixels."""
        from matplotlib.patches import BoxStyle, FancyBboxPatch
        from matplotlib.transforms import IdentityTransform

        self._figure.add_artist(
            FancyBboxPatch(
                (x, self.height - y - h),
                w,
                h,
                boxstyle=BoxStyle.Round(pad=0, rounding_size=round_by) if round_by else BoxStyle.Square(pad=0),
                facecolor=fill or "none",
                edgecolor=edge or "none",
                linewidth=72 / DPI,
                transform=IdentityTransform(),
            )
        )

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: str | None = None) -> None:
        """A hairline."""
        from matplotlib.lines import Line2D
        from matplotlib.transforms import IdentityTransform

        self._figure.add_artist(
            Line2D(
                [x0, x1],
                [self.height - y0, self.height - y1],
                color=colour or self.theme.rule,
                linewidth=72 / DPI,
                transform=IdentityTransform(),
            )
        )

    def axes(self, x: float, y: float, w: float, h: float) -> Axes:
        """Plain axes over a rectangle: no title, thin spines, ticks in the theme's colours."""
        width, height = self.width + 0.5, self.height + 0.5
        axes = self._figure.add_axes((x / width, (self.height - y - h) / height, w / width, h / height))
        axes.set_facecolor("#ffffff")
        axes.tick_params(
            colors=self.theme.faint,
            labelcolor=self.theme.faint,
            labelsize=15 * 72 / DPI,
            labelfontfamily="DejaVu Sans",
            width=72 / DPI,
            length=4,
        )
        for spine in axes.spines.values():
            spine.set_color(self.theme.rule)
            spine.set_linewidth(72 / DPI)
        return axes

    def colour_bar(self, x: int, y: int, w: int, scale: Scale, table: colours.Table) -> float:
        """A horizontal colour bar, ticks and words under it, ``bar_height`` tall; returns the height below."""
        size, tall = BAR_TEXT, BAR
        start = -1.0 if scale.signed else 0.0
        ramp = colours.paint(np.linspace(start, 1, w)[None, :].repeat(tall, axis=0), table)
        self.image(x, y, ramp)
        self.rectangle(x, y, w, tall, None, edge=self.theme.rule)
        for position, label in bar_ticks(scale, w):
            at = x + (position - start) / (1 - start) * w
            self.line(at, y + tall, at, y + tall + 5, self.theme.faint)
            self.text(at, y + tall + 6, label, size, colour=self.theme.faint, align=_side(position, start))
        below = y + tall + 8 + LINE * size
        return self.lines(x, below, _bar_words(scale, w), size, colour=self.theme.faint)

    def pixels(self) -> NDArray[np.uint8]:
        """The drawn sheet, uint8 (height, width, 3)."""
        self._agg.draw()
        drawn = np.asarray(self._agg.buffer_rgba())[:, :, :3]
        return np.array(drawn[: self.height, : self.width])


def _bar_words(scale: Scale, width: float) -> list[str]:
    return wrap(scale.describe(), width, BAR_TEXT, most=2)


def bar_height(scale: Scale, width: float) -> float:
    """Height of a colour bar with its ticks and words."""
    return BAR + 8 + LINE * BAR_TEXT * (1 + len(_bar_words(scale, width)))


def bar_ticks(scale: Scale, width: float) -> list[tuple[float, str]]:
    """Positions and labels of a colour bar's ticks: its ends, zero, and round values where there is room."""
    from matplotlib.ticker import MaxNLocator

    if not scale.limit:
        return [(0.0, "0")]
    start = -1.0 if scale.signed else 0.0
    power = 10.0 ** np.floor(np.log10(scale.limit))
    top = scale.limit / power if power else 1.0
    found = MaxNLocator(nbins=int(np.clip(width // 110, 2, 8)), steps=[1, 2, 2.5, 5, 10]).tick_values(start * top, top)
    inner = sorted((float(tick / top) for tick in found if start < tick / top < 1), key=abs)
    kept: dict[float, tuple[float, float]] = {}
    for at in dict.fromkeys([start, 1.0, 0.0, *inner]):  # the ends and zero first, then from the middle outwards
        label = text_width(number(at * scale.limit, 3), BAR_TEXT)
        left = (at - start) / (1 - start) * width - {"left": 0.0, "center": label / 2, "right": label}[_side(at, start)]
        if all(left > right + _APART or left + label < other - _APART for other, right in kept.values()):
            kept[at] = left, left + label
    return [(at, number(at * scale.limit, 3)) for at in sorted(kept)]


def _side(at: float, start: float) -> Literal["left", "center", "right"]:
    """How a tick's label stands at its tick: inside the bar at both ends."""
    return "left" if at == start else "right" if at == 1 else "center"
