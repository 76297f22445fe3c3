"""Least squares by products of columns, which may be many.

Belongs here: solving with a symmetric matrix. Not here: what is fitted (``coalitions``, the methods).

A singular value decomposition copes with every matrix, but of some thousand columns it takes minutes; Cholesky's takes a second
where the matrix is positive definite.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: From so many columns on Cholesky's decomposition is tried first.
WIDE = 400


def solved(gram: Array, right: Array) -> Array:
    """The shortest least-squares solution of ``gram @ solution = right`` for a positive semi-definite matrix."""
    found = positive_solved(gram, right) if len(gram) > WIDE else None
    return np.asarray(np.linalg.lstsq(gram, right)[0]) if found is None else found


def positive_solved(gram: Array, right: Array) -> Array | None:
    """The solution of ``gram @ solution = right`` for a positive definite matrix; None of any other."""
    from scipy.linalg import cho_factor, cho_solve  # only of wide matrices: it takes its time

    with contextlib.suppress(np.linalg.LinAlgError):
        return np.asarray(cho_solve(cho_factor(gram, check_finite=False), right, check_finite=False))
    return None
