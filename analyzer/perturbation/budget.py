"""How many evaluations a method may take, and when a random one has enough.

Belongs here: what ``budget`` and ``standard_error`` mean, the loop that stops at a standard error, progress, what the record
says of it. Not here: the estimates and their standard errors (``moments``, the methods).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError

Array = NDArray[Any]
#: The help texts of the two parameters.
BUDGET_HELP = "most model evaluations per sample; None: as many as the other parameters ask for"
STANDARD_ERROR_HELP = (
    "stop when the largest standard error is this share of the values' max - min, above 0 and below 1; "
    "None: run them all"
)
#: The first checkpoint is after so many draws; each next one after this many times as many.
_FIRST, _GROWTH = 64, 1.1


@dataclass(frozen=True)
class Budget:
    """What a random method may spend on each sample.

    Attributes
    ----------
    draws
        The most draws: masks, coalitions or perturbed copies.
    cost
        Model evaluations that one draw takes.
    limited
        Whether the budget allows fewer draws than the method's other parameters ask for.
    standard_error
        The standard error at which to stop, as a share of the values' range; None never stops early.
    """

    draws: int
    cost: int = 1
    limited: bool = False
    standard_error: float | None = None

    @classmethod
    def of(
        cls, draws: int, budget: int | None, standard_error: float | None, *, cost: int = 1, least: int = 2
    ) -> Budget:
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
        if standard_error is not None and not 0 < standard_error < 1:
            raise UsageError(
                "params.invalid",
                f"standard_error must lie between 0 and 1, not {standard_error}",
                "0.05 is five per cent",
            )
        allowed = draws if budget is None else min(draws, budget // cost)
        return cls(allowed, cost, allowed < draws, standard_error)

    def checkpoints(self, first: int = 0) -> list[int]:
        """After how many draws to compare the standard error; the last is the end.

        They depend on nothing but the parameters, so that a seed gives the same result on every machine.

        Parameters
        ----------
        first
            Draws below which a standard error can't be relied on.
        """
        found: list[int] = []
        if self.standard_error is not None:
            at = float(max(_FIRST, first))
            while at < self.draws:
                found.append(int(at))
                at = max(at * _GROWTH, at + 1)
        return [*found, self.draws]

    def reached(self, values: Array, errors: Array | None) -> bool:
        """Whether the standard error is small enough."""
        if self.standard_error is None or errors is None:
            return False
        return relative_error(values, errors) <= self.standard_error

    def stopped(self, draws: int, values: Array, errors: Array | None) -> str:
        """Why a run ended after so many draws."""
        if self.reached(values, errors) and draws < self.draws:
            return "standard error"
        return "budget" if self.limited else "all samples"


def relative_error(values: Array, errors: Array) -> float:
    """The largest standard error as a share of the values' max - min, at which Covert, Lee 2021 detect convergence."""
    largest, range_ = float(np.max(errors, initial=0.0)), float(np.ptp(values)) if values.size else 0.0
    if range_ > 0:
        return largest / range_
    return 0.0 if largest == 0 else float("inf")


@dataclass
class Progress:
    """Model evaluations of a call, as they are reported while it runs.

    Attributes
    ----------
    total
        The most evaluations that all samples may take together.
    report
        Called with (done, total) evaluations.
    cost
        Evaluations for one mask.
    """

    total: int
    report: Callable[[int, int], None]
    cost: int = 1
    done: int = 0

    def add(self, masks: int = 1) -> None:
        """So many more masks were scored."""
        self.done += masks * self.cost
        self.report(self.done, max(self.total, self.done))

    def reach(self, masks: int) -> None:
        """So many masks were scored altogether: each is reported once, also where some are scored again."""
        while self.done < masks * self.cost:
            self.add()

    def counted(self, scores: Iterable[float]) -> Iterator[float]:
        """The scores of masks, each reported as it comes."""
        for score in scores:
            self.add()
            yield score

    def shorten(self, evaluations: int) -> None:
        """So many evaluations won't be needed."""
        self.total -= evaluations


@dataclass(frozen=True)
class Estimate:
    """What the draws of one sample gave.

    Attributes
    ----------
    values, errors
        The estimate and its standard errors; None where it has none.
    stopped
        Why there were no more draws.
    """

    values: Array
    errors: Array | None
    stopped: str

    @property
    def relative_error(self) -> float | None:
        """What the stopping criterion compares; None without standard errors."""
        return None if self.errors is None else relative_error(self.values, self.errors)


class SequentialSampling:
    """Draws for one sample after another, for each until its standard error is small enough or none are left.

    Parameters
    ----------
    budget
        What each sample may take.
    planned
        The most draws that each sample will take, for the progress.
    report
        As of :class:`Progress`.

    Attributes
    ----------
    estimates
        Those of the samples so far.
    """

    def __init__(self, budget: Budget, planned: Sequence[int], report: Callable[[int, int], None]) -> None:
        self.budget = budget
        self.progress = Progress(sum(planned) * budget.cost, report, budget.cost)
        self.estimates: list[Estimate] = []
        self._planned = planned

    def estimate(self, after: Callable[[int], tuple[Array, Array | None]], first: int = 0) -> Array:
        """The values of the next sample.

        Parameters
        ----------
        after
            Scores those of the first ``n`` draws that it has not yet scored, counted by :attr:`progress`, and gives values
            and standard errors from all ``n``.
        first
            As of :meth:`Budget.checkpoints`.
        """
        before = self.progress.done
        for draws in self.budget.checkpoints(first):
            values, errors = after(draws)
            if self.budget.reached(values, errors):
                break
        planned = self._planned[len(self.estimates)] * self.budget.cost
        self.progress.shorten(planned - (self.progress.done - before))
        self.estimates.append(Estimate(values, errors, self.budget.stopped(draws, values, errors)))
        return values

    def record(self) -> dict[str, Any]:
        """The record's figures by sample; ``standard_error`` has one number for each that was estimated."""
        errors = [estimate.errors for estimate in self.estimates]
        return {
            "evaluations": self.progress.done,
            "standard_error": [None if each is None else each.tolist() for each in errors],
            "mean_standard_error": [None if each is None else float(np.mean(each)) for each in errors],
            "relative_error": [estimate.relative_error for estimate in self.estimates],
            "stopped": [estimate.stopped for estimate in self.estimates],
        }
