"""LIME by noise: a local linear fit of the score to noisy copies of the input, as textbooks introduce it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from analyzer.errors import UsageError
from analyzer.executor.batched_runs import Rows, rows_of
from analyzer.explanation import Result
from analyzer.methods.parameters import MOST, NOT_NEGATIVE, POSITIVE, Bounds
from analyzer.methods.registry import method
from analyzer.perturbation.evaluator import Array, Evaluator, one_by_one
from analyzer.perturbation.gram import solved

#: The most numbers of noise that are held at once.
_MOST = 2**28
#: A fit that explains less of the scores than this is worth a note.
_POOR = 0.5


def _continuous(evaluator: Evaluator) -> tuple[str, ...]:
    """The changed inputs that can be noisy.

    Raises
    ------
    UsageError
        ``method.unsuitable`` where all of them hold whole numbers.
    """
    names = tuple(name for name in evaluator.changed if evaluator.inputs[name].dtype.kind == "f")
    if not names:
        what = f"input {evaluator.perturbed!r} holds whole numbers, which can't be noisy"
        raise UsageError("method.unsuitable", what, "use lime")
    return names


@method(
    "lime-noise", "perturbation", quick={"samples": 60}, headline=("samples", "noise"), needs="runtime",
    modalities=("table",), fits=lambda static: static.evaluator.changing(*_continuous(static.evaluator)).require_batch(),
    source="Ribeiro, Singh, Guestrin 2016, Why should I trust you?, section 3, with noise in place of removed features; "
    "Garreau, von Luxburg 2020, Explaining the explainer, on Gaussian copies",
)  # fmt: skip
def lime_noise(
    evaluator: Evaluator,
    *,
    samples: Annotated[
        int, "noisy copies, each a model evaluation, at least 2; in pairs of opposite noise", Bounds(2, MOST)
    ] = 1000,
    noise: Annotated[
        float,
        "standard deviation of the noise as a fraction of max - min of each input of each sample, above 0",
        POSITIVE,
    ] = 0.1,
    alpha: Annotated[float, "ridge penalty of the fit, at least 0", NOT_NEGATIVE] = 0.0,
    multiply_by_inputs: Annotated[bool, "multiply the weights by the input; off gives the weights"] = True,
) -> Result:
    """Weights w of a linear model fitted to the score around the input, times the input: r = w x.

    Notes
    -----
    Copies x + e and x - e come in pairs, and w is fitted to half the difference of their scores, the least-squares solution of
    ``sum ((f(x + e) - f(x - e)) / 2 - w e)^2 + alpha sigma^2 w^2``. So the fit is exact for every function up to degree two,
    where w is the gradient, once there are as many pairs as elements. The record's ``r2`` says how much of the scores of all
    copies the linear model explains.
    """
    noisy = _NoisyInputs.of(evaluator, noise)
    pairs, size = samples // 2, sum(noisy.sizes)
    if pairs * size > _MOST:
        raise UsageError(
            "limit.memory",
            f"{pairs} noisy copies of {size} elements don't fit into memory",
            "lower samples, or use lime",
        )
    directions = np.random.default_rng(evaluator.seed).standard_normal((pairs, size), np.float32)
    maps: dict[str, list[Array]] = {name: [] for name in noisy.names}
    r2 = []
    for sample in range(evaluator.batch):
        scores = np.fromiter(noisy.scores(sample, directions), np.float64).reshape(pairs, 2)
        weights, explained = _fit(directions, scores, float(evaluator.score[sample]), alpha)
        for name, part in noisy.apart(sample, weights).items():
            x = evaluator.inputs[name][sample]
            maps[name].append(part * x if multiply_by_inputs else part)
        r2.append(explained)
        evaluator.advance((sample + 1) * 2 * pairs, evaluator.batch * 2 * pairs)
    record = {"r2": r2, "evaluations": 2 * pairs * evaluator.batch}
    found = {name: np.stack(each).astype(np.float32) for name, each in maps.items()}
    return Result(found, notes=_notes(pairs, size, min(r2)), record=record)


@dataclass(frozen=True)
class _NoisyInputs:
    """The floating-point inputs that are changed, and the amplitude of their noise.

    Attributes
    ----------
    noise
        As a fraction of max - min of each input of each sample; of all of them together where one is a single number.
    """

    evaluator: Evaluator
    names: tuple[str, ...]
    noise: float

    @classmethod
    def of(cls, evaluator: Evaluator, noise: float) -> _NoisyInputs:
        """Of an evaluator's changed inputs.

        Raises
        ------
        UsageError
            ``method.unsuitable`` where all of them hold whole numbers.
        """
        return cls(evaluator, _continuous(evaluator), noise)

    @property
    def sizes(self) -> list[int]:
        """Elements of each input."""
        return [self.evaluator.inputs[name][0].size for name in self.names]

    def scores(self, sample: int, directions: Array) -> Iterator[float]:
        """Scores of a sample's noisy copies, each followed by that of the opposite noise."""

        def copies(rows: Rows) -> dict[str, Array]:
            steps = directions[rows["at"] // 2] * np.where(rows["at"] % 2, -1.0, 1.0)[:, None]
            return {
                name: (x + sigma * step.reshape(-1, *x.shape)).astype(x.dtype)
                for (name, x, sigma), step in zip(self._each(sample), self._split(steps), strict=True)
            }

        return one_by_one(self.evaluator.hosted(sample, rows_of(at=np.arange(2 * len(directions))), copies))

    def apart(self, sample: int, weights: Array) -> dict[str, Array]:
        """Weights of unit noise as weights of each input's elements."""
        parts = zip(self._each(sample), self._split(weights[None]), strict=True)
        return {name: part.reshape(x.shape) / sigma for (name, x, sigma), part in parts}

    def _each(self, sample: int) -> list[tuple[str, Array, float]]:
        """Name, values and amplitude of every input of a sample."""
        values = [self.evaluator.inputs[name][sample].astype(np.float64) for name in self.names]
        together = float(np.ptp(np.concatenate([value.ravel() for value in values])))
        extents = [(float(np.ptp(value)) if value.size > 1 else together) or 1.0 for value in values]
        kinds = [self.evaluator.inputs[name].dtype for name in self.names]
        return [
            (name, value.astype(kind), self.noise * extent)
            for name, value, kind, extent in zip(self.names, values, kinds, extents, strict=True)
        ]

    def _split(self, rows: Array) -> list[Array]:
        """Rows of all inputs' elements, by input."""
        return np.split(rows, np.cumsum(self.sizes)[:-1], axis=1)


def _fit(directions: Array, scores: Array, score: float, alpha: float) -> tuple[Array, float]:
    """Weights of unit noise (elements,), and how much of the scores of all copies they explain.

    Parameters
    ----------
    scores
        (pairs, 2) of the copies with one and with the opposite noise.
    score
        Of the unchanged input.
    """
    change = (scores[:, 0] - scores[:, 1]) / 2
    pairs, size = directions.shape
    if pairs < size:  # the shortest solution, by products of copies
        dual = solved((directions @ directions.T).astype(np.float64) + alpha * np.eye(pairs), change)
        weights = directions.T @ dual
    else:
        wide = directions.astype(np.float64)
        weights = solved(wide.T @ wide + alpha * np.eye(size), wide.T @ change)
    slopes = directions @ weights
    left = ((scores - score - np.stack([slopes, -slopes], axis=1)) ** 2).sum()
    total = ((scores - scores.mean()) ** 2).sum()
    return weights, float(1 - left / total) if total > 0 else float(left == 0)


def _notes(pairs: int, size: int, r2: float) -> list[str]:
    notes = []
    if pairs < size:
        notes.append(
            f"{pairs} pairs of copies for {size} elements: the weights are the smallest ones that fit; raise samples, or use "
            "lime, whose features are segments"
        )
    if r2 < _POOR:
        notes.append(f"the linear model explains {max(r2, 0):.0%} of the scores (R²): lower noise")
    return notes
