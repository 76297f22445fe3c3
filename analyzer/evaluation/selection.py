"""Choosing the explanation that metrics judge best: ranked on some of the inputs, confirmed on the others.

Belongs here: ranks, paired differences, the confirmation. Not here: combinations (``candidates``), judging (``judging``), showing
it (``analyzer.jobs``, ``cli``).

Whoever takes the best of many on some inputs has also taken the luckiest: what is claimed of the winner is what it does on inputs
that it wasn't chosen on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analyzer.data.dataset import Dataset
from analyzer.data.drawing import draw
from analyzer.errors import InconclusiveError, UsageError
from analyzer.evaluation import registry as metrics
from analyzer.evaluation.candidates import Candidate
from analyzer.evaluation.judging import Judgement, judge
from analyzer.evaluation.measure import Array
from analyzer.evaluation.statistics import Interval
from analyzer.methods import registry as methods
from analyzer.model import Model

#: So many inputs are needed to choose on, and to confirm on.
LEAST = 8


@dataclass(frozen=True)
class Ranked:
    """A combination and how it did on the inputs that are chosen on.

    Attributes
    ----------
    number
        In the judgement's candidates.
    ranks
        Metric -> its rank, 1 the best; equal means share theirs.
    rank
        Their mean.
    means, to_best
        Metric -> its mean, and its difference from the best combination of all, input by input.
    """

    number: int
    ranks: Mapping[str, float]
    rank: float
    means: Mapping[str, Interval]
    to_best: Mapping[str, Interval]


@dataclass(frozen=True)
class Confirmation:
    """The winner beside another on the inputs that it wasn't chosen on.

    Attributes
    ----------
    metric, against
        By what, and beside which combination.
    role
        What that one is: ``default`` or ``second``.
    winner, other, difference
        Their means, and the winner's minus the other's input by input.
    better
        Whether the interval of the difference lies on the winner's side of zero; None where there are too few values to tell.
    """

    metric: str
    against: Candidate
    role: str
    winner: Interval
    other: Interval
    difference: Interval
    better: bool | None


@dataclass(frozen=True)
class Selection:
    """The outcome.

    Attributes
    ----------
    ranking
        The combinations that could be used, the best first.
    judgement
        Of the held-in inputs, refused combinations and curves included.
    held_out
        Of the others: the winner and those that it is held against.
    confirmations
        One for each metric and each of those.
    unranked
        Number of a combination -> why it has no rank.
    notes
        What the user should know.
    """

    ranking: tuple[Ranked, ...]
    judgement: Judgement
    held_out: Judgement
    confirmations: tuple[Confirmation, ...]
    unranked: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def winner(self) -> Candidate:
        """The best."""
        return self.judgement.candidates[self.ranking[0].number]


def select(
    model: Model,
    dataset: Dataset,
    candidates: Sequence[Candidate],
    chosen: Mapping[str, Mapping[str, Any]],
    *,
    held_out: float = 0.5,
    confidence: float = 0.95,
    seed: int = 0,
    **options: Any,
) -> Selection:
    """Rank combinations by metrics, and confirm the winner.

    Parameters
    ----------
    candidates
        See :func:`~analyzer.evaluation.candidates.combinations`.
    chosen
        Metric -> its parameters. With several, combinations are ranked by the mean of their ranks; those that only describe are
        computed and don't count.
    held_out
        The share of the inputs that the winner is confirmed on, drawn by the seed; of each class as many where labels are known.
    options
        As of :func:`~analyzer.evaluation.judging.judge`.

    Raises
    ------
    UsageError
        ``selection.direction`` where no metric says which values are good, ``selection.candidates`` for less than two
        combinations, ``selection.held_out``; as of a judgement.
    InconclusiveError
        ``selection.too_few`` for less than :data:`LEAST` inputs on either side; ``evaluation.no_value``.
    """
    counting = [name for name in chosen if metrics.get(name).higher_is_better is not None]
    if not counting:
        listing = ", ".join(chosen)
        raise UsageError(
            "selection.direction", f"{listing} only describes: nothing is better by it", "choose another metric"
        )
    if len(candidates) < 2:
        raise UsageError("selection.candidates", "there is one combination: nothing to choose from", "give more values")
    inside, outside = split(dataset, held_out, seed)
    options = {**options, "seed": seed, "tolerant": True}
    judgement = judge(model, dataset, candidates, chosen, at=inside, **options)
    ranking, unranked = _ranking(judgement, counting, confidence, seed)
    against = _against(judgement, ranking)
    pair = [judgement.candidates[ranking[0].number], *against.values()]
    confirmed = judge(model, dataset, pair, chosen, at=outside, **options)
    confirmations = _confirmations(confirmed, list(against), counting, confidence, seed)
    notes = _notes(judgement, chosen, counting)
    return Selection(tuple(ranking), judgement, confirmed, tuple(confirmations), unranked, tuple(notes))


def split(dataset: Dataset, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions to choose on, and to confirm on.

    Raises
    ------
    UsageError
        ``selection.held_out``.
    InconclusiveError
        ``selection.too_few``.
    """
    if isinstance(held_out, bool) or not isinstance(held_out, int | float) or not 0 < held_out < 1:
        raise UsageError("selection.held_out", f"held_out={held_out!r} is no share of the inputs", "as in 0.5")
    count = len(dataset)
    outside = int(np.rint(held_out * count))
    if min(outside, count - outside) < LEAST:
        raise InconclusiveError(
            "selection.too_few",
            f"{count - outside} inputs to choose on and {outside} to confirm on: at least {LEAST} are needed for each",
            f"give {int(np.ceil(LEAST / min(held_out, 1 - held_out)))} inputs or more",
        )
    strata = dataset.labels if None not in dataset.labels else None
    inside = draw(count, count - outside, seed, strata)
    return inside, sorted(set(range(count)).difference(inside))


def _ranking(
    judgement: Judgement, counting: Sequence[str], confidence: float, seed: int
) -> tuple[list[Ranked], dict[int, str]]:
    """The combinations in their order, by the inputs that all of them have values for; and why some have no rank."""
    values = {key: cell.values for key, cell in judgement.cells.items()}
    unranked = {number: str(problem.message) for number, problem in judgement.refused.items()}
    for number in judgement.usable:
        lost = next((name for name in counting if not len(judgement.cells[number, name].known)), None)
        if lost is not None:
            unranked[number] = f"no value of {lost}: {next(iter(judgement.cells[number, lost].why_none), 'unknown')}"
    left = [number for number in range(len(judgement.candidates)) if number not in unranked]
    if not left:
        raise InconclusiveError("evaluation.no_value", next(iter(unranked.values())), "choose another metric")
    common = np.all([np.isfinite(values[number, name]) for number in left for name in counting], axis=0)
    if common.sum() < LEAST:
        raise InconclusiveError(
            "selection.too_few",
            f"{int(common.sum())} inputs have a value of every combination: at least {LEAST} are needed",
            "leave out the combinations that have none, or give more inputs",
        )
    ranks = {name: _ranks(name, {number: values[number, name][common] for number in left}) for name in counting}
    mean_rank = {number: float(np.mean([ranks[name][number] for name in counting])) for number in left}
    order = sorted(left, key=lambda number: (mean_rank[number], number))
    found = []
    for number in order:
        means = {name: Interval.of(values[number, name][common], confidence, seed) for name in counting}
        to_best = {
            name: Interval.of((values[number, name] - values[order[0], name])[common], confidence, seed)
            for name in counting
        }
        found.append(
            Ranked(number, {name: ranks[name][number] for name in counting}, mean_rank[number], means, to_best)
        )
    return found, unranked


def _ranks(name: str, values: Mapping[int, Array]) -> dict[int, float]:
    """Number -> its rank by the mean, 1 the best."""
    from scipy.stats import rankdata

    sign = -1.0 if metrics.get(name).higher_is_better else 1.0
    found = rankdata([sign * own.mean() for own in values.values()])
    return dict(zip(values, (float(rank) for rank in found), strict=True))


def _against(judgement: Judgement, ranking: Sequence[Ranked]) -> dict[str, Candidate]:
    """What the winner is held against: its method's defaults, where it isn't them itself; and the second, where it isn't them."""
    winner = judgement.candidates[ranking[0].number]
    default = Candidate(winner.method)
    found = {} if _alike(winner, default) else {"default": default}
    if len(ranking) > 1:
        second = judgement.candidates[ranking[1].number]
        if not found or not _alike(second, default):
            found["second"] = second
    return found


def _alike(one: Candidate, other: Candidate) -> bool:
    """Whether two combinations are the same once defaults are filled in."""
    if one.method != other.method:
        return False
    first, second = (methods.get(one.method).check(each.params) for each in (one, other))
    return all(type(value) is type(second[key]) and np.array_equal(value, second[key]) for key, value in first.items())


def _confirmations(
    judgement: Judgement, roles: Sequence[str], counting: Sequence[str], confidence: float, seed: int
) -> list[Confirmation]:
    """The winner, which is the first candidate, beside each of the others."""
    found = []
    for name in counting:
        sign = 1.0 if metrics.get(name).higher_is_better else -1.0
        for number, role in enumerate(roles, 1):
            if number in judgement.refused:
                continue
            own, other = (judgement.cells[at, name].values for at in (0, number))
            both = np.isfinite(own) & np.isfinite(other)
            first, second, difference = (
                Interval.of(values[both], confidence, seed) for values in (own, other, own - other)
            )
            low = min(sign * difference.low, sign * difference.high)
            better = bool(low > 0) if np.isfinite(low) else None
            against = judgement.candidates[number]
            found.append(Confirmation(name, against, role, first, second, difference, better))
    return found


def _notes(judgement: Judgement, chosen: Mapping[str, Any], counting: Sequence[str]) -> list[str]:
    notes = [f"{name} only describes, and doesn't count for the ranks" for name in chosen if name not in counting]
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for number in judgement.usable:
        key = tuple(judgement.cells[number, name].values.tobytes() for name in chosen)
        groups.setdefault(key, []).append(number)
    for same in groups.values():
        if len(same) > 1:
            names = " and ".join(judgement.candidates[number].name for number in same[:3])
            more = f" and {len(same) - 3} more" if len(same) > 3 else ""
            notes.append(f"{names}{more} have the same values on every input: what tells them apart may have no effect")
    return notes
