"""Inpainting against straight lines, harmonic functions and a dense solution."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analyzer.inputs.inpainting import inpaint


def dense(x: NDArray[Any], hole: NDArray[Any]) -> NDArray[Any]:
    """The mean of the neighbours for every element of the hole, solved as one full system of equations."""
    elements = list(itertools.product(*(range(side) for side in x.shape)))
    number = {element: at for at, element in enumerate(elements)}
    matrix, right = np.eye(len(elements)), x.ravel().astype(np.float64).copy()
    for element, at in number.items():
        if not hole[element]:
            continue
        near = [
            tuple(p + by * (axis == along) for axis, p in enumerate(element))
            for along in range(x.ndim)
            for by in (-1, 1)
        ]
        near = [other for other in near if other in number]
        matrix[at, at], right[at] = len(near), 0
        for other in near:
            matrix[at, number[other]] = -1
    return np.linalg.lstsq(matrix, right, rcond=None)[0].reshape(x.shape)


def test_a_series_gets_the_straight_line_between_the_ends() -> None:
    x = np.random.default_rng(0).standard_normal((2, 30)).astype(np.float32)
    hole = np.zeros((1, 30), bool)
    hole[0, 7:15] = hole[0, :3] = hole[0, 28:] = True
    got = inpaint(x, hole, (1,))
    for channel in range(2):
        expected = np.interp(np.arange(30), np.flatnonzero(~hole[0]), x[channel, ~hole[0]])
        np.testing.assert_allclose(got[channel], expected, atol=1e-6)
    assert got.dtype == np.float32


def test_a_harmonic_picture_is_restored() -> None:
    """Ramps and x * y fulfil the discrete Laplace equation, so that what is removed comes back."""
    rows, columns = np.mgrid[:20, :24].astype(float)
    x = np.stack([2 * rows - columns, rows * columns, rows**2 - columns**2])
    hole = np.zeros((1, 20, 24), bool)
    hole[0, 4:16, 5:9] = hole[0, 10:13, 3:20] = True
    np.testing.assert_allclose(inpaint(x, hole, (1, 2)), x, atol=1e-9)
    last = inpaint(np.moveaxis(x, 0, -1), np.moveaxis(hole, 0, -1), (0, 1))
    np.testing.assert_allclose(np.moveaxis(last, -1, 0), x, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), sides=st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_equals_a_dense_solution(data: Any, sides: list[int]) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    hole = rng.random(sides) < data.draw(st.sampled_from([0.1, 0.5, 0.9]))
    hole.flat[int(rng.integers(hole.size))] = False
    x = rng.standard_normal(sides)
    got = inpaint(x[None], hole[None], tuple(range(1, len(sides) + 1)))[0]
    np.testing.assert_allclose(got, dense(x, hole), atol=1e-8)
    assert got.min() >= x[~hole].min() - 1e-9
    assert got.max() <= x[~hole].max() + 1e-9


def test_channels_may_have_holes_of_their_own() -> None:
    x = np.random.default_rng(1).standard_normal((3, 6, 7))
    hole = np.zeros((3, 6, 7), bool)
    hole[0, 1:3, 1:4] = hole[2, 2:6, 4:] = True
    got = inpaint(x, hole, (1, 2))
    for channel in range(3):
        np.testing.assert_allclose(got[channel], dense(x[channel], hole[channel]), atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 5, 6), (1, 1, 1), (3, 1, 4)])
def test_what_has_no_surroundings_takes_the_mean(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(2).standard_normal(shape)
    got = inpaint(x, np.ones((1, *shape[1:]), bool), (1, 2))
    np.testing.assert_allclose(got, np.broadcast_to(x.mean(axis=(1, 2), keepdims=True), shape), atol=1e-12)


def test_the_sample_stays_as_it_is() -> None:
    x = np.random.default_rng(4).standard_normal((2, 6, 5)).astype(np.float32)
    before, hole = x.copy(), np.zeros((1, 6, 5), bool)
    hole[0, 1:4, 2:] = True
    assert not np.array_equal(inpaint(x, hole, (1, 2)), x)
    np.testing.assert_array_equal(x, before)


def test_nothing_removed_changes_nothing() -> None:
    x = np.random.default_rng(3).standard_normal((2, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(inpaint(x, np.zeros((1, 4, 4), bool), (1, 2)), x)
