"""Resampling in numpy against torch's interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.inputs.resampling import interpolation_matrix, resample

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40)), min_size=1, max_size=3),
    how=st.sampled_from(["linear", "corners", "nearest"]),
    seed=st.integers(0, 99),
)
def test_equal_to_torch(sizes: list[tuple[int, int]], how: Any, seed: int) -> None:
    have, want = [a for a, _ in sizes], [b for _, b in sizes]
    map_ = np.random.default_rng(seed).standard_normal((2, 3, *have)).astype(np.float32)
    mode = "nearest" if how == "nearest" else LINEAR[len(sizes)]
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(map_), tuple(want), mode=mode, align_corners=None if how == "nearest" else how == "corners"
    ).numpy()
    got = resample(map_, want, how)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(map_).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_element_type_stays(dtype: Any) -> None:
    assert resample(np.ones((1, 1, 2, 2), dtype), (5, 5)).dtype == dtype


def test_the_same_size_is_the_same_map() -> None:
    map_ = np.random.default_rng(0).random((1, 2, 5, 7)).astype(np.float32)
    np.testing.assert_array_equal(resample(map_, (5, 7)), map_)


@pytest.mark.parametrize(("have", "want"), [(1, 5), (2, 2), (4, 11), (9, 3), (7, 40)])
def test_the_matrix_is_linear_resampling(have: int, want: int) -> None:
    map_ = np.random.default_rng(1).standard_normal(have)
    got = interpolation_matrix(have, want)
    np.testing.assert_allclose(got @ map_, resample(map_[None, None], (want,))[0, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.sum(1), 1, rtol=0, atol=1e-12)
