"""Similarities of two maps, held against scipy, scikit-learn, scikit-image and figures by hand; what has no answer says why."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from sklearn.metrics.pairwise import cosine_similarity

from analyzer.evaluation import similarity

RNG = np.random.default_rng(0)
#: Pairs of maps: plain, with ties, with many zeros, of very small and very large numbers.
PAIRS = [
    (RNG.normal(size=(3, 9, 8)), RNG.normal(size=(3, 9, 8))),
    (RNG.integers(-3, 4, (2, 40)).astype(np.float32), RNG.integers(-3, 4, (2, 40)).astype(np.float32)),
    (np.maximum(RNG.normal(size=60), 0), np.maximum(RNG.normal(size=60), 0)),
    (RNG.normal(size=50) * 1e-200, RNG.normal(size=50) * 1e200),
]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_spearman_is_scipys(a: Any, b: Any) -> None:
    assert similarity.spearman(a, b) == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic, abs=1e-12)
    absolute = spearmanr(np.abs(a).ravel(), np.abs(b).ravel()).statistic
    assert similarity.spearman(a, b, absolute=True) == pytest.approx(absolute, abs=1e-12)


def test_ndcg_is_the_mean_gain_over_all_orders_of_equal_elements() -> None:
    a, b = np.array([3.0, -1, 2, 0, 2, 0.5]), np.array([1.0, 4, 1, 0, -1, 0])
    discounts = 1 / np.log2(np.arange(6) + 2)
    orders = [list(order) for order in itertools.permutations(range(6)) if (np.diff(np.abs(b)[list(order)]) <= 0).all()]
    assert len(orders) == 3 * 2 * 2
    gain = np.mean([np.abs(a)[order] @ discounts for order in orders])
    assert similarity.ndcg(a, b) == pytest.approx(gain / (np.sort(np.abs(a))[::-1] @ discounts), abs=1e-12)


@pytest.mark.parametrize(("a", "b"), PAIRS[:3])
def test_cosine_is_scikit_learns(a: Any, b: Any) -> None:
    want = cosine_similarity(a.reshape(1, -1).astype(np.float64), b.reshape(1, -1).astype(np.float64))[0, 0]
    assert similarity.cosine(a, b) == pytest.approx(want, abs=1e-12)


def test_cosine_of_numbers_whose_squares_overflow_or_vanish() -> None:
    a, b = PAIRS[3]
    assert similarity.cosine(a, b) == pytest.approx(float(similarity.cosine(a * 1e200, b * 1e-200)), abs=1e-12)


@pytest.mark.parametrize("side", [3, 4, 7, 20])
def test_ssim_is_scikit_images(side: int) -> None:
    a, b = RNG.normal(size=(2, side, side + 1))
    span = np.ptp(np.stack([a, b]))
    window = {3: 3, 4: 3, 7: 7, 20: 7}[side]
    assert similarity.ssim(a, b) == pytest.approx(structural_similarity(a, b, data_range=span, win_size=window))


def test_top_k_without_ties_counts_the_common_ones() -> None:
    a, b = RNG.normal(size=(2, 200))
    best = [set(np.argsort(np.abs(v))[-20:]) for v in (a, b)]
    assert similarity.top_k_overlap(a, b, 0.1) == len(best[0] & best[1]) / 20


def test_top_k_with_ties_is_the_common_part_of_what_chance_would_choose() -> None:
    a, b = np.array([5.0, 1, 1, 1, 0, 0]), np.array([0.0, 1, 1, 0, 5, 0])
    chosen = [
        np.mean([[i in {top, *tied} for i in range(6)] for tied in itertools.combinations(which, 1)], axis=0)
        for top, which in ((0, (1, 2, 3)), (4, (1, 2)))
    ]
    assert similarity.top_k_overlap(a, b, 2 / 6) == pytest.approx(np.minimum(*chosen).sum() / 2)


def test_nothing_depends_on_the_order_of_equal_elements() -> None:
    a, b = RNG.integers(0, 3, (2, 60)).astype(float)
    order = RNG.permutation(60)
    for name, measure in similarity.SIMILARITIES.items():
        assert measure(a, b) == pytest.approx(measure(a[order], b[order]), abs=1e-12), name


@pytest.mark.parametrize("name", similarity.SIMILARITIES)
def test_a_map_is_like_itself_and_its_double(name: str) -> None:
    a = np.round(RNG.normal(size=(5, 5)), 1)
    assert similarity.SIMILARITIES[name](a, a) == pytest.approx(1)
    assert similarity.SIMILARITIES[name](a, 2 * a) == pytest.approx(1)


def test_reversed_maps() -> None:
    a = RNG.normal(size=40)
    assert similarity.spearman(a, -a) == pytest.approx(-1)
    assert similarity.cosine(a, -a) == pytest.approx(-1)
    assert similarity.spearman(a, -a, absolute=True) == pytest.approx(1)


PICTURE = RNG.normal(size=(8, 8))


@pytest.mark.parametrize("odd", [np.zeros((8, 8)), np.full((8, 8), 3.0)])
@pytest.mark.parametrize("swapped", [False, True])
def test_constant_maps_have_no_answer_but_say_why(odd: Any, swapped: bool) -> None:
    a, b = (PICTURE, odd) if swapped else (odd, PICTURE)
    for name, measure in {**similarity.SIMILARITIES, "ssim": similarity.ssim}.items():
        found = measure(a, b)
        if name == "cosine" and odd.any():
            assert isinstance(found, float)
        else:
            assert isinstance(found, str) and found, name
        assert not isinstance(measure(odd, odd), float) or (name == "cosine" and odd.any()), name


def test_what_isnt_finite_has_no_answer() -> None:
    for bad in (np.nan, np.inf):
        broken = PICTURE.copy()
        broken[0, 0] = bad
        for measure in (*similarity.SIMILARITIES.values(), similarity.ssim):
            assert measure(PICTURE, broken) == measure(broken, PICTURE) == similarity.NOT_FINITE


def test_ssim_of_what_is_no_picture() -> None:
    assert isinstance(similarity.ssim(np.arange(6.0), np.arange(6.0)), str)
    assert isinstance(similarity.ssim(np.eye(2), np.eye(2)), str)


def test_a_picture_is_the_sum_over_channels() -> None:
    map_ = RNG.normal(size=(3, 4, 5))
    np.testing.assert_allclose(np.asarray(similarity.picture(map_, (1, 2))), map_.sum(0))
    np.testing.assert_allclose(np.asarray(similarity.picture(map_.transpose(1, 2, 0), (0, 1))), map_.sum(0))
    assert similarity.picture(map_[0], (1,)) is None
