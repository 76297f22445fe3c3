"""Standard errors of weighted least-squares fits to random draws.

Belongs here: what a fit's residuals say of how far its coefficients lie from those of infinitely many draws. Not here: what is
fitted, and how it is drawn (``coalitions``, the methods).

The sandwich estimator with the residuals of HC2 (Horn, Horn, Duncan 1975, Estimating heteroscedastic variances in linear
models; MacKinnon, White 1985): a row pulls the fit towards itself by its leverage h, so that its squared residual is 1 - h
times too small. From few draws the estimate itself varies, and intervals of 1.96 standard errors cover too little; they are
widened by Student's quantile with the degrees of freedom of Satterthwaite 1946 (as Bell, McCaffrey 2002, Bias reduction in
standard errors for linear regression with multi-stage samples, with the hat matrix left out).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.perturbation.gram import solved

Array = NDArray[Any]
#: The normal distribution's quantile of intervals that cover 95 %, and the quantile's place.
_NORMAL, _PLACE = 1.959963984540054, 0.975
#: The least that is left of a row's residual, and the fewest degrees of freedom.
_LEAST, _FEWEST = 1e-3, 2.0
#: So many degrees of freedom make no difference to infinitely many.
_MANY = 1e9


@dataclass(frozen=True)
class Influence:
    """How much each row of a fit moves its coefficients.

    Attributes
    ----------
    basis
        (rows, coefficients) for a residual of one.
    residuals
        (rows,) with what each row's pull on the fit takes from its own put back.
    """

    basis: Array
    residuals: Array

    @classmethod
    def of(cls, gram: Array, x: Array, weight: Array, residuals: Array, others: Array | float = 0.0) -> Influence:
        """Of the fit that solves ``gram @ coefficients = x.T @ (weight * y)``.

        Parameters
        ----------
        gram, x, weight, residuals
            (coefficients, coefficients), (rows, coefficients), (rows,) and (rows,).
        others
            (rows,) leverage by coefficients that were taken out before, as an intercept is by centring.
        """
        basis = solved(gram, (x * weight[:, None]).T).T
        leverage = np.einsum("ij,ij->i", basis, x) + others
        return cls(basis, residuals / np.sqrt(np.maximum(1 - leverage, _LEAST)))

    def moved(self, rows: Any) -> Array:
        """What some rows move the coefficients by: (rows, coefficients)."""
        return np.asarray(self.basis[rows] * self.residuals[rows, None])


def widened(variance: Array, basis: Array, shares: Array) -> Array:
    """Standard errors from variances: so wide that 1.96 of them cover 95 % where the variance is of few draws.

    Parameters
    ----------
    variance
        (coefficients,).
    basis
        Of the rows that it is made of, see :class:`Influence`.
    shares
        (rows,): how much of each row's square is in it.
    """
    from scipy.special import stdtrit  # only where there are errors: it takes its time

    squares = np.square(basis)
    total = shares @ squares
    spread = shares**2 @ np.square(squares, out=squares)
    freedom = np.divide(total**2, spread, out=np.full(len(spread), _MANY), where=spread > 0)
    freedom -= 1  # which is lost to the mean
    return np.asarray(np.sqrt(variance) * stdtrit(np.maximum(freedom, _FEWEST), _PLACE) / _NORMAL)
