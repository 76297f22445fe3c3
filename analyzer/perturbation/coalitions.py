"""Coalitions of segments: which ones are evaluated, and the Shapley values that follow from their scores.

Belongs here: the sampling design of kernel SHAP, its least squares and standard errors, Shapley values by their definition.
Not here: the method, how a coalition is scored (``features``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.perturbation.fit_errors import Influence, widened
from analyzer.perturbation.gram import WIDE, positive_solved

Array = NDArray[Any]
#: Strata of up to so many pairs are drawn without replacement.
_LISTED = 20_000
#: So many are as good as infinitely many: no run draws a share of them.
_MANY = 2**60


class CoalitionScores:
    """Scores of coalitions, each evaluated once.

    Parameters
    ----------
    evaluate
        Gives the scores of coalitions (n, segments) bool, in order.
    """

    def __init__(self, evaluate: Callable[[Array], Iterator[float]]) -> None:
        self._evaluate = evaluate
        self._scores: dict[bytes, float] = {}

    def of(self, present: Array) -> Array:
        """Scores of coalitions (n, segments); those not seen before are evaluated."""
        keys = [row.tobytes() for row in np.packbits(present, axis=1)]
        row_of = {key: at for at, key in enumerate(keys) if key not in self._scores}
        if row_of:
            self._scores |= zip(row_of, self._evaluate(present[list(row_of.values())]), strict=True)
        return np.array([self._scores[key] for key in keys])


@dataclass(frozen=True)
class Design:
    """Which coalitions are evaluated, and what each stands for.

    Attributes
    ----------
    present
        (n, segments) bool: nothing, everything, then coalitions, each followed by its complement.
    weight
        (n - 2,) kernel weight that each coalition stands for.
    stratum, undrawn
        (pairs,) the smaller coalition's size, and the share of that size's pairs that weren't drawn (the finite population
        correction).
    complete
        Whether all coalitions are there, in the order of their numbers in binary.
    drawn
        Pairs of each size, from 1 up.
    """

    present: Array
    weight: Array
    stratum: Array
    undrawn: Array
    complete: bool = False
    drawn: tuple[int, ...] = ()

    def exact(self, scores: Array) -> tuple[Array, Array]:
        """Shapley values by their definition, from the scores of all coalitions; they have no error."""
        count = self.present.shape[1]
        numbers, sizes = np.arange(len(scores)), self.present.sum(axis=1)
        share = np.array([1 / (count * math.comb(count - 1, size)) for size in range(count)])
        values = np.empty(count)
        for segment in range(count):
            without = numbers[~self.present[:, segment]]
            values[segment] = share[sizes[without]] @ (scores[without | 1 << segment] - scores[without])
        return values, np.zeros(count)

    def fit(self, scores: Array) -> tuple[Array, Array | None]:
        """Weighted least squares under the constraint that the values sum to what everything adds to nothing.

        Returns
        -------
        tuple
            Values, and their standard errors from how much pairs of one size differ, see
            :mod:`analyzer.perturbation.fit_errors`; None where too few pairs leave nothing to estimate them from.
        """
        count, pairs = self.present.shape[1], len(self.stratum)
        change = scores[1] - scores[0]
        even = np.full(count, change / count)
        first = self.present[2::2]
        # a coalition and its complement are opposites about half of everything: together they are one equation
        x = first - first.mean(axis=1, keepdims=True)
        y = (scores[2::2] - scores[3::2] + change) / 2 - first @ even
        weight = 2 * self.weight[::2]
        root = np.sqrt(weight)
        solution, determined = least_squares(x * root[:, None], y * root)
        values = even + solution
        if not determined or pairs <= count - 1:
            return values, None if self.undrawn.any() or not determined else np.zeros(count)
        gram = _positive((x * weight[:, None]).T @ x)
        influence = Influence.of(gram, x, weight, y - x @ solution)
        variance = np.zeros(count)
        for size in np.unique(self.stratum):
            inside = self.stratum == size
            drawn, moved = int(inside.sum()), influence.moved(inside)
            deviation = moved - (moved.mean(axis=0) if drawn > 1 else 0.0)
            variance += self.undrawn[inside][0] * drawn / max(drawn - 1, 1) * (deviation**2).sum(axis=0)
        return values, widened(variance, influence.basis, self.undrawn)


def least_squares(x: Array, y: Array) -> tuple[Array, bool]:
    """The shortest least-squares solution where the columns of ``x`` sum to 0 in every row, and whether there is no other.

    The solution's elements sum to 0. Of many columns the normal equations are solved, by the smaller of their two forms.
    """
    rows, count = x.shape
    found: Array | None = None
    if min(rows, count) > WIDE and rows >= count - 1:
        found = positive_solved(_positive(x.T @ x), x.T @ y)
    elif min(rows, count) > WIDE:
        dual = positive_solved(x @ x.T, y)
        found = None if dual is None else np.asarray(x.T @ dual)
    if found is not None:
        return found, rows >= count - 1
    solution, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
    return np.asarray(solution), bool(rank == count - 1)


def _positive(products: Array) -> Array:
    """A matrix of rank n - 1 whose kernel is the vector of ones, made one of full rank that is the same beside it."""
    count = len(products)
    return np.asarray(products + np.trace(products) / count / count)


def design_of(count: int, samples: int, seed: int, full: Design | None = None) -> Design:
    """All coalitions where they fit the samples, else pairs stratified by size, all of a size where they fit.

    A smaller design's pairs are the first ones drawn of each size: with ``full``, all of them are in that larger one.
    """
    if count < 60 and 2**count <= samples:
        present = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return Design(present.astype(bool), np.zeros(0), np.zeros(0, int), np.zeros(0), complete=True)
    rng = np.random.default_rng(seed)
    sizes = np.arange(1, count // 2 + 1)
    number = [_pairs(count, int(size)) for size in sizes]
    mass = np.array([(count - 1) / (size * (count - size)) * (1 if 2 * size == count else 2) for size in sizes])
    drawn = _allotted(mass, number, (samples - 2) // 2, rng)
    if full is not None and not full.complete:
        drawn = [min(pairs, most) for pairs, most in zip(drawn, full.drawn, strict=True)]
    rows, weight, stratum, undrawn = [np.zeros((1, count), bool), np.ones((1, count), bool)], [], [], []
    for size, available, share, pairs in zip(sizes, number, mass, drawn, strict=True):
        if pairs:
            some = _coalitions(count, int(size), available, int(pairs), np.random.default_rng([seed, int(size)]))
            rows.append(np.stack([some, ~some], axis=1).reshape(-1, count))
            weight.append(np.full(2 * pairs, share / (2 * pairs)))
            stratum.append(np.full(pairs, size))
            undrawn.append(np.full(pairs, 1 - pairs / available))
    return Design(
        np.concatenate(rows),
        _concatenated(weight),
        _concatenated(stratum),
        _concatenated(undrawn),
        drawn=tuple(int(pairs) for pairs in drawn),
    )


def _pairs(count: int, size: int) -> int:
    """How many pairs of coalitions of a size there are; beyond :data:`_MANY` just that many."""
    digits = (math.lgamma(count + 1) - math.lgamma(size + 1) - math.lgamma(count - size + 1)) / math.log(2)
    if digits > math.log2(_MANY):
        return _MANY
    return math.comb(count, size) // (2 if 2 * size == count else 1)


def _concatenated(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.zeros(0)


def _allotted(mass: Array, number: list[int], pairs: int, rng: np.random.Generator) -> list[int]:
    """Pairs per size in proportion to the kernel's mass; sizes that would get all of theirs get exactly these."""
    found, open_ = [0] * len(mass), list(range(len(mass)))
    while True:
        share = pairs / mass[open_].sum() if open_ else 0.0
        exhausted = [at for at in open_ if mass[at] * share >= number[at]]
        if not exhausted:
            break
        for at in exhausted:
            found[at], pairs = number[at], pairs - number[at]
            open_.remove(at)
    edges = np.floor(np.append(0, np.cumsum(mass[open_] * share)) + rng.random()).astype(int)  # systematic sampling
    for at, low, high in zip(open_, edges, edges[1:], strict=False):
        found[at] = min(int(high - low), number[at])
    return found


def _coalitions(count: int, size: int, available: int, wanted: int, rng: np.random.Generator) -> Array:
    """Coalitions of a size, one of each complementary pair, as (wanted, count) bool."""
    half = 2 * size == count  # then the first segment is always in
    rows = np.zeros((wanted, count), bool)
    if max(available, wanted) > _LISTED and wanted < available:
        members = np.argpartition(rng.random((wanted, count)), size - 1, axis=1)[:, :size]
        rows[np.arange(wanted)[:, None], members] = True
        return np.where(rows[:, :1] | (not half), rows, ~rows)
    listed = itertools.combinations(range(1, count), size - 1) if half else itertools.combinations(range(count), size)
    chosen = np.array(list(listed)).reshape(available, size - half)[np.sort(rng.permutation(available)[:wanted])]
    rows[np.arange(wanted)[:, None], chosen] = True
    rows[:, 0] |= half
    return rows
