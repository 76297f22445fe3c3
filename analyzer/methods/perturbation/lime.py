"""LIME: a sparse linear model of the score over segments that are there or replaced."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.executor.batched_runs import rows_of
from analyzer.explanation import Result
from analyzer.methods.registry import method
from analyzer.perturbation.budget import BUDGET, WANTED, Budget, Tally, relative
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.features import FeatureSpace
from analyzer.perturbation.replacement import BACKGROUND, FILLING, Fill, cost_of, notes_of


@method(
    "lime", "perturbation", quick={"samples": 40}, headline=("samples",), needs="runtime",
    source="Ribeiro, Singh, Guestrin 2016, Why should I trust you?, algorithm 1 (K-Lasso) with an exponential kernel",
)  # fmt: skip
def lime(
    evaluator: Evaluator,
    *,
    samples: Annotated[
        int, "number of perturbed copies, each a model evaluation (or one per background sample), at least 2"
    ] = 1000,
    segments: Annotated[Any, "count, slic, grid:8, or an integer mask; None: suits the input"] = None,
    features: Annotated[int | None, "largest number of segments with a weight (K of K-Lasso); None: all"] = None,
    kernel_width: Annotated[float, "width of the exponential kernel on the cosine distance, above 0"] = 0.25,
    alpha: Annotated[float, "ridge penalty of the final fit, at least 0"] = 1.0,
    fill: Annotated[Fill, f"what replaces a segment: {FILLING}"] = "mean",
    background: Annotated[int, BACKGROUND] = 100,
    budget: Annotated[int | None, BUDGET] = None,
    standard_error: Annotated[float | None, WANTED] = None,
) -> Result:
    """Weights of a local linear model of the score over superpixels, table columns, words or pieces of a series.

    Notes
    -----
    The record's ``standard_error`` has one number per segment: how much the weight differs between draws of the copies,
    by the sandwich estimator of a weighted ridge fit. It is None where ``features`` leaves segments out, for their choice
    has no standard error, and where the copies are no more than the segments.
    """
    if samples < 2 or kernel_width <= 0 or alpha < 0 or (features is not None and features < 1):
        raise UsageError(
            "params.invalid", "lime needs samples >= 2, kernel_width > 0, alpha >= 0, features >= 1", "see the defaults"
        )
    field = FeatureSpace.of(evaluator, segments)
    value = field.values
    if isinstance(fill, str) and fill == "mean" and (field.embedded or value.ndim < 3 or value.dtype.kind in "iu"):
        fill = 0.0
    replacement = field.replaced(fill, background)
    cost = cost_of(replacement)
    spend = Budget.of(samples, budget, standard_error, cost=cost)
    if standard_error is not None and features is not None:
        raise UsageError(
            "params.invalid", "a choice of features has no standard error", "give standard_error or features, not both"
        )
    tally = Tally(spend.draws * cost * len(value), evaluator.advance)
    maps: list[Array] = []
    notes: list[str] = notes_of(replacement)
    fits: list[float] = []
    counts: list[int] = []
    errors: list[Array | None] = []
    stopped: list[str] = []
    shares: list[float | None] = []
    for sample in range(len(value)):
        ids, said = field.segments(sample, segments)
        notes += [note for note in said if note not in notes]
        count = int(ids.max()) + 1
        kept = np.random.default_rng(evaluator.seed).integers(0, 2, (spend.draws, count)).astype(bool)  # as if alone
        kept[0] = True  # the unchanged input anchors the fit
        scores, done = np.empty(spend.draws), 0
        for look in spend.looks(4 * count):
            part = rows_of(kept=kept[done:look])
            for score in field.kept_scores(sample, ids, part, replacement[sample]):
                scores[done] = score
                done += 1
                tally.add(cost)
            weights, r2 = fit(kept[:done], scores[:done], kernel_width, alpha, features)
            error = spread(kept[:done], scores[:done], kernel_width, alpha, weights) if features is None else None
            if spend.enough(weights, error):
                break
        tally.spare((spend.draws - done) * cost)
        fits.append(r2)
        counts.append(count)
        errors.append(error)
        stopped.append(spend.stopped(done, weights, error))
        shares.append(None if error is None else relative(weights, error))
        maps.append(weights[ids])
    record = {
        "r2": fits,
        "segments": counts,
        "evaluations": tally.done,
        "standard_error": [None if error is None else [float(e) for e in error] for error in errors],
        "relative_error": shares,
        "stopped": stopped,
    }
    return field.result(maps, notes=notes, record=record)


def fit(kept: Array, scores: Array, width: float, alpha: float, features: int | None) -> tuple[Array, float]:
    """Weighted ridge on the K segments that the Lasso path takes up first.

    Parameters
    ----------
    kept
        (samples, segments) bool.
    scores
        (samples,).

    Returns
    -------
    tuple
        Weight per segment (0 for those left out), and the fit's weighted R².
    """
    count = kept.shape[1]
    kernel = _kernel(kept, width)
    z = kept.astype(np.float64)
    chosen = np.arange(count)
    if features is not None and features < count:
        from sklearn.linear_model import lars_path

        root = np.sqrt(kernel)[:, None]
        centred = (z - np.average(z, axis=0, weights=kernel)) * root
        target = (scores - np.average(scores, weights=kernel)) * root[:, 0]
        _, _, path = lars_path(centred, target, method="lasso")
        support = [np.flatnonzero(step) for step in path.T]
        chosen = next((s for s in reversed(support) if 0 < len(s) <= features), np.arange(0))
    weights = np.zeros(count)
    if len(chosen) == 0:
        return weights, 0.0
    z, mean = z[:, chosen], np.average(scores, weights=kernel)
    centred = z - np.average(z, axis=0, weights=kernel)
    pulled = centred.T * kernel  # scikit-learn's Ridge makes a square matrix of all samples here
    weights[chosen] = np.linalg.lstsq(pulled @ centred + alpha * np.eye(len(chosen)), pulled @ (scores - mean))[0]
    left, there = (kernel @ part**2 for part in (scores - mean - centred @ weights[chosen], scores - mean))
    return weights, float(1 - left / there) if there > 0 else float(left == 0)


def spread(kept: Array, scores: Array, width: float, alpha: float, weights: Array) -> Array | None:
    """Standard errors of all segments' weights under new draws of the copies; None where these are too few.

    The sandwich inv(A) M inv(A) with A = Z'KZ + alpha and M = sum of (k e z)(k e z)' over the copies but the unchanged
    one, which is no draw; times n / (n - segments - 1) (MacKinnon, White 1985, HC1).
    """
    number, count = kept.shape
    if number <= count + 1:
        return None
    kernel = _kernel(kept, width)
    z = kept - np.average(kept, axis=0, weights=kernel)
    left = scores - np.average(scores, weights=kernel) - z @ weights
    pull = (z * (kernel * left)[:, None])[1:]
    bread = np.linalg.pinv((z.T * kernel) @ z + alpha * np.eye(count))
    variance = ((pull @ bread) ** 2).sum(axis=0) * number / (number - count - 1)
    return np.asarray(np.sqrt(variance))


def _kernel(kept: Array, width: float) -> Array:
    """Weight of each copy: exponential in the cosine distance of a 0/1 row from the row of ones, its root as in LIME."""
    similarity = np.sqrt(kept.sum(axis=1) / kept.shape[1])
    return np.asarray(np.sqrt(np.exp(-((1 - similarity) ** 2) / width**2)))
