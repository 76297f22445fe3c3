"""From values to positions on a colour scale, with nothing done silently.

Belongs here: choosing where the colours end, and notes about it. Not here: the colours
(``colours``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.report.text import number

PERCENTILE = 99.5
LONELY = 0.01
"""A percentile below this share of the largest value would make noise the picture: the largest is used."""


@dataclass(frozen=True)
class Scale:
    """Where the colours of one map end.

    Parameters
    ----------
    signed
        Diverging in [−limit, limit], or sequential in [0, limit].
    limit
        Colours end here; 0 where there is nothing to draw.
    peak
        The largest |value|, or the largest value of an unsigned map.
    percentile
        The percentile that ``limit`` is; None where it is the peak.
    clipped
        How many values lie beyond the limit.
    notes
        What else a reader has to know: a map of zeros, a constant map, values that aren't finite, negative
        values of an unsigned map.
    what
        What the numbers are called.
    """

    signed: bool
    limit: float
    peak: float
    percentile: float | None
    clipped: int
    notes: tuple[str, ...] = ()
    what: str = "relevance"

    def position(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values as positions in [−1, 1] (signed) or [0, 1], float64, same shape; not finite becomes NaN."""
        exact = np.asarray(values, dtype=np.float64)
        finite = np.isfinite(exact)
        scaled = np.where(finite, exact, 0.0) / (self.limit or 1.0)
        return np.where(finite, np.clip(scaled, -1.0 if self.signed else 0.0, 1.0), np.nan)

    def ends(self) -> tuple[str, str, str]:
        """Labels of the scale's start, middle and end."""
        if not self.limit:
            return "", "0", ""
        if self.signed:
            return number(-self.limit, 3), "0", number(self.limit, 3)
        return "0", "", number(self.limit, 3)

    def brief(self) -> str:
        """Where the colours end, in a few words."""
        if not self.limit:
            return "nothing differs from zero"
        if self.percentile is None:
            return "ends at the largest value"
        return f"ends at the {self.percentile:g}th percentile, largest {number(self.peak, 3)}"

    def describe(self) -> str:
        """One sentence: where the colours end, and why."""
        if not self.limit:
            return "no colour scale: nothing differs from zero"
        what = f"|{self.what}|" if self.signed else self.what
        ends = f"±{number(self.limit, 3)}" if self.signed else f"0 and {number(self.limit, 3)}"
        if self.percentile is None:
            return f"colours end at {ends}, the largest {what}"
        return f"colours end at {ends}, the {self.percentile:g}th percentile of {what} (largest {number(self.peak, 3)})"


def colour_limit(values: NDArray[Any], percentile: float = PERCENTILE) -> float:
    """The ``percentile``-th percentile of values ≥ 0, or their maximum where that percentile says nothing.

    With m = max(values) and p the percentile (a value that occurs: the next higher one): p if p ≥ m /
    100, else m. So a map with a single hot pixel is scaled to it. 0 for no values.

    Parameters
    ----------
    values
        Finite values ≥ 0, any shape.
    percentile
        In [0, 100].
    """
    if not values.size:
        return 0.0
    peak = float(values.max())
    limit = float(np.percentile(values, percentile, method="higher"))
    return limit if limit >= LONELY * peak else peak


def fit_scale(values: NDArray[Any], signed: bool, percentile: float = PERCENTILE) -> Scale:
    """The scale of a map.

    Parameters
    ----------
    values
        The map as it is drawn (channels summed already), any shape.
    signed
        Diverging about zero, or sequential from zero.
    percentile
        Colours end at this percentile of |values| (of max(values, 0) when unsigned); 100: at the largest.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    sizes = np.abs(finite) if signed else np.maximum(finite, 0.0)
    peak = float(sizes.max()) if sizes.size else 0.0
    limit = colour_limit(sizes, percentile)
    return Scale(
        signed=signed,
        limit=limit,
        peak=peak,
        percentile=percentile if limit < peak else None,
        clipped=int((sizes > limit).sum()),
        notes=_notes(flat, finite, signed),
    )


def _notes(flat: NDArray[np.float64], finite: NDArray[np.float64], signed: bool) -> tuple[str, ...]:
    notes: list[str] = []
    if not flat.size:
        return ("map is empty",)
    lost = flat.size - finite.size
    if not finite.size:
        return ("map has no finite value",)
    if lost:
        notes.append(f"{lost} of {flat.size} values are not finite (drawn grey)")
    where = "everywhere" if not lost else "elsewhere"
    if not finite.any():
        notes.append(f"map is zero {where}")
    elif finite.size > 1 and (finite == finite[0]).all():
        notes.append(f"map is constant: {number(float(finite[0]))} {where}")
    negative = int((finite < 0).sum())
    if negative and not signed:
        notes.append(f"{negative} of {flat.size} values are negative (drawn as zero)")
    return tuple(notes)
