"""Where colours end, against closed forms, and the sentences that say so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analyzer.report import colours
from analyzer.report.scale import LONELY, colour_limit, fit_scale


def test_limit_of_a_ramp_is_its_percentile() -> None:
    # 1001 values 0, 1, …, 1000: the p-th percentile is 10 p, a value that occurs.
    values = np.arange(1001.0)
    for percentile in (50.0, 90.0, 99.5, 100.0):
        assert colour_limit(values, percentile) == 10 * percentile


def test_limit_takes_the_next_higher_value_that_occurs() -> None:
    # 0.995 · (64 − 1) = 62.685 lies between the two largest of 64: the largest is taken.
    assert colour_limit(np.arange(64.0), 99.5) == 63.0


def test_one_hot_pixel_keeps_its_colour() -> None:
    values = np.zeros((300, 300))
    values[7, 9] = 4.0
    assert colour_limit(values) == 4.0
    values[:] = 1e-9  # rounding noise around it changes nothing
    values[7, 9] = 4.0
    assert colour_limit(values) == 4.0


def test_percentile_counts_as_noise_only_under_the_stated_share() -> None:
    values = np.full(10_000, 1.0)
    values[0] = 1.0 / LONELY
    assert colour_limit(values) == 1.0
    values[0] = 1.01 / LONELY
    assert colour_limit(values) == values[0]


def test_signed_scale_is_symmetric_about_zero() -> None:
    scale = fit_scale(np.array([-3.0, 0.0, 1.0, 2.0]), signed=True)
    assert scale.limit == 3.0
    np.testing.assert_array_equal(scale.position(np.array([-3.0, -1.5, 0.0, 1.5, 3.0])), [-1, -0.5, 0, 0.5, 1])
    assert scale.percentile is None
    assert scale.describe() == "colours end at ±3, the largest |relevance|"


def test_clipping_is_counted_and_said() -> None:
    values = np.concatenate([np.ones(999), [50.0]])
    scale = fit_scale(values, signed=True)
    assert (scale.limit, scale.peak, scale.clipped, scale.percentile) == (1.0, 50.0, 1, 99.5)
    assert scale.position(np.array([50.0, -50.0])).tolist() == [1.0, -1.0]
    assert scale.describe() == "colours end at ±1, the 99.5th percentile of |relevance| (largest 50)"


@pytest.mark.parametrize(
    ("values", "signed", "notes"),
    [
        (np.zeros((4, 4)), True, ("map is zero everywhere",)),
        (np.full((2, 2), 0.25), False, ("map is constant: 0.25 everywhere",)),
        (np.full(3, np.nan), True, ("map has no finite value",)),
        (np.zeros(0), True, ("map is empty",)),
        (np.array([1.0, np.nan, np.inf, 2.0]), True, ("2 of 4 values are not finite (drawn grey)",)),
        (np.array([0.0, -np.inf]), True, ("1 of 2 values are not finite (drawn grey)", "map is zero elsewhere")),
        (np.array([1.0, -2.0]), False, ("1 of 2 values are negative (drawn as zero)",)),
        (np.array([1.0, -2.0]), True, ()),
    ],
)
def test_notes(values: np.ndarray, signed: bool, notes: tuple[str, ...]) -> None:
    scale = fit_scale(values, signed)
    assert scale.notes == notes
    assert np.isfinite(scale.limit)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=9), elements=st.floats(width=32)),
    st.booleans(),
)
def test_positions_stay_on_the_scale(values: np.ndarray, signed: bool) -> None:
    with np.errstate(all="raise", under="ignore"):
        position = fit_scale(values, signed).position(values)
    finite = np.isfinite(values)
    assert np.isnan(position[~finite]).all()
    low = -1.0 if signed else 0.0
    assert ((position[finite] >= low) & (position[finite] <= 1)).all()
    assert (np.sign(position[finite]) * np.sign(values[finite]) >= 0).all()


def _luminance(rows: np.ndarray) -> np.ndarray:
    unit = rows.astype(float) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ [0.2126, 0.7152, 0.0722])


def _lightness(rows: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB rows: another formula than the one that built the tables."""
    y = _luminance(rows)
    return 116 * np.where(y > 0.008856, np.cbrt(y), 7.787 * y + 16 / 116) - 16


def test_diverging_colours_are_neutral_at_zero_and_fall_evenly_to_both_sides() -> None:
    rows = colours.table("diverging")
    assert np.ptp(rows[127].astype(int)) <= 1
    assert rows[127].min() > 240
    lightness = _lightness(rows[:255])
    assert (np.diff(lightness[127:]) < 0.4).all()
    assert (np.diff(lightness[:128]) > -0.4).all()
    assert np.abs(lightness - lightness[::-1]).max() < 6
    red, blue = rows[254].astype(int), rows[0].astype(int)
    assert red[0] > red[1:].max() + 80
    assert blue[2] > blue[:2].max() + 80


@pytest.mark.parametrize(("name", "direction"), [("dark", 1), ("light", -1)])
def test_sequential_colours_are_monotone_in_lightness(name: colours.Table, direction: int) -> None:
    assert (direction * np.diff(_lightness(colours.table(name)[:255])) > -0.4).all()


def test_ink_has_readable_contrast_on_every_ground() -> None:
    for row in (*colours.table("diverging"), *colours.table("light")):
        ink = np.full(3, int(colours.ink_on(row)[1:3], 16))
        low, high = sorted(float(_luminance(colour)) for colour in (row, ink))
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG AA
