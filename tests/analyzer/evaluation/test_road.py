"""ROAD: what pixels are replaced by, the scores of both orders, and inputs that have no neighbours."""

from __future__ import annotations

import numpy as np
import pytest

import analyzer
from analyzer.errors import UnsupportedError
from analyzer.evaluation.metrics.road import imputed
from tests.analyzer.evaluation.maps import PICTURE, Array, context_of, draw, explained, linear, load, with_map
from tests.common.models import cnn, mlp, series, two_inputs

W, X = draw(31, 64, 3), draw(32, 3, *PICTURE)
MODEL = load(linear(PICTURE, W))


def filled(x: Array, hole: Array) -> Array:
    """Every element of a hole as the weighted mean of its neighbours, by a dense system: direct ones 1, diagonal ones 1/2."""
    height, width = x.shape
    places = np.argwhere(hole)
    number = {tuple(place): at for at, place in enumerate(places)}
    left, right = np.zeros((len(places), len(places))), np.zeros(len(places))
    for at, (row, column) in enumerate(places):
        for down in (-1, 0, 1):
            for along in (-1, 0, 1):
                r, c = row + down, column + along
                if (down or along) and 0 <= r < height and 0 <= c < width:
                    weight = 0.5 if down and along else 1.0
                    left[at, at] += weight
                    if hole[r, c]:
                        left[at, number[r, c]] -= weight
                    else:
                        right[at] += weight * x[r, c]
    out = x.astype(np.float64).copy()
    out[hole] = np.linalg.solve(left, right)
    return out


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_scores_are_of_pixels_filled_in_from_their_neighbours(order: str) -> None:
    relevance = draw(33, *X.shape)
    e = with_map(explained(MODEL, X), relevance)
    found = analyzer.evaluate(MODEL, X, e, "road", order=order, shares=(0.25, 0.5), noise=0, score="explained")
    for sample, (x, r) in enumerate(zip(X[:, 0], relevance[:, 0], strict=True)):
        ranked = np.argsort(-r.reshape(-1) if order == "morf" else r.reshape(-1))
        for at, count in enumerate((16, 32)):
            hole = np.isin(np.arange(64), ranked[:count]).reshape(8, 8)
            np.testing.assert_allclose(
                found.curves[order].y[sample, at], filled(x, hole).reshape(-1) @ W[:, 1], atol=1e-4
            )
    np.testing.assert_allclose(found.values, found.curves[order].y.mean(axis=1))
    assert found.higher_is_better == (order == "lerf")


def test_combined_is_half_the_difference() -> None:
    e = with_map(explained(MODEL, X), draw(33, *X.shape))
    one = {
        order: analyzer.evaluate(MODEL, X, e, "road", order=order, shares=(0.3,), noise=0).values
        for order in ("combined", "morf", "lerf")
    }
    np.testing.assert_allclose(one["combined"], (one["lerf"] - one["morf"]) / 2, atol=1e-9)


def test_noise_is_a_share_of_the_range_and_lies_on_what_is_filled_in() -> None:
    x = draw(34, 1, 1, 40, 40)
    model = load(linear((1, 40, 40), draw(35, 1600, 3)))
    units = context_of(model, explained(model, x)).units(0)
    replaced = np.arange(1600)[None] < 800
    plain, noisy = (
        next(imputed(x[0], units, "x", replaced, (1, 2), noise, np.random.default_rng(1))) for noise in (0.0, 0.1)
    )
    apart = (noisy - plain).reshape(-1)
    assert not apart[800:].any()
    assert np.std(apart[:800]) == pytest.approx(0.1 * np.ptp(x), rel=0.1)


@pytest.mark.parametrize("nhwc", [False, True])
def test_channels_are_replaced_together_wherever_they_are(nhwc: bool) -> None:
    x, relevance = draw(36, 2, 3, 8, 8), draw(37, 2, 1, 8, 8)
    model = load(cnn(nhwc=nhwc))
    axes = (0, 2, 3, 1) if nhwc else (0, 1, 2, 3)
    e = with_map(explained(model, x.transpose(axes).copy()), relevance.transpose(axes))
    found = analyzer.evaluate(model, x.transpose(axes).copy(), e, "road", noise=0, shares=(0.3, 0.6))
    plain = load(cnn())
    expected = analyzer.evaluate(plain, x, with_map(explained(plain, x), relevance), "road", noise=0, shares=(0.3, 0.6))
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)


def test_a_series_is_joined_by_straight_lines() -> None:
    x = draw(38, 1, 2, 16)
    model = load(series())
    units = context_of(model, explained(model, x)).units(0)
    replaced = np.isin(np.arange(16), [3, 4, 5])[None]
    copy = next(imputed(x[0], units, "x", replaced, (1,), 0.0, np.random.default_rng(0)))
    for row, before in zip(copy, x[0], strict=True):
        np.testing.assert_allclose(row[3:6], before[2] + (before[6] - before[2]) * np.array([1, 2, 3]) / 4, atol=1e-5)


def test_columns_and_several_inputs_are_refused() -> None:
    model, x = load(mlp()), draw(39, 2, 6)
    with pytest.raises(UnsupportedError, match="neighbours"):
        analyzer.evaluate(model, x, explained(model, x), "road")
    model, feed = load(two_inputs()), {"picture": draw(64, 2, 3, 8, 8), "row": draw(65, 2, 4)}
    with pytest.raises(UnsupportedError, match="one input"):
        analyzer.evaluate(model, feed, model.explain(feed, "occlusion", target=1), "road")
    e = model.explain(feed, "occlusion", target=1, inputs=["picture"])
    assert analyzer.evaluate(model, feed, e, "road", shares=(0.5,)).n_valid == 2
