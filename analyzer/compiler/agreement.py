"""Whether a compiled model's relevance is that of the torch backend.

Belongs here: comparing two backends' relevance on one input. Not here: running either.

Where two runtimes round a unit to different sides of a ReLU's kink, or break a tie of a maximum differently, all of its
relevance goes another way, and no bound on the largest difference holds. So the sum of all differences is compared with a
bound. Where a network has so many kinks that rounding by itself exceeds that bound, the measure is how much the torch
backend's relevance changes when the input is changed in its last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from analyzer.engines.protocol import Array
from analyzer.errors import ParityError

#: Largest sum of differences, relative to the sum of all relevance.
TOLERANCE = 1e-2
#: Relative change of the input that imitates rounding in a network, and how many times the change it causes is allowed.
_ROUNDING, _FACTOR = 1e-6, 3.0


def relative_difference(got: Mapping[str, Array], want: Mapping[str, Array]) -> float:
    """Sum of all absolute differences over the sum of all expected absolute values; infinite where shapes differ."""
    gap = total = 0.0
    for name, value in want.items():
        wide, have = np.asarray(value, np.float64), np.asarray(got[name], np.float64)
        if wide.shape != have.shape or not np.isfinite(have[np.isfinite(wide)]).all():
            return float("inf")
        gap += float(np.abs(have - wide)[np.isfinite(wide)].sum())
        total += float(np.abs(wide)[np.isfinite(wide)].sum())
    return gap / total if total else (float("inf") if gap else 0.0)


def with_rounding_noise(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Inputs whose floating-point values are changed in their last digits."""
    rng = np.random.default_rng(0)
    return {
        name: np.asarray(value * (1 + _ROUNDING * rng.standard_normal(value.shape)), value.dtype)
        if value.dtype.kind == "f"
        else value
        for name, value in inputs.items()
    }


def require(
    what: str,
    got: Mapping[str, Array],
    want: Mapping[str, Array],
    perturbed: Callable[[], Mapping[str, Array]],
    hint: str,
) -> None:
    """Refuse relevance that isn't the torch backend's.

    Parameters
    ----------
    what
        Name of the method, for the message.
    got, want
        The compiled model's relevance and the torch backend's, by name.
    again
        Computes the torch backend's for inputs :func:`with_rounding_noise`; called only where the bound is exceeded.

    Raises
    ------
    ParityError
        ``compile.mismatch``.
    """
    difference = relative_difference(got, want)
    if difference <= TOLERANCE or difference <= _FACTOR * relative_difference(perturbed(), want) < 0.5:
        return
    raise ParityError(
        "compile.mismatch",
        f"the compiled {what} differs from the torch backend by {difference:.1e} of all relevance",
        hint,
    )
