"""Solving with symmetric matrices: quick where that is safe, the shortest solution where there are several."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.perturbation.gram import WIDE, _well_conditioned, solved

SIZES = (3, 60, WIDE - 1, WIDE + 5)


@pytest.mark.parametrize("size", SIZES)
def test_a_positive_definite_matrix_has_one_solution(size: int) -> None:
    rng = np.random.default_rng(size)
    x = rng.standard_normal((2 * size, size))
    gram, right = x.T @ x + np.eye(size), rng.standard_normal((size, 2))
    np.testing.assert_allclose(solved(gram, right), np.linalg.pinv(gram) @ right, atol=1e-9)


@pytest.mark.parametrize("size", [3, 60, 200])
@pytest.mark.parametrize("twin", [0.0, 1e-9])
def test_of_several_solutions_it_is_the_shortest(size: int, twin: float) -> None:
    """Two columns are the same, or nearly: elimination would answer with numbers of any size."""
    rng = np.random.default_rng(size)
    x = rng.standard_normal((2 * size, size))
    x[:, 1] = x[:, 0] + twin * rng.standard_normal(2 * size)
    gram = x.T @ x
    assert not _well_conditioned(gram)
    right = gram @ rng.standard_normal(size)
    found = solved(gram, right)
    np.testing.assert_allclose(found, np.linalg.lstsq(gram, right)[0], atol=1e-9)
    assert found[0] == pytest.approx(found[1], abs=1e-5)
