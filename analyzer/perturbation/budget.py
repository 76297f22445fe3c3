"""How many evaluations a method may take, and when a random one has enough.

Belongs here: the two parameters' meaning, where a run looks at its error, what the record says. Not here: the estimates
and their errors (``moments``, the methods).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError

Array = NDArray[Any]
#: What the parameters' lines say.
BUDGET = "most model evaluations per sample; None: as many as the other parameters ask for"
WANTED = "stop when the largest standard error is this share of the values' max - min, above 0 and below 1; None: run them all"
#: The first look at the error is after so many draws; each next one after this many times as many.
_FIRST, _GROWTH = 64, 1.1


@dataclass(frozen=True)
class Budget:
    """What a random method may spend on each sample.

    Attributes
    ----------
    draws
        The most draws: masks, coalitions or copies.
    cost
        Model evaluations that one draw takes.
    limited
        Whether the budget allows fewer draws than were asked for.
    wanted
        The standard error at which to stop, as a share of the values' range; None never stops early.
    """

    draws: int
    cost: int = 1
    limited: bool = False
    wanted: float | None = None

    @classmethod
    def of(cls, draws: int, budget: int | None, wanted: float | None, *, cost: int = 1, least: int = 2) -> Budget:
        """From a method's parameters.

        Parameters
        ----------
        draws
            As many as the method's other parameters ask for.
        least
            Draws that the method can't do without.

        Raises
        ------
        UsageError
            ``params.invalid``.
        """
        if budget is not None and budget // cost < least:
            each = f" ({cost} for each mask)" if cost > 1 else ""
            raise UsageError(
                "params.invalid", f"a budget of {budget} evaluations is too small{each}", f"at least {least * cost}"
            )
        if wanted is not None and not 0 < wanted < 1:
            raise UsageError(
                "params.invalid", f"standard_error must lie between 0 and 1, not {wanted}", "0.05 is five per cent"
            )
        allowed = draws if budget is None else min(draws, budget // cost)
        return cls(allowed, cost, allowed < draws, wanted)

    def looks(self, first: int = 0) -> list[int]:
        """After how many draws to look at the error; the last is the end. They depend on nothing but the parameters.

        Parameters
        ----------
        first
            Draws below which an error can't be relied on.
        """
        found: list[int] = []
        if self.wanted is not None:
            at = float(max(_FIRST, first))
            while at < self.draws:
                found.append(int(at))
                at = max(at * _GROWTH, at + 1)
        return [*found, self.draws]

    def enough(self, values: Array, errors: Array | None) -> bool:
        """Whether the wanted standard error is reached."""
        return self.wanted is not None and errors is not None and relative(values, errors) <= self.wanted

    def stopped(self, done: int, values: Array, errors: Array | None) -> str:
        """Why a run ended after so many draws."""
        if self.enough(values, errors) and done < self.draws:
            return "standard error"
        return "budget" if self.limited else "all samples"


def relative(values: Array, errors: Array) -> float:
    """The largest standard error as a share of the values' max - min, at which Covert, Lee 2021 detect convergence."""
    largest, range_ = float(np.max(errors, initial=0.0)), float(np.ptp(values)) if values.size else 0.0
    if range_ > 0:
        return largest / range_
    return 0.0 if largest == 0 else float("inf")


@dataclass
class Tally:
    """Evaluations of a call, for its progress and its record.

    Attributes
    ----------
    total
        The most evaluations that all samples may take together.
    advance
        Called with (done, total); a sample that stops early takes the rest of its share off the total.
    """

    total: int
    advance: Callable[[int, int], None]
    done: int = 0

    def add(self, evaluations: int) -> None:
        """So many more were run."""
        self.done += evaluations
        self.advance(self.done, max(self.total, self.done))

    def spare(self, evaluations: int) -> None:
        """So many aren't needed."""
        self.total -= evaluations
