"""The prediction for the record: the five best classes, found without sorting all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from analyzer.targets.values import _best

FEW = st.integers(-3, 3).map(float) | st.just(np.nan) | st.just(np.inf) | st.just(-np.inf)


@given(arrays.arrays(np.float32, st.integers(0, 120), elements=FEW))
def test_the_best_classes_are_those_of_a_full_sort(row: np.ndarray) -> None:
    """Equal ones in their order, NaN last."""
    np.testing.assert_array_equal(_best(row), np.argsort(-row, kind="stable")[:5])


@pytest.mark.parametrize("nans", [0, 3, 96, 98, 100])
def test_a_row_of_many_classes_with_few_numbers(nans: int) -> None:
    row = np.random.default_rng(nans).standard_normal(100)
    row[np.random.default_rng(1).permutation(100)[:nans]] = np.nan
    np.testing.assert_array_equal(_best(row), np.argsort(-row, kind="stable")[:5])
