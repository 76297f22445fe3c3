"""The page of judged explanations: figures, curves, and stops that show one frame at a time."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from analyzer.errors import UsageError
from analyzer.report.animation import Flipping, frames, save_animation
from analyzer.report.canvas import DARK, LIGHT
from analyzer.report.evaluation_page import Chart, MetricTable, Row, render_evaluation
from analyzer.report.picture_curves import Line, draw_curves
from tests.analyzer.report.pages import Page, chromium

EVIL = "<script>document.title='owned'</script>"
X = np.linspace(0, 1, 5)


def flipping(count: int = 5, title: str = "lrp, cat (3)") -> Flipping:
    """Pictures of 8 × 8 that turn from red to blue column by column."""
    pictures = np.zeros((count, 8, 8, 3), np.uint8)
    for at in range(count):
        gone = round(8 * at / (count - 1))
        pictures[at, :, gone:, 0], pictures[at, :, :gone, 2] = 255, 255
    return Flipping(title, pictures, np.linspace(0, 1, count), np.linspace(4, -1, count), "logit")


def table(**more: Any) -> MetricTable:
    rows = [
        Row("lrp", 0.2, 0.1, 0.3, 50),
        Row(f"gradient {EVIL}", 0.9, 0.7, 1.1, 48, 2, "the map is zero everywhere"),
        Row("zero", float("nan"), float("nan"), float("nan"), 0, 50, "x" * 10_000),
    ]
    lines = [Line(row.name, X, 4 - 4 * X, 3.5 - 4 * X, 4.5 - 4 * X) for row in rows[:2]]
    charts = [Chart("Curves", lines, "share", "logit")]
    return MetricTable("pixel-flipping", "What it does.", "lower is better", "What it can't.", rows, charts, **more)


def page(**more: Any) -> str:
    return render_evaluation("net.onnx", "50 inputs", [table()], [flipping()], [EVIL], "now", **more)


def test_figures_are_there_and_strings_are_inert() -> None:
    found = Page(page(command=EVIL))
    assert found.open == [] and not found.of("script") and not found.of("link")
    text = found.text()
    for word in (
        "0.2",
        "0.1 to 0.3",
        "2",
        "the map is zero everywhere",
        "none",
        "Lower is better.",
        "What it can't.",
        EVIL,
    ):
        assert word in text, word
    assert len(text) < 4000, "10,000 characters are cut"
    assert not any("style" in attrs for _, attrs in found.tags), "the policy would block it"


def test_policy_allows_exactly_this_style_sheet() -> None:
    source = page()
    style = source.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in source


def test_intervals_are_drawn_to_one_scale() -> None:
    circles = [float(str(each["cx"]).rstrip("%")) for each in Page(page()).of("circle")]
    assert len(circles) == 2, "what has no value isn't drawn"
    assert circles == pytest.approx([4 + 92 * 0.1, 4 + 92 * 0.8])


def test_a_page_without_anything_renders() -> None:
    assert Page(render_evaluation("net.onnx", "", [], created="now")).open == []


def test_the_chosen_stop_shows_its_frame(tmp_path: Path) -> None:
    source = page()
    chosen = source.replace('id="flip-1-0" checked', 'id="flip-1-0"').replace('id="flip-1-4"', 'id="flip-1-4" checked')
    shares = {}
    for name, content in (("first", source), ("last", chosen)):
        path, shot = tmp_path / f"{name}.html", tmp_path / f"{name}.png"
        path.write_text(content, encoding="utf-8")
        chromium(tmp_path, f"--screenshot={shot}", "--window-size=1000,2400", path.as_uri())
        with Image.open(shot) as opened:
            pixels = np.asarray(opened.convert("RGB")).astype(int)
        shares[name] = [int((np.abs(pixels - colour).sum(axis=2) < 20).sum()) for colour in ([255, 0, 0], [0, 0, 255])]
    assert shares["first"][0] > 50_000 and shares["first"][1] == 0
    assert shares["last"][1] > 50_000 and shares["last"][0] == 0


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_curves_differ_in_colour_and_have_their_names_below(theme: Any) -> None:
    lines = [Line(f"curve {at}", X, X * at) for at in range(10)]
    drawn = draw_curves("Title", lines, "x", "y", theme)
    assert drawn.dtype == np.uint8 and drawn.shape[1] == 760
    one = draw_curves("Title", lines[:1], "x", "y", theme)
    assert drawn.shape[0] > one.shape[0] + 150, "ten names take ten lines"
    paper = [int(theme.paper[at : at + 2], 16) for at in (1, 3, 5)]
    assert drawn[2, 2].tolist() == paper


def test_curves_take_what_is_not_finite() -> None:
    broken = Line("broken", X, np.array([1, np.nan, np.inf, 2, 3]))
    draw_curves("", [broken], "", "")


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_plays_every_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"flip{suffix}"
    save_animation(flipping(6), path)
    with Image.open(path) as opened:
        assert opened.n_frames == 6
        opened.seek(5)
        last = np.asarray(opened.convert("RGB")).astype(int)
    assert last[100, 100, 2] > 200 and last[100, 100, 0] < 60


def test_frames_are_of_one_size() -> None:
    assert len({frame.shape for frame in frames(flipping())}) == 1


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"use \.gif or \.webp"):
        save_animation(flipping(), tmp_path / "flip.mp4")
    assert not list(tmp_path.iterdir())
