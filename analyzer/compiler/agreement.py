"""Whether a compiled model's relevance is that of the torch backend.

Belongs here: comparing two backends' relevance on one input. Not here: running either.

Where two runtimes round a unit to different sides of a ReLU's kink, or a tie of a maximum differently, its whole share
moves: no bound on the largest difference holds. So the sum of all differences is judged, and where a network is so kinked
that rounding alone moves more than the bound, the torch backend's own movement under changes of the input in the last
digits is the measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from analyzer.engines.protocol import Array
from analyzer.errors import ParityError

#: Largest sum of differences, relative to the sum of all relevance.
TOLERANCE = 1e-2
#: Relative change of the input that stands for rounding through a network, and how many of its movements pass.
_ROUNDING, _TIMES = 1e-6, 3.0


def moved(got: Mapping[str, Array], want: Mapping[str, Array]) -> float:
    """Sum of all differences relative to the sum of the wanted, over all arrays; infinite where shapes differ."""
    gap = total = 0.0
    for name, value in want.items():
        wide, have = np.asarray(value, np.float64), np.asarray(got[name], np.float64)
        if wide.shape != have.shape or not np.isfinite(have[np.isfinite(wide)]).all():
            return float("inf")
        gap += float(np.abs(have - wide)[np.isfinite(wide)].sum())
        total += float(np.abs(wide)[np.isfinite(wide)].sum())
    return gap / total if total else (float("inf") if gap else 0.0)


def shaken(inputs: Mapping[str, Array]) -> dict[str, Array]:
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
    again: Callable[[], Mapping[str, Array]],
    hint: str,
) -> None:
    """Refuse relevance that isn't the torch backend's.

    Parameters
    ----------
    what
        The method, for the message.
    got, want
        The compiled model's relevance and the torch backend's, by name.
    again
        The torch backend's on :func:`shaken` inputs; only called where the two differ by more than the bound.

    Raises
    ------
    ParityError
        ``compile.mismatch``.
    """
    far = moved(got, want)
    if far <= TOLERANCE or far <= _TIMES * moved(again(), want) < 0.5:
        return
    raise ParityError(
        "compile.mismatch", f"the compiled {what} differs from the torch backend by {far:.1e} of all relevance", hint
    )
