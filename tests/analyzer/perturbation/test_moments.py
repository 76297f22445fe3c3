"""Sums over grids: the same as over the enlarged masks one by one."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.executor.mask_ops import Grid
from analyzer.perturbation.moments import GridMoments, Moments


@pytest.mark.parametrize(
    ("counts", "sides"),
    [((4,), (13,)), ((1,), (5,)), ((4, 3), (11, 9)), ((8, 8), (20, 30)), ((2, 1), (5, 4)), ((2, 3, 2), (5, 7, 4))],
)
def test_sums_over_grids_are_those_over_masks(counts: tuple[int, ...], sides: tuple[int, ...]) -> None:
    grid, rng = Grid(counts, sides, sides), np.random.default_rng(5)
    cells = (rng.random((150, *counts)) < 0.4).astype(np.float32)
    shift = rng.integers(0, grid.steps, (150, len(sides)))
    scores = 7 + rng.standard_normal(150)
    coarse, full = GridMoments(grid, 6.5), Moments(6.5)
    for part in (slice(0, 1), slice(1, 60), slice(60, 150)):
        coarse.add(cells[part], shift[part], scores[part])
    masks = np.empty((150, *sides))
    for at in range(150):  # in double precision, an axis at a time
        mask = cells[at].astype(np.float64)
        for axis, side in enumerate(sides):
            rows = grid.enlarging(axis)[shift[at, axis] : shift[at, axis] + side]
            mask = np.moveaxis(np.tensordot(rows, mask, axes=(1, axis)), 0, axis)
        masks[at] = mask
    full.add(masks, scores)
    found = coarse.moments()
    np.testing.assert_allclose(found.scores, full.scores, rtol=1e-12)
    np.testing.assert_allclose(found.first, full.first, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found.second, full.second, rtol=1e-9, atol=1e-11)
    for (mean, error), (expected, spread) in (
        (found.product(), full.product()), (found.covariance(), full.covariance()),
    ):  # fmt: skip
        np.testing.assert_allclose(mean, expected, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(error, spread, rtol=1e-6, atol=1e-9)


def test_grids_of_many_axes_are_summed_up_at_full_size() -> None:
    assert GridMoments.suits(Grid((8, 8), (224, 224), (1, 224, 224)))
    assert GridMoments.suits(Grid((8,), (16_000,), (1, 16_000)))
    assert not GridMoments.suits(Grid((8, 8, 8), (128, 128, 128), (1, 128, 128, 128)))


def test_moments_do_not_depend_on_how_masks_are_cut_into_pieces() -> None:
    rng = np.random.default_rng(6)
    masks, scores = rng.random((90, 40, 70)).astype(np.float32), rng.standard_normal(90)
    full, pieces = Moments(0.1), Moments(0.1)
    full.add(masks, scores)
    for start in range(0, 90, 13):
        pieces.add(masks[start : start + 13], scores[start : start + 13])
    np.testing.assert_allclose(pieces.first, full.first, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(full.second[2], np.tensordot(  # beside the definition
        (scores - 0.1) ** 2, masks.astype(np.float64) ** 2, 1), rtol=1e-10)  # fmt: skip
