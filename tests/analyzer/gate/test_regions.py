"""Regions elsewhere, and how much lies in them."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.gate.regions import mass_over_area, mirrored


def _box(rows: slice, columns: slice) -> np.ndarray:
    found = np.zeros((8, 8), bool)
    found[rows, columns] = True
    return found


@pytest.mark.parametrize(
    ("region", "elsewhere"),
    [
        (_box(slice(6, 8), slice(0, 3)), _box(slice(6, 8), slice(5, 8))),  # left to right
        (_box(slice(6, 8), slice(2, 6)), _box(slice(0, 2), slice(2, 6))),  # in the middle below: top to bottom
    ],
)
def test_a_region_is_mirrored_to_where_it_doesnt_overlap(region: np.ndarray, elsewhere: np.ndarray) -> None:
    found = mirrored(region)
    assert found is not None
    np.testing.assert_array_equal(found, elsewhere)


def test_a_frame_has_no_other_side() -> None:
    assert (
        mirrored(_box(slice(0, 8), slice(0, 1)) | _box(slice(0, 1), slice(0, 8)) | ~_box(slice(1, 7), slice(1, 7)))
        is None
    )


def test_a_region_of_a_series() -> None:
    region = np.array([True, True, False, False, False])
    found = mirrored(region)
    assert found is not None
    np.testing.assert_array_equal(found, region[::-1])


def test_relevance_that_is_spread_evenly_has_a_mass_of_its_area() -> None:
    assert mass_over_area(np.ones((8, 8)), _box(slice(0, 2), slice(0, 2))) == 1
    assert mass_over_area(np.eye(8), _box(slice(0, 2), slice(0, 2))) == pytest.approx(2 / 8 / (4 / 64))
    assert np.isnan(mass_over_area(np.zeros((8, 8)), _box(slice(0, 2), slice(0, 2))))
    assert np.isnan(mass_over_area(np.full((8, 8), np.inf), _box(slice(0, 2), slice(0, 2))))
