"""Least squares by products of columns, which may be many.

Belongs here: solving with a symmetric matrix. Not here: what is fitted (``coalitions``, the methods).

A singular value decomposition copes with every matrix, but of some thousand columns it takes minutes, and of a few hundred as
long as the evaluations of a model on a GPU; elimination takes a fraction of that where the matrix is positive definite.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: From so many columns on Cholesky's decomposition is tried first.
WIDE = 400
#: Up to so many columns the decomposition into singular values takes no time.
_SMALL = 32
#: The least of Cholesky's pivots, as a share of the largest, of a matrix that is far from singular.
_LEAST_PIVOT = 1e-3


def solved(gram: Array, right: Array) -> Array:
    """The shortest least-squares solution of ``gram @ solution = right`` for a positive semi-definite matrix."""
    if len(gram) > WIDE:
        found = positive_solved(gram, right)
    else:
        found = np.linalg.solve(gram, right) if len(gram) > _SMALL and _well_conditioned(gram) else None
    return np.asarray(np.linalg.lstsq(gram, right)[0]) if found is None else found


def _well_conditioned(gram: Array) -> bool:
    """Whether a matrix is positive definite and far from singular: then there is one solution, with ten digits of it right."""
    with contextlib.suppress(np.linalg.LinAlgError):
        pivots = np.diagonal(np.linalg.cholesky(gram))
        return bool(pivots.min() > _LEAST_PIVOT * pivots.max())
    return False


def positive_solved(gram: Array, right: Array) -> Array | None:
    """The solution of ``gram @ solution = right`` for a positive definite matrix; None of any other."""
    from scipy.linalg import cho_factor, cho_solve  # only of wide matrices: it takes its time

    with contextlib.suppress(np.linalg.LinAlgError):
        return np.asarray(cho_solve(cho_factor(gram, check_finite=False), right, check_finite=False))
    return None
