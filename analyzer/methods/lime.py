"""LIME: a sparse linear model of the score over segments that are there or replaced."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.occlusion import Fill
from analyzer.methods.registry import method
from analyzer.methods.sampling import Field


@method(
    "lime", "perturbation", needs="runtime",
    source="Ribeiro, Singh, Guestrin 2016, Why should I trust you?, algorithm 1 (K-Lasso) with an exponential kernel",
)  # fmt: skip
def lime(
    context: Context,
    *,
    samples: Annotated[int, "number of perturbed copies, at least 2"] = 1000,
    segments: Annotated[Any, "count, slic, grid:8, or an integer mask; None: suits the input"] = None,
    features: Annotated[int | None, "largest number of segments with a weight (K of K-Lasso); None: all"] = None,
    kernel_width: Annotated[float, "width of the exponential kernel on the cosine distance, above 0"] = 0.25,
    alpha: Annotated[float, "ridge penalty of the final fit, at least 0"] = 1.0,
    fill: Annotated[Fill, "what replaces a segment: a number, mean, blur or noise"] = "mean",
) -> Result:
    """Weights of a local linear model of the score over superpixels, table columns, words or pieces of a series."""
    if samples < 2 or kernel_width <= 0 or alpha < 0 or (features is not None and features < 1):
        raise UsageError(
            "params.invalid", "lime needs samples >= 2, kernel_width > 0, alpha >= 0, features >= 1", "see the defaults"
        )
    field = Field.of(context, segments)
    value = field.values
    if isinstance(fill, str) and fill == "mean" and (field.embedded or value.ndim < 3 or value.dtype.kind in "iu"):
        fill = 0.0
    replacement = field.replaced(fill)
    maps: list[Array] = []
    notes: list[str] = []
    fits: list[float] = []
    counts: list[int] = []
    for sample, x in enumerate(value):
        ids, said = field.segments(sample, segments)
        notes += [note for note in said if note not in notes]
        count = int(ids.max()) + 1
        kept = np.random.default_rng(context.seed).integers(0, 2, (samples, count)).astype(bool)  # as if alone
        kept[0] = True  # the unchanged input anchors the fit
        copies = (np.where(row[ids], x, replacement[sample]) for row in kept)
        scores = np.empty(samples)
        for done, score in enumerate(field.scores(sample, copies)):
            scores[done] = score
            context.advance(sample * samples + done + 1, samples * len(value))
        weights, r2 = fit(kept, scores, kernel_width, alpha, features)
        fits.append(r2)
        counts.append(count)
        maps.append(weights[ids])
    record = {"r2": fits, "segments": counts, "evaluations": samples * len(value)}
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
    from sklearn.linear_model import Ridge, lars_path

    count = kept.shape[1]
    similarity = np.sqrt(kept.sum(axis=1) / count)  # cosine of a 0/1 row with the row of ones
    kernel = np.sqrt(np.exp(-((1 - similarity) ** 2) / width**2))
    z = kept.astype(np.float64)
    chosen = np.arange(count)
    if features is not None and features < count:
        root = np.sqrt(kernel)[:, None]
        centred = (z - np.average(z, axis=0, weights=kernel)) * root
        target = (scores - np.average(scores, weights=kernel)) * root[:, 0]
        _, _, path = lars_path(centred, target, method="lasso")
        support = [np.flatnonzero(step) for step in path.T]
        chosen = next((s for s in reversed(support) if 0 < len(s) <= features), np.arange(0))
    weights = np.zeros(count)
    if len(chosen) == 0:
        return weights, 0.0
    model = Ridge(alpha=alpha).fit(z[:, chosen], scores, sample_weight=kernel)
    weights[chosen] = model.coef_
    return weights, float(model.score(z[:, chosen], scores, sample_weight=kernel))
