"""A promised sum that is missed is said to be, with where it went.

Belongs here: deciding whether a sum is missed, and the note in words. Not here: the sums (``methods.context``), why a method
misses them (the methods: each declares it or finds it out).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.explanation import Completeness, Explanation
from analyzer.methods import registry

Array = NDArray[Any]
#: The record's entry that says why a sum is missed, if it is; it becomes a note.
SHORTFALL = "shortfall"
#: Differences of scores up to so many of their last digits are rounding.
_DIGITS = 100.0


def with_missed_sum(found: Explanation, parts: Sequence[Explanation]) -> Explanation:
    """The explanation, with a note if its map misses the sum that its method promises.

    Parameters
    ----------
    parts
        The explanations that it was put together from; itself where it is one.
    """
    record = {key: value for key, value in found.record.items() if key != SHORTFALL}
    if found.completeness is not None:
        which = missed(found)
        reasons = [part.record[SHORTFALL] for part in parts for _ in _totals(part)]
        if which.any():
            record["notes"] = [*record["notes"], missed_note(found.completeness, which, reasons)]
    return replace(found, record=record)


def _totals(part: Explanation) -> Array:
    return np.zeros(0) if part.completeness is None else part.completeness.total


def missed(found: Explanation) -> Array:
    """Which totals miss their sum by more than the method's tolerance and more than rounding: bool, one for each."""
    complete = found.completeness
    assert complete is not None
    epsilon = max(np.finfo(value.dtype).eps for value in found.attributions.values())
    one_each = len(found.score) == len(complete.total)
    size = np.abs(found.score) if one_each else np.abs(found.score).sum(keepdims=True)
    tolerance = registry.get(found.method).tolerance
    allowed = np.maximum(tolerance * np.abs(complete.expected), _DIGITS * epsilon * size)
    return np.asarray(np.abs(complete.delta) > allowed)


def missed_note(complete: Completeness, which: Array, reasons: Sequence[str]) -> str:
    """One line about the worst of the totals that are missed.

    Parameters
    ----------
    which
        As :func:`missed` gives it, at least one of them true.
    reasons
        For each total why it is missed and what helps; the worst one's is given.
    """
    relative = np.abs(complete.delta) / np.maximum(np.abs(complete.expected), np.finfo(float).tiny)
    worst = int(np.argmax(np.where(which, relative, -1.0)))
    sums = f"sums to {complete.total[worst]:.3g} of {complete.expected[worst]:.3g}"
    if len(which) == 1:
        said = f"the map {sums}"
    elif which.sum() == 1:
        said = f"the map of sample {worst} {sums}"
    else:
        said = f"{which.sum()} of {len(which)} maps miss their sum, at worst that of sample {worst}, which {sums}"
    return f"{said}: {reasons[worst]}" if reasons[worst] else said
