"""PNG files: size, colours and words, looked at through Pillow."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analyzer.errors import InconclusiveError, UsageError
from analyzer.report import Panel, Sample, draw_picture, save_picture
from analyzer.report import heat as heat_module
from analyzer.report.canvas import Canvas, bar_ticks, fit, printable, text_width, wrap
from analyzer.report.heat import display_size, layers
from analyzer.report.picture_series import outline
from analyzer.report.scale import fit_scale
from tests.analyzer.report.records import image_sample, panel, samples_of_every_kind


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    """Missing glyphs, empty slices, overflows: none of it may reach a user's terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every line of text that is put on a canvas."""
    seen: list[str] = []
    original = Canvas.text

    def record(self: Canvas, x: float, y: float, text: str, size: float, **how: object) -> None:
        seen.append(text)
        original(self, x, y, text, size, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Canvas, "text", record)
    return seen


def _parts(pixels: np.ndarray, sample: Sample, explained: Panel) -> list[np.ndarray]:
    """The three parts of an image's picture, found by looking for the drawn input."""
    made = layers(sample, explained)
    tall, wide = display_size(*made.picture.shape[:2])
    wanted = heat_module.resize(made.picture, tall, wide, smooth=True)
    column = max(wide, 260)
    for y in range(pixels.shape[0] - tall):
        if np.array_equal(pixels[y : y + tall, 32 : 32 + wide], wanted):
            lefts = [32 + position * (column + 24) for position in range(3)]
            return [pixels[y : y + tall, left : left + wide] for left in lefts]
    raise AssertionError("the input isn't in the picture, pixel by pixel")


def test_hot_pixels_are_red_and_blue_where_they_are(tmp_path: Path) -> None:
    sample = image_sample()
    values = np.zeros((3, 8, 8), dtype=np.float32)
    values[0, 2, 5], values[1, 6, 1] = 1.0, -1.0
    save_picture(sample, panel(values), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.mode == "RGB"
        pixels = np.asarray(opened)
    _, heat, overlay = _parts(pixels, sample, panel(values))
    step = heat.shape[0] // 8
    assert heat.shape == (448, 448, 3)
    cells = heat.reshape(8, step, 8, step, 3)
    assert (cells == cells[:, :1, :, :1]).all(), "one flat block per pixel"
    cell = cells[:, 0, :, 0].astype(int)
    assert cell[2, 5, 0] > 140 > 60 > cell[2, 5, 1:].max()
    assert cell[6, 1, 2] > 140 > 110 > cell[6, 1, :2].max()
    cell[2, 5] = cell[6, 1] = cell[0, 0]
    assert (cell == cell[0, 0]).all()
    assert cell[0, 0].min() > 240
    lit = overlay[step // 2 :: step, step // 2 :: step].astype(int)
    colourful = np.ptp(lit, axis=2) > 40
    assert sorted(map(tuple, np.argwhere(colourful).tolist())) == [(2, 5), (6, 1)]


def test_unsigned_maps_run_from_black() -> None:
    sample = image_sample()
    values = np.zeros((1, 8, 8))
    values[0, 4, 4] = 2.0
    explained = panel(values, signed=False)
    _, heat, _ = _parts(draw_picture(sample, explained), sample, explained)
    assert heat[10, 10].max() <= 4
    assert heat[4 * 56 + 20, 4 * 56 + 20].min() > 150


def test_channels_that_cancel_leave_nothing(words: list[str]) -> None:
    values = np.zeros((3, 8, 8))
    values[0], values[1] = 1.0, -1.0
    draw_picture(image_sample(), panel(values))
    assert "Map is zero everywhere" in words
    assert "no colour scale: nothing differs from zero" in words


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (np.zeros((3, 8, 8)), "Map is zero everywhere"),
        (np.full((1, 8, 8), 0.5), "Map is constant: 0.5 everywhere"),
        (np.full((3, 8, 8), np.nan), "Map has no finite value"),
    ],
)
@pytest.mark.parametrize("signed", [True, False])
def test_degenerate_maps_are_said(values: np.ndarray, note: str, signed: bool, words: list[str]) -> None:
    draw_picture(image_sample(), panel(values, signed=signed))
    assert note in words


def test_values_that_are_not_finite_are_grey() -> None:
    values = np.zeros((1, 8, 8))
    values[0, 0, 0], values[0, 0, 1], values[0, 7, 7] = np.nan, np.inf, 1
    sample, explained = image_sample(), panel(values)
    _, heat, _ = _parts(draw_picture(sample, explained), sample, explained)
    assert heat[5, 5].tolist() == heat[5, 60].tolist() == [150, 150, 150]


def test_heading_names_target_score_method_and_parameters(words: list[str]) -> None:
    explained = panel(np.ones((1, 8, 8)), completeness="sum 2.4 of 2.5", notes=("seen once",), seconds=1.5)
    draw_picture(image_sample(), explained)
    assert words[0] == "cat (3)"
    assert words[1] == "logit 2.5 · lrp · composite=epsilon"
    assert {"sum 2.4 of 2.5", "seen once", "tiny, 8 × 8", "relevance", "overlay"} <= set(words)
    assert "colours end at ±1, the largest |relevance|" in words
    assert not any("1.5" in word for word in words), "time would make equal explanations unequal files"


@pytest.mark.parametrize(
    ("height", "width", "wanted"),
    [
        (8, 8, (448, 448)),
        (224, 224, (448, 448)),
        (300, 451, (300, 451)),
        (512, 512, (512, 512)),
        (2000, 1000, (560, 280)),
        (1, 2000, (24, 560)),
        (2000, 3, (560, 24)),
    ],
)
def test_display_sizes(height: int, width: int, wanted: tuple[int, int]) -> None:
    assert display_size(height, width) == wanted


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (200, 31), (40, 300), (1, 500), (900, 2000)])
def test_every_size_of_image_can_be_drawn(height: int, width: int) -> None:
    sample = image_sample(height, width)
    pixels = draw_picture(sample, panel(np.random.default_rng(0).normal(size=(3, height, width))))
    assert pixels.dtype == np.uint8
    assert 560 < pixels.shape[1] < 1900
    assert (pixels[:8] == 255).all(), "a margin of paper"


def test_grey_samples_without_a_picture_are_drawn_from_their_values() -> None:
    values = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    sample = Sample("grey", "image", None, values, "CHW")
    explained = panel(np.ones((1, 8, 8)))
    first, _, _ = _parts(draw_picture(sample, explained), sample, explained)
    assert first[0, 0].tolist() == [0, 0, 0]
    assert first[-1, -1].tolist() == [255, 255, 255]


def test_coarse_maps_are_enlarged_and_said(words: list[str]) -> None:
    coarse = np.zeros((1, 2, 2))
    coarse[0, 0, 0] = 1
    sample = image_sample(64, 64)
    index = layers(sample, panel(coarse)).index.astype(int)
    assert index.shape == (64, 64)
    assert index[0, 0] == 254
    assert index[-1, -1] == 127
    assert (np.diff(index[0]) <= 0).all()
    draw_picture(sample, panel(coarse))
    assert "relevance, map of 2 × 2 fitted to the picture" in words


HOSTILE = "$\\frac{1}{0}$ $unclosed \\undefined 猫猫 \U0001f408 \x1b[31m\u202e\ud800 " + "long " * 60


def test_hostile_strings_are_inert_in_every_kind(words: list[str]) -> None:
    for sample, panels in samples_of_every_kind():
        evil = Sample(
            HOSTILE, sample.kind, sample.image, sample.values, sample.layout,
            tuple(f"{position} {HOSTILE}" for position in range(6)) if sample.kind == "tokens" else (HOSTILE,) * 5,
            ((HOSTILE, 0.5),),
        )  # fmt: skip
        for each in panels:
            params = {HOSTILE: HOSTILE}
            draw_picture(
                evil,
                Panel(HOSTILE, params, each.attribution, each.signed, HOSTILE, np.nan, notes=(HOSTILE,)),
            )
    assert any("$\\frac{1}{0}$" in word for word in words), "shown as it is written"
    text = "".join(words)
    assert not {"\x1b", "\u202e", "\ud800", "\U0001f408"} & set(text)


def test_mathtext_is_not_parsed() -> None:
    """'$_x$' as mathematics would be narrower than its four characters."""
    sample = Sample("s", "table", None, np.ones(1), None, ("x",))
    plain = draw_picture(sample, panel(np.ones(1), target="S_xS")) != 255
    dollar = draw_picture(sample, panel(np.ones(1), target="$_x$")) != 255
    extent = [np.flatnonzero(each[32:66].any(axis=(0, 2)))[-1] for each in (plain, dollar)]
    assert abs(int(extent[0]) - int(extent[1])) <= 4


def test_text_is_wrapped_broken_and_cut() -> None:
    assert wrap("one two three", 1000, 16) == ["one two three"]
    lines = wrap("word " * 50, 200, 16, most=3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert all(text_width(line, 16) <= 200 for line in lines)
    broken = wrap("x" * 300, 200, 16, most=2)
    assert len(broken) == 2
    assert all(text_width(line, 16) <= 200 for line in broken)
    assert fit("short", 500, 16) == "short"
    assert wrap("", 100, 16) == []
    assert printable("a\u200db") == "ab"


@pytest.mark.parametrize("limit", [1e-38, 3.3e-7, 9.49e-4, 4.88e-3, 0.0123, 1.0, 7.77, 123456.0, 3e38])
@pytest.mark.parametrize("signed", [True, False])
def test_colour_bar_ticks_are_readable(limit: float, signed: bool) -> None:
    ticks = bar_ticks(fit_scale(np.array([limit, 0.0]), signed), 500)
    positions = [position for position, _ in ticks]
    assert positions == sorted(positions)
    assert positions[0] == (-1 if signed else 0)
    assert positions[-1] == 1
    assert (0.0, "0") in ticks
    assert 3 <= len(ticks) <= 11
    assert len({label for _, label in ticks}) == len(ticks)
    span = 2 if signed else 1
    ends = []
    for position, label in ticks:
        middle, width = (position - positions[0]) / span * 500, text_width(label, 15)
        left = middle - {positions[0]: 0, 1: width}.get(position, width / 2)
        ends.append((left, left + width))
    assert all(right + 8 < left for (_, right), (left, _) in itertools.pairwise(ends))


def test_table_bars_point_the_right_way() -> None:
    sample = Sample("row", "table", None, np.arange(3.0), None, ("up", "down", "flat"))
    pixels = draw_picture(sample, panel(np.array([2.0, -2.0, 0.0]))).astype(int)
    red = (pixels[..., 0] - pixels[..., 2] > 80).nonzero()
    blue = (pixels[..., 2] - pixels[..., 0] > 80).nonzero()
    assert red[0].max() < blue[0].min(), "equal sizes keep their order"
    assert blue[1].max() <= red[1].min() + 1, "they meet at zero"
    widths = [np.ptp(each[1]) for each in (red, blue)]
    assert abs(widths[0] - widths[1]) <= 2


def test_series_strip_is_coloured_where_relevance_is() -> None:
    relevance = np.zeros(100)
    relevance[:20], relevance[80:] = 1, -1
    sample = Sample("s", "series", None, np.zeros(100))
    pixels = draw_picture(sample, panel(relevance)).astype(int)[110:330]
    red = np.median((pixels[..., 0] - pixels[..., 2] > 80).nonzero()[1])
    blue = np.median((pixels[..., 2] - pixels[..., 0] > 80).nonzero()[1])
    assert red < 250
    assert blue > 850


def test_outline_keeps_extremes() -> None:
    curve = np.random.default_rng(0).normal(size=100_003)
    curve[77_777], curve[3] = 50, -60
    times, levels = outline(curve, 1000)
    assert len(times) == len(levels) <= 1000
    assert (np.diff(times) >= 0).all()
    assert levels.max() == 50
    assert levels.min() == -60
    assert abs(times[np.argmax(levels)] - 77_777) < 300


@pytest.mark.parametrize("steps", [1, 2, 50_000])
def test_series_of_any_length(steps: int, words: list[str]) -> None:
    values = np.full(steps, 3.0)
    values[0] = np.nan
    draw_picture(Sample("s", "series", None, values), panel(np.ones(steps)))
    grouped = [word for word in words if word.startswith("Groups of 5")]
    assert bool(grouped) == (steps == 50_000)


def test_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    for sample, panels in samples_of_every_kind():
        for each in panels:
            save_picture(sample, each, tmp_path / "1.png")
            save_picture(sample, each, tmp_path / "2.png")
            first = (tmp_path / "1.png").read_bytes()
            assert first == (tmp_path / "2.png").read_bytes()
            assert first.startswith(b"\x89PNG")


def test_global_matplotlib_settings_change_nothing_that_matters() -> None:
    import matplotlib as mpl

    sample, panels = samples_of_every_kind()[2]
    before = draw_picture(sample, panels[0])
    with mpl.rc_context({"text.parse_math": True, "font.size": 30, "figure.dpi": 300, "savefig.dpi": 10}):
        np.testing.assert_array_equal(before, draw_picture(sample, panels[0]))


def test_files_are_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goal = tmp_path / "new folder" / "a.png"
    save_picture(image_sample(), panel(np.ones((1, 8, 8))), goal)
    before = goal.read_bytes()
    assert sorted(path.name for path in goal.parent.iterdir()) == ["a.png"]

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(InconclusiveError, match="No space left") as caught:
        save_picture(image_sample(), panel(np.zeros((1, 8, 8))), goal)
    assert caught.value.code == "output.no_space"
    assert goal.read_bytes() == before
    assert [path.name for path in goal.parent.iterdir()] == ["a.png"]


def test_unwritable_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as caught:
        save_picture(image_sample(), panel(np.ones((1, 8, 8))), os.fspath(tmp_path / "file" / "a.png"))
    assert caught.value.code == "output.unwritable"
