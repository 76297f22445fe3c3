"""The inputs behind a verdict: which, and their explanations to look at.

Belongs here: choosing and explaining them. Not here: what they are (``outcome``), drawing them (``analyzer.report``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from analyzer.errors import AnalyzerError
from analyzer.explanation import Explanation
from analyzer.gate.context import GateContext
from analyzer.gate.inputs import LimitError, StoppedError
from analyzer.gate.outcome import Array, Exhibit

#: How many are shown at most.
MOST = 4


def worst_of(badness: Array, most: int = MOST) -> list[int]:
    """Positions of the largest values, the largest first; of equal ones the earliest, of NaN none."""
    known = np.flatnonzero(~np.isnan(badness))
    return [int(at) for at in known[np.argsort(-badness[known], kind="stable")][:most]]


def exhibits(
    gate: GateContext,
    badness: Array,
    caption: Callable[[int], str],
    other: Callable[[int, Explanation], tuple[str, Explanation] | None] | None = None,
) -> list[Exhibit]:
    """The worst inputs with their explanations.

    Parameters
    ----------
    badness
        A value for each input, the larger the worse; NaN for those that aren't shown.
    caption
        Position -> what is to be seen.
    other
        Gives another explanation to show beside an input's own.
    """
    found = []
    for at in worst_of(badness):
        try:
            e = gate.explanation(at)
            found.append(Exhibit(gate.id(at), caption(at), e, None if other is None else other(at, e)))
        except (LimitError, StoppedError):
            raise
        except AnalyzerError:  # what can't be explained can't be shown
            continue
    return found
