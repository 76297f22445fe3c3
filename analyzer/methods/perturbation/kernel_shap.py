"""Kernel SHAP: Shapley values of segments, exact where all coalitions fit the budget, else from paired samples."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.executor.batched_runs import rows_of
from analyzer.explanation import Result
from analyzer.methods.registry import method
from analyzer.perturbation.budget import BUDGET, WANTED, Budget, Tally, relative
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.features import FeatureSpace
from analyzer.perturbation.replacement import BACKGROUND, FILLING, Replacement, cost_of, notes_of

#: Strata of up to so many pairs are drawn without replacement.
_LISTED = 20_000


@method(
    "kernel-shap", "perturbation", quick={"samples": 40}, headline=("samples",), needs="runtime",
    source="Lundberg, Lee 2017, A unified approach to interpreting model predictions, theorem 2; pairs and errors as in "
    "Covert, Lee 2021, Improving KernelSHAP",
)  # fmt: skip
def kernel_shap(
    evaluator: Evaluator,
    *,
    samples: Annotated[
        int, "coalitions, each a model evaluation (or one per background sample), at least 2; 2**segments make it exact"
    ] = 1024,
    segments: Annotated[
        Any, "count, slic, grid:8, or an integer mask (of tokens or of their embedding); None: suits the input"
    ] = None,
    baseline: Annotated[Any, f"what replaces a segment: {FILLING}"] = 0.0,
    background: Annotated[int, BACKGROUND] = 100,
    budget: Annotated[int | None, BUDGET] = None,
    standard_error: Annotated[float | None, WANTED] = None,
) -> Result:
    """Shapley values of superpixels, columns, words or pieces of a series; every element carries its segment's.

    Notes
    -----
    The segments' values sum to the score less the baseline's score, as the record's ``sum`` and ``baseline_score`` show;
    its ``standard_error`` has one number per segment. With background samples these are the interventional Shapley
    values: what a coalition leaves out takes their values, and its score is the mean over them.
    """
    if samples < 2:
        raise UsageError("params.invalid", f"samples must be at least 2, not {samples}", "some hundreds are usual")
    field = FeatureSpace.of(evaluator, segments)
    gone = field.replaced(baseline, background)
    cost = cost_of(gone)
    spend = Budget.of(samples, budget, standard_error, cost=cost)
    cuts = [field.segments(sample, segments) for sample in range(len(field.values))]
    counts = [int(ids.max()) + 1 for ids, _ in cuts]
    wholes = [_design(count, spend.draws, evaluator.seed) for count in counts]
    tally = Tally(sum(len(whole.kept) for whole in wholes) * cost, evaluator.advance)
    maps, sums, starts, errors, exact, stopped, shares = [], [], [], [], [], [], []
    for sample, ((ids, _), whole) in enumerate(zip(cuts, wholes, strict=True)):
        known = Known(functools.partial(_run, field, sample, ids, gone[sample]))
        for draws in spend.looks(8 * counts[sample]):
            design = whole if draws == spend.draws else _design(counts[sample], draws, evaluator.seed, whole)
            scores = known.scores(design.kept, lambda: tally.add(cost))
            values, error = design.exact(scores) if design.complete else design.fit(scores)
            if spend.enough(values, error):
                break
        tally.spare((len(whole.kept) - known.runs) * cost)
        maps.append(values[ids])
        sums.append(float(values.sum()))
        starts.append(float(scores[0]))
        errors.append(None if error is None else [float(e) for e in error])
        exact.append(design.complete)
        stopped.append(spend.stopped(draws, values, error))
        shares.append(None if error is None else relative(values, error))
    notes = [*notes_of(gone), *dict.fromkeys(note for _, said in cuts for note in said)]
    if None in errors:
        notes.append(
            "fewer pairs of coalitions than segments: the values are the smallest ones that fit; raise samples"
        )
    record = {
        "segments": counts,
        "evaluations": tally.done,
        "exact": exact,
        "standard_error": errors,
        "relative_error": shares,
        "stopped": stopped,
        "sum": sums,
        "baseline_score": starts,
    }
    return field.result(maps, notes=notes, record=record)


def _run(field: FeatureSpace, sample: int, ids: Array, gone: Replacement, kept: Array) -> Iterator[float]:
    return field.kept_scores(sample, ids, rows_of(kept=kept), gone)


class Known:
    """Scores of coalitions, each run once."""

    def __init__(self, run: Callable[[Array], Iterator[float]]) -> None:
        self._run = run
        self._found: dict[bytes, float] = {}
        self.runs = 0

    def scores(self, kept: Array, advance: Callable[[], None]) -> Array:
        """Scores of coalitions (n, segments); ``advance`` is called for each that had to be run."""
        names = [row.tobytes() for row in np.packbits(kept, axis=1)]
        new = list(dict.fromkeys(name for name in names if name not in self._found))
        if new:
            where = {name: at for at, name in enumerate(names)}
            for name, score in zip(new, self._run(kept[[where[name] for name in new]]), strict=True):
                self._found[name] = score
                self.runs += 1
                advance()
        return np.array([self._found[name] for name in names])


@dataclass(frozen=True)
class Design:
    """Which coalitions are evaluated, and what each stands for.

    Attributes
    ----------
    kept
        (n, segments) bool: nothing, everything, then coalitions, each followed by its complement.
    weight
        (n - 2,) kernel weight that each coalition stands for.
    stratum, missed
        (pairs,) the smaller coalition's size, and the share of that size's pairs that were not drawn.
    complete
        Whether all coalitions are there, in the order of their numbers in binary.
    drawn
        Pairs of each size, from 1 up.
    """

    kept: Array
    weight: Array
    stratum: Array
    missed: Array
    complete: bool = False
    drawn: tuple[int, ...] = ()

    def exact(self, scores: Array) -> tuple[Array, Array]:
        """Shapley values by their definition, from the scores of all coalitions; they have no error."""
        count = self.kept.shape[1]
        numbers, sizes = np.arange(len(scores)), self.kept.sum(axis=1)
        share = np.array([1 / (count * math.comb(count - 1, size)) for size in range(count)])
        values = np.empty(count)
        for segment in range(count):
            without = numbers[~self.kept[:, segment]]
            values[segment] = share[sizes[without]] @ (scores[without | 1 << segment] - scores[without])
        return values, np.zeros(count)

    def fit(self, scores: Array) -> tuple[Array, Array | None]:
        """Weighted least squares under the constraint that the values sum to what everything adds to nothing.

        Returns
        -------
        tuple
            Values, and their standard errors from how much pairs of one size differ; None where too few pairs leave
            nothing to estimate them from.
        """
        count = self.kept.shape[1]
        change = scores[1] - scores[0]
        even = np.full(count, change / count)
        basis = np.linalg.qr(np.hstack([np.ones((count, 1)), np.eye(count)[:, 1:]]))[0][:, 1:]  # what sums to 0
        z = self.kept[2:].astype(np.float64)
        x, y, root = z @ basis, scores[2:] - scores[0] - z @ even, np.sqrt(self.weight)
        solution, _, rank, _ = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)
        values = even + basis @ solution
        pairs = len(self.stratum)
        if rank < count - 1 or pairs <= count - 1:
            return values, None if self.missed.any() or rank < count - 1 else np.zeros(count)
        pull = (x * (self.weight * (y - x @ solution))[:, None]).reshape(pairs, 2, -1).sum(axis=1)
        influence = pull @ np.linalg.inv(x.T @ (x * self.weight[:, None])) @ basis.T
        variance = np.zeros(count)
        for size in np.unique(self.stratum):
            inside = self.stratum == size
            drawn = int(inside.sum())
            about = influence[inside] - (influence[inside].mean(axis=0) if drawn > 1 else 0.0)
            variance += self.missed[inside][0] * drawn / max(drawn - 1, 1) * (about**2).sum(axis=0)
        return values, np.sqrt(variance * pairs / (pairs - count + 1))


def _design(count: int, samples: int, seed: int, whole: Design | None = None) -> Design:
    """All coalitions where they fit the budget, else pairs stratified by size, whole sizes where they fit.

    A smaller design's pairs are the first ones drawn of each size: with ``whole``, all of them are in that larger one.
    """
    if count < 60 and 2**count <= samples:
        kept = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return Design(kept.astype(bool), np.zeros(0), np.zeros(0, int), np.zeros(0), complete=True)
    rng = np.random.default_rng(seed)
    sizes = np.arange(1, count // 2 + 1)
    number = [math.comb(count, int(size)) // (2 if 2 * size == count else 1) for size in sizes]
    mass = np.array([(count - 1) / (size * (count - size)) * (1 if 2 * size == count else 2) for size in sizes])
    drawn = _allotted(mass, number, (samples - 2) // 2, rng)
    if whole is not None and not whole.complete:
        drawn = [min(pairs, most) for pairs, most in zip(drawn, whole.drawn, strict=True)]
    rows, weight, stratum, missed = [np.zeros((1, count), bool), np.ones((1, count), bool)], [], [], []
    for size, there, share, pairs in zip(sizes, number, mass, drawn, strict=True):
        if pairs:
            some = _coalitions(count, int(size), there, int(pairs), np.random.default_rng([seed, int(size)]))
            rows.append(np.stack([some, ~some], axis=1).reshape(-1, count))
            weight.append(np.full(2 * pairs, share / (2 * pairs)))
            stratum.append(np.full(pairs, size))
            missed.append(np.full(pairs, 1 - pairs / there))
    return Design(
        np.concatenate(rows),
        _joined(weight),
        _joined(stratum),
        _joined(missed),
        drawn=tuple(int(pairs) for pairs in drawn),
    )


def _joined(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.zeros(0)


def _allotted(mass: Array, number: list[int], pairs: int, rng: np.random.Generator) -> list[int]:
    """Pairs per size in proportion to the kernel's mass; sizes that would get all of theirs are taken whole."""
    found, open_ = [0] * len(mass), list(range(len(mass)))
    while True:
        share = pairs / mass[open_].sum() if open_ else 0.0
        whole = [at for at in open_ if mass[at] * share >= number[at]]
        if not whole:
            break
        for at in whole:
            found[at], pairs = number[at], pairs - number[at]
            open_.remove(at)
    edges = np.floor(np.append(0, np.cumsum(mass[open_] * share)) + rng.random()).astype(int)  # systematic sampling
    for at, low, high in zip(open_, edges, edges[1:], strict=False):
        found[at] = min(int(high - low), number[at])
    return found


def _coalitions(count: int, size: int, there: int, wanted: int, rng: np.random.Generator) -> Array:
    """Coalitions of a size, one of each complementary pair, as (wanted, count) bool."""
    half = 2 * size == count  # then the first segment is always in
    rows = np.zeros((wanted, count), bool)
    if max(there, wanted) > _LISTED and wanted < there:
        members = np.argsort(rng.random((wanted, count)), axis=1)[:, :size]
        rows[np.arange(wanted)[:, None], members] = True
        return np.where(rows[:, :1] | (not half), rows, ~rows)
    listed = itertools.combinations(range(1, count), size - 1) if half else itertools.combinations(range(count), size)
    chosen = np.array(list(listed)).reshape(there, size - half)[np.sort(rng.permutation(there)[:wanted])]
    rows[np.arange(wanted)[:, None], chosen] = True
    rows[:, 0] |= half
    return rows
