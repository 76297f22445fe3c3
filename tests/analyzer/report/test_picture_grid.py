"""Grids, rows and bars: every map is drawn in its place and in the scale's colours."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.report import colours
from analyzer.report.picture_grid import MOST, draw_bars, draw_maps, draw_rows, draw_tiles


def coloured(pixels: np.ndarray, colour: np.ndarray) -> int:
    return int((pixels == colour).all(axis=-1).sum())


def test_tiles_are_enlarged_by_whole_numbers_and_all_drawn() -> None:
    inks = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120], [130, 140, 150]], np.uint8)
    tiles = np.broadcast_to(inks[:, None, None], (5, 7, 7, 3))
    drawn = draw_tiles("filters", tiles, [str(at) for at in range(5)])
    assert [coloured(drawn, ink) for ink in inks] == [(120 // 7 * 7) ** 2] * 5


@pytest.mark.parametrize(("low", "table"), [(-1.0, "diverging"), (0.0, "dark")])
def test_maps_share_one_scale(low: float, table: colours.Table) -> None:
    maps = np.zeros((4, 8, 8))
    maps[0], maps[3, 0, 0] = 1.0, low
    drawn = draw_maps("maps", maps, list("abcd"))
    top, zero = colours.paint(np.array([1.0, 0.0]), table)
    assert coloured(drawn, top) >= 120 * 120
    assert coloured(drawn, zero) >= 2 * 120 * 120


def test_no_more_than_the_most_are_drawn() -> None:
    maps = np.ones((MOST + 40, 4, 4))
    few, many = (draw_maps("maps", maps[:count], list(map(str, range(count)))) for count in (MOST, MOST + 40))
    np.testing.assert_array_equal(few, many)


def test_rows_and_bars_are_drawn_whatever_the_numbers() -> None:
    curves = np.array([[0.0, 1.0, np.nan], [0.0, 0.0, 0.0]])
    assert draw_rows("rows", curves, ["a", "b"]).std() > 0
    bars = draw_bars("bars", np.array([1.0, -1.0, np.nan, 0.0]))
    assert coloured(bars, np.array([0xBD, 0x3B, 0x33])) > 100
    assert coloured(bars, np.array([0x1A, 0x6B, 0xCB])) > 100
    assert coloured(draw_bars("many", np.ones(5000)), np.array([0x4A, 0x50, 0x5C])) > 1000
