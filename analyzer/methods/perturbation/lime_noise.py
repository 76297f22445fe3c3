"""LIME by noise: a local linear fit of the score to noisy copies of the input, as textbooks introduce it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np

from analyzer.errors import UnsupportedError, UsageError
from analyzer.explanation import Result
from analyzer.methods.registry import method
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.features import FeatureSpace
from analyzer.perturbation.gram import solved

#: The most numbers of noise that are held at once.
_MOST = 2**28
#: A fit that explains less of the scores than this is worth a note.
_POOR = 0.5


@method(
    "lime-noise", "perturbation", quick={"samples": 60}, headline=("samples", "noise"), needs="runtime",
    modalities=("table",),
    source="Ribeiro, Singh, Guestrin 2016, Why should I trust you?, section 3, with noise in place of removed features; "
    "Garreau, von Luxburg 2020, Explaining the explainer, on Gaussian copies",
)  # fmt: skip
def lime_noise(
    evaluator: Evaluator,
    *,
    samples: Annotated[int, "noisy copies, each a model evaluation, at least 2; in pairs of opposite noise"] = 1000,
    noise: Annotated[float, "standard deviation of the noise as a fraction of max - min of each sample, above 0"] = 0.1,
    alpha: Annotated[float, "ridge penalty of the fit, at least 0"] = 0.0,
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
    if samples < 2 or not noise > 0 or alpha < 0:
        raise UsageError("params.invalid", "lime-noise needs samples >= 2, noise > 0, alpha >= 0", "see the defaults")
    space = FeatureSpace.of(evaluator)
    values = space.values
    if evaluator.inputs[space.name].dtype.kind != "f":
        raise UnsupportedError(
            "method.unsuitable", f"input {space.name!r} holds whole numbers, which can't be noisy", "use lime"
        )
    pairs, size = samples // 2, values[0].size
    if pairs * size > _MOST:
        raise UsageError(
            "limit.memory",
            f"{pairs} noisy copies of {size} elements don't fit into memory",
            "lower samples, or use lime",
        )
    directions = np.random.default_rng(evaluator.seed).standard_normal((pairs, size), np.float32)
    fits = []
    for sample, x in enumerate(values):
        sigma = noise * (float(np.ptp(x)) or max(1.0, float(np.abs(x).max(initial=0))))
        scores = np.fromiter(space.scores(sample, _copies(x, sigma, directions)), np.float64).reshape(pairs, 2)
        fits.append(_fit(directions, sigma, scores, float(evaluator.score[sample]), alpha))
        evaluator.advance((sample + 1) * 2 * pairs, len(values) * 2 * pairs)
    maps = [
        weights.reshape(x.shape) * (x if multiply_by_inputs else 1)
        for (weights, _), x in zip(fits, values, strict=True)
    ]
    r2 = [found for _, found in fits]
    record = {"r2": r2, "evaluations": 2 * pairs * len(values)}
    return space.result(maps, _notes(pairs, size, min(r2)), record)


def _copies(x: Array, sigma: float, directions: Array) -> Iterator[Array]:
    """The noisy copies of one sample, each followed by that of the opposite noise."""
    for row in directions:
        step = sigma * row.reshape(x.shape).astype(np.float64)
        yield (x + step).astype(x.dtype)
        yield (x - step).astype(x.dtype)


def _fit(directions: Array, sigma: float, scores: Array, score: float, alpha: float) -> tuple[Array, float]:
    """Weights (elements,), and how much of the scores of all copies they explain.

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
    return weights / sigma, float(1 - left / total) if total > 0 else float(left == 0)


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
