"""Metrics beside Quantus on the same draws, to 1e-5, where it is right; where it isn't, how."""

from __future__ import annotations

import numpy as np
import pytest

import analyzer
from analyzer.evaluation.metrics.road import imputed
from analyzer.evaluation.sets import agreement
from tests.analyzer.evaluation.maps import PICTURE, context_of
from tests.analyzer.evaluation.oracles import quantus
from tests.analyzer.evaluation.peers import RELEVANCE, X, plain, subject, theirs

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def test_pixel_flipping() -> None:
    found = theirs(quantus().PixelFlipping(**plain(features_in_step=4, perturb_baseline=0.0)))
    model, e = subject()
    ours = analyzer.evaluate(model, X, e, "pixel-flipping", steps=16, fill=0.0)
    np.testing.assert_allclose(ours.curves["morf"].y[:, 1:], found, **CLOSE)


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_region_perturbation(order: str) -> None:
    metric = quantus().RegionPerturbation(
        **plain(patch_size=2, regions_evaluation=16, order=order, perturb_baseline=0.0)
    )
    drops = np.array(theirs(metric))
    model, e = subject()
    ours = analyzer.evaluate(model, X, e, "region-perturbation", steps=16, size=2, fill=0.0, order=order)
    y = ours.curves[order].y
    np.testing.assert_allclose(y[:, :1] - y[:, 1:], drops, **CLOSE)
    np.testing.assert_allclose(ours.values, drops.sum(axis=1) / 17, **CLOSE)


def test_selectivity() -> None:
    found = theirs(quantus().Selectivity(**plain(patch_size=2, perturb_baseline=0.0)))
    model, e = subject()
    ours = analyzer.evaluate(model, X, e, "selectivity", steps=16, size=2, fill=0.0)
    np.testing.assert_allclose(ours.curves["morf"].y[:, 1:], found, **CLOSE)


def test_faithfulness_estimate() -> None:
    metric = quantus().FaithfulnessEstimate(**plain(features_in_step=4, perturb_baseline=0.0))
    model, e = subject()
    ours = analyzer.evaluate(model, X, e, "faithfulness-estimate", sets=16, fill=0.0)
    np.testing.assert_allclose(ours.values, theirs(metric), **CLOSE)


def test_faithfulness_correlation() -> None:
    metric = quantus().FaithfulnessCorrelation(
        **plain(nr_runs=20, subset_size=13, perturb_baseline=0.0, return_aggregate=False)
    )
    np.random.seed(3)  # noqa: NPY002 - the generator that they draw from
    found = theirs(metric)
    np.random.seed(3)  # noqa: NPY002
    drawn = [[np.random.choice(64, 13, replace=False) for _ in X] for _ in range(20)]  # noqa: NPY002
    model, e = subject()
    context = context_of(model, e)
    for sample, expected in enumerate(found):
        sets = np.array([np.isin(np.arange(64), each[sample]) for each in drawn])
        ours = agreement(context, sample, context.units(sample), sets, context.replacements(0.0))
        np.testing.assert_allclose(ours, expected, **CLOSE)


def test_monotonicity_correlation() -> None:
    """Of the sizes of relevance, by which theirs are ranked too, one unit at a time."""
    metric = quantus().MonotonicityCorrelation(
        **plain(features_in_step=1, nr_samples=1, eps=1e-12, perturb_baseline=0.0)
    )
    model, e = subject()
    ours = analyzer.evaluate(model, X, e, "monotonicity-correlation", fill=0.0)
    np.testing.assert_allclose(ours.values, theirs(metric, np.abs(RELEVANCE)), **CLOSE)


def test_non_sensitivity() -> None:
    relevance = np.abs(RELEVANCE) * (np.arange(64).reshape(PICTURE) % 3 > 0)
    found = theirs(quantus().NonSensitivity(**plain(features_in_step=1, eps=1e-6, perturb_baseline=0.0)), relevance)
    model, e = subject(relevance)
    ours = analyzer.evaluate(model, X, e, "non-sensitivity", fill=0.0)
    np.testing.assert_allclose(ours.values * 64, found)
    assert (ours.values > 0.2).all()


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_imputation_of_road(share: float) -> None:
    quantus()
    from quantus.functions.perturb_func import noisy_linear_imputation

    model, e = subject()
    units = context_of(model, e).units(0)
    hole = np.random.default_rng(0).permutation(64) < share * 64
    found = noisy_linear_imputation(X[0], np.flatnonzero(hole), noise=0.0)
    ours = next(imputed(X[0], units, "x", hole[None], (1, 2), 0.0, np.random.default_rng(0)))
    np.testing.assert_allclose(ours.reshape(-1), np.asarray(found).reshape(-1), **CLOSE)


def test_irof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs is the area over the curve without its first point, not divided by the number of segments; cut by theirs."""
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)
    found = theirs(quantus().IROF(**plain(perturb_baseline=0.0, return_aggregate=False)), softmax=True)
    from quantus.helpers.utils import get_superpixel_segments

    for sample, expected in enumerate(found):
        cut = get_superpixel_segments(np.moveaxis(X[sample], 0, -1).astype("double"), "slic")
        model, e = subject(RELEVANCE[sample : sample + 1], X[sample : sample + 1])
        count = len(np.unique(cut))
        ours = analyzer.evaluate(model, e.inputs, e, "irof", steps=count, segments=cut, fill=0.0).curves["morf"].y[0]
        assert count > 20
        assert count - np.trapezoid(ours[1:] / ours[0]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


# where theirs are wrong -------------------------------------------------------------------------------------------------


def test_their_monotonicity_says_yes_to_anything() -> None:
    """They start from the baseline and put in the baseline; on a model that rises and falls with its input ours doesn't."""
    metric = quantus().Monotonicity(**plain(features_in_step=8, perturb_baseline=0.0))
    model, e = subject()
    for relevance in (RELEVANCE, -RELEVANCE):
        assert all(theirs(metric, relevance))
    ours = analyzer.evaluate(model, X, e, "monotonicity", sets=8)
    assert (ours.values < 1).any()


def test_their_area_under_a_curve_needs_a_function_that_numpy_has_dropped() -> None:
    metric = quantus().PixelFlipping(**plain(features_in_step=8, return_auc_per_sample=True))
    if hasattr(np, "trapz"):
        pytest.skip("this numpy still has trapz")
    with pytest.raises(AttributeError, match="trapz"):
        theirs(metric)


def test_their_monotonicity_correlation_fails_on_a_small_score() -> None:
    metric = quantus().MonotonicityCorrelation(**plain(nr_samples=1, eps=1e6, perturb_baseline=0.0))
    with pytest.raises(ValueError):
        theirs(metric, np.abs(RELEVANCE))


def test_their_non_sensitivity_takes_negative_relevance_for_none() -> None:
    metric = quantus().NonSensitivity(**plain(features_in_step=1, eps=1e-6, perturb_baseline=0.0))
    negative = -np.abs(RELEVANCE) - 0.1
    negative[:, 0, 0, 0] = 1  # they refuse a map without any
    assert list(theirs(metric, negative)) == [63] * len(X)
    model, e = subject(negative)
    np.testing.assert_array_equal(analyzer.evaluate(model, X, e, "non-sensitivity", fill=0.0).values, 0)
