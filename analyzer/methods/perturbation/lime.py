"""LIME: a sparse linear model of the score over segments that are present or replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.explanation import Result
from analyzer.methods.parameters import COUNT, MOST, NOT_NEGATIVE, POSITIVE, SHARE, Bounds
from analyzer.methods.registry import ANY_ROWS, method
from analyzer.perturbation.budget import BUDGET_HELP, STANDARD_ERROR_HELP, Budget, SequentialSampling
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.features import feature_notes
from analyzer.perturbation.fill_parameter import BACKGROUND_HELP, FILL_HELP, Fill
from analyzer.perturbation.fit_errors import Influence, widened
from analyzer.perturbation.gram import WIDE, solved
from analyzer.perturbation.text_features import features_of

#: A fit whose R² is smaller is said to be poor.
_POOR = 0.5


@method(
    "lime", "perturbation", quick={"samples": 40}, headline=("samples",), needs="runtime", modalities=ANY_ROWS,
    source="Ribeiro, Singh, Guestrin 2016, Why should I trust you?, algorithm 1 (K-Lasso) with an exponential kernel",
)  # fmt: skip
def lime(
    evaluator: Evaluator,
    *,
    samples: Annotated[
        int,
        "number of perturbed copies, each a model evaluation (or one per background sample), at least 2",
        Bounds(2, MOST),
    ] = 1000,
    segments: Annotated[
        Any, "count, slic, grid:8, words or columns (of text), or an integer mask; None: suits the input"
    ] = None,
    features: Annotated[int | None, "largest number of segments with a weight (K of K-Lasso); None: all", COUNT] = None,
    kernel_width: Annotated[float, "width of the exponential kernel on the cosine distance, above 0", POSITIVE] = 0.25,
    alpha: Annotated[float, "ridge penalty of the final fit, at least 0", NOT_NEGATIVE] = 1.0,
    fill: Annotated[Fill, f"what replaces a segment: {FILL_HELP}"] = "mean",
    background: Annotated[int, BACKGROUND_HELP, COUNT] = 100,
    budget: Annotated[int | None, BUDGET_HELP, COUNT] = None,
    standard_error: Annotated[float | None, STANDARD_ERROR_HELP, SHARE] = None,
) -> Result:
    """Weights of a local linear model of the score over superpixels, table columns, words or pieces of a series.

    Notes
    -----
    The record's ``standard_error`` has one number per segment: how much the weight differs between draws of the copies,
    by the sandwich estimator of a weighted ridge fit. It is None where ``features`` leaves segments out, for their choice
    has no standard error, and where the copies are no more than the segments.
    """
    space = features_of(evaluator, segments)
    replacements = space.replacements(fill, background, channelless=0.0)
    limits = Budget.of(samples, budget, standard_error, cost=replacements.cost)
    if standard_error is not None and features is not None:
        raise UsageError(
            "params.invalid", "a choice of features has no standard error", "give standard_error or features, not both"
        )
    surrogate = Surrogate(kernel_width, alpha, features)
    segmentations = space.segmentations(segments)
    sampling = SequentialSampling(limits, [limits.draws] * len(segmentations), evaluator.advance)
    maps, r2 = [], []
    for sample, segmentation in enumerate(segmentations):
        present = draw_present(limits.draws, segmentation.count, evaluator.seed)
        local = _LocalFit(surrogate, present, space.scorer(sample, segmentation, replacements, sampling.progress))
        maps.append(segmentation.spread(sampling.estimate(local.after, first=4 * segmentation.count)))
        r2.append(local.r2)
    counts = [segmentation.count for segmentation in segmentations]
    record = {"r2": r2, "segments": counts, **sampling.record()}
    notes = [*feature_notes(replacements, segmentations), *_poor(r2)]
    if features is None and limits.draws <= max(counts):
        few = f"{limits.draws} copies for {max(counts)} segments"
        notes.append(f"{few}: many weights fit alike, and R² says nothing; raise samples")
    errors = [estimate.errors for estimate in sampling.estimates]
    return space.with_standard_errors(space.result(maps, notes, record), segmentations, errors)


def _poor(r2: Sequence[float]) -> list[str]:
    """A note where the surrogate explains less than half of how scores vary."""
    poor = [value for value in r2 if value < _POOR]
    if not poor:
        return []
    of = f" of {len(poor)} of {len(r2)} samples" if len(r2) > 1 else ""
    return [
        f"the linear fit explains little of how the score varies (R² {min(poor):.2f}{of}): its weights hardly describe the "
        "model; more samples, fewer segments or a smaller kernel_width may help, or kernel-shap"
    ]


def draw_present(draws: int, count: int, seed: int) -> Array:
    """Which segments are present in each copy, (draws, count) bool: the same for a sample in any batch.

    The first copy is the unchanged input, which anchors the fit.
    """
    present = np.random.default_rng(seed).integers(0, 2, (draws, count)).astype(bool)
    present[0] = True
    return present


@dataclass
class _LocalFit:
    """The surrogate of one sample, on as many of its copies as are asked for.

    Attributes
    ----------
    present
        (draws, segments) bool, all copies.
    evaluate
        Gives the scores of some of them.
    r2
        Of the latest fit.
    """

    surrogate: Surrogate
    present: Array
    evaluate: Callable[[Array], Iterator[float]]
    scores: list[float] = field(default_factory=list)
    r2: float = 0.0

    def after(self, draws: int) -> tuple[Array, Array | None]:
        """Weights and their standard errors from the first so many copies."""
        self.scores.extend(self.evaluate(self.present[len(self.scores) : draws]))
        present, scores = self.present[:draws], np.array(self.scores)
        weights, self.r2 = self.surrogate.fit(present, scores)
        return weights, self.surrogate.standard_errors(present, scores, weights)


@dataclass(frozen=True)
class Surrogate:
    """A weighted ridge regression of scores on which segments are present.

    Attributes
    ----------
    width
        Of the exponential kernel that weights the copies.
    alpha
        The ridge penalty.
    features
        The most segments with a weight; None: all.
    """

    width: float
    alpha: float
    features: int | None = None

    def fit(self, present: Array, scores: Array) -> tuple[Array, float]:
        """Ridge on the K segments that the Lasso path takes up first.

        Parameters
        ----------
        present
            (samples, segments) bool.
        scores
            (samples,).

        Returns
        -------
        tuple
            Weight per segment (0 for those left out), and the fit's weighted R².
        """
        kernel, z = self._kernel(present), present.astype(np.float64)
        weights, chosen = np.zeros(z.shape[1]), self._chosen(z, scores, kernel)
        if len(chosen) == 0:
            return weights, 0.0
        z, mean = z[:, chosen], np.average(scores, weights=kernel)
        centred = z - np.average(z, axis=0, weights=kernel)
        weights[chosen] = self._ridge(centred, kernel, scores - mean)
        residual, total = (kernel @ part**2 for part in (scores - mean - centred @ weights[chosen], scores - mean))
        return weights, float(1 - residual / total) if total > 0 else float(residual == 0)

    def _ridge(self, centred: Array, kernel: Array, change: Array) -> Array:
        """The weighted ridge fit of changes of the score, by products of columns or, where these are more, of copies."""
        copies, count = centred.shape
        if count <= WIDE:
            weighted = centred.T * kernel  # scikit-learn's Ridge makes a square matrix of all samples here
            return solved(weighted @ centred + self.alpha * np.eye(count), weighted @ change)
        root = np.sqrt(kernel)
        rows, right = centred * root[:, None], change * root
        if copies < count and self.alpha > 0:
            return np.asarray(rows.T @ solved(rows @ rows.T + self.alpha * np.eye(copies), right))
        return solved(rows.T @ rows + self.alpha * np.eye(count), rows.T @ right)

    def standard_errors(self, present: Array, scores: Array, weights: Array) -> Array | None:
        """Of all segments' weights under new draws of the copies; None with chosen features or too few copies.

        The sandwich estimator of :mod:`analyzer.perturbation.fit_errors` over the copies but the unchanged one, which is no
        draw.
        """
        number, count = present.shape
        if self.features is not None or number <= count + 1:
            return None
        kernel = self._kernel(present)
        z = present - np.average(present, axis=0, weights=kernel)
        residuals = scores - np.average(scores, weights=kernel) - z @ weights
        gram = (z.T * kernel) @ z + self.alpha * np.eye(count)
        influence = Influence.of(gram, z, kernel, residuals, kernel / kernel.sum())
        draws = slice(1, None)
        moved = influence.moved(draws)
        return widened(np.einsum("ij,ij->j", moved, moved), influence.basis[draws], np.ones(number - 1))

    def _chosen(self, z: Array, scores: Array, kernel: Array) -> Array:
        """The segments that get a weight: the largest support on the Lasso path of no more than ``features``."""
        count = z.shape[1]
        if self.features is None or self.features >= count:
            return np.arange(count)
        from sklearn.linear_model import lars_path

        root = np.sqrt(kernel)[:, None]
        centred = (z - np.average(z, axis=0, weights=kernel)) * root
        target = (scores - np.average(scores, weights=kernel)) * root[:, 0]
        _, _, path = lars_path(centred, target, method="lasso")
        supports = [np.flatnonzero(step) for step in path.T]
        return next((s for s in reversed(supports) if 0 < len(s) <= self.features), np.arange(0))

    def _kernel(self, present: Array) -> Array:
        """Weight of each copy: exponential in the cosine distance of its 0/1 row from the row of ones, the root as in LIME."""
        similarity = np.sqrt(present.sum(axis=1) / present.shape[1])
        with np.errstate(over="ignore"):
            weights = np.asarray(np.sqrt(np.exp(-(((1 - similarity) / self.width) ** 2))))
        if not weights[~present.all(axis=1)].any():
            what = f"lime: kernel_width={self.width:g} leaves no changed copy with a weight"
            raise UsageError("params.invalid", what, "0.25 is usual")
        return weights
