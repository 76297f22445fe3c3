"""Where relevance lies beside a mask: figures by hand, ties, masks and maps without an answer, Quantus where it is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer.errors import UsageError
from analyzer.evaluation.located import share_of_top
from tests.analyzer.evaluation.maps import Array, draw, explained, linear, load, with_map
from tests.analyzer.evaluation.oracles import quantus
from tests.common.models import cases

SHAPE = (1, 4, 4)
X = draw(1, 1, *SHAPE)
MODEL = load(linear(SHAPE, draw(2, 16, 3)))
EXPLAINED = explained(MODEL, X)
MASK = np.zeros((4, 4), bool)
MASK[1:3, 1:3] = True
METRICS = ["pointing-game", "relevance-mass", "relevance-rank", "top-k-intersection", "localisation-auc"]


def judged(metric: str, map_: Array, mask: Array = MASK, **params: Any) -> analyzer.Evaluation:
    e = with_map(EXPLAINED, np.asarray(map_, np.float32).reshape(1, *SHAPE))
    return analyzer.evaluate(MODEL, X, e, metric, mask=mask, **params)


def value(metric: str, map_: Array, **params: Any) -> float:
    return float(judged(metric, map_, **params).values[0])


def test_figures_by_hand() -> None:
    map_ = np.zeros((4, 4))
    map_[1, 1], map_[2, 2], map_[0, 0], map_[3, 3] = 4, 3, 2, -1
    assert value("pointing-game", map_) == 1
    assert value("relevance-mass", map_) == pytest.approx(7 / 9)
    assert value("relevance-mass", map_, relevance="absolute") == pytest.approx(7 / 10)
    # the four most relevant: two inside, one outside, and one of twelve zeros, two of which lie inside
    assert value("relevance-rank", map_) == pytest.approx((2 + 2 / 12) / 4)
    assert value("top-k-intersection", map_, k=2) == 1
    assert value("top-k-intersection", map_, k=3) == pytest.approx(2 / 3)
    assert value("top-k-intersection", map_, k=0.125) == 1  # two of sixteen
    assert value("top-k-intersection", map_, k=1000) == pytest.approx(4 / 16)
    # pairs of an element inside and one outside that are in order; equal ones count half
    assert value("localisation-auc", map_) == pytest.approx((2 * 12 + 2 * (1 + 10 / 2)) / 48)


def test_the_record_of_the_mass_sets_it_beside_the_area() -> None:
    found = judged("relevance-mass", np.ones((4, 4)))
    assert found.value == pytest.approx(0.25)
    assert found.record == {"area": [0.25], "mass_over_area": [pytest.approx(1.0)]}


def test_equal_maxima_hit_by_their_share() -> None:
    map_ = np.zeros((4, 4))
    map_[1, 1] = map_[0, 0] = map_[0, 1] = 5
    assert value("pointing-game", map_) == pytest.approx(1 / 3)


def test_a_near_miss_hits_within_the_tolerance() -> None:
    map_ = np.zeros((4, 4))
    map_[0, 0] = 1  # one row and one column beside the mask
    assert [value("pointing-game", map_, tolerance=t) for t in (0, 1, 1.4, 1.5)] == [0, 0, 0, 1]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("mask", "map_", "why"),
    [
        (np.zeros((4, 4), bool), np.arange(16), "empty"),
        (np.ones((4, 4), bool), np.arange(16), "covers everything"),
        (MASK, np.zeros(16), "no "),
        (MASK, np.where(np.arange(16) == 3, np.nan, 1), "finite"),
    ],
)
def test_without_an_answer_there_is_a_reason(metric: str, mask: Array, map_: Array, why: str) -> None:
    found = judged(metric, map_, mask)
    assert np.isnan(found.values).all() and found.n_nan == 1
    assert why in found.reasons[0]


def test_a_constant_map_points_nowhere() -> None:
    assert "same everywhere" in judged("pointing-game", np.full(16, 2.0)).reasons[0]
    assert value("relevance-rank", np.full(16, 2.0)) == pytest.approx(0.25)
    assert value("localisation-auc", np.full(16, 2.0)) == pytest.approx(0.5)


def test_negative_relevance_has_no_positive_mass() -> None:
    assert "positive" in judged("relevance-mass", -np.arange(16)).reasons[0]


def test_the_share_of_the_top_is_the_mean_over_all_orders_of_equal_elements() -> None:
    values, inside = np.array([3, 1, 1, 1, 0.0]), np.array([False, True, True, False, True])
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(4000):
        mixed = rng.permutation(5)
        drawn.append(inside[mixed][np.argsort(-values[mixed], kind="stable")[:2]].mean())
    assert share_of_top(values, inside, 2) == pytest.approx(np.mean(drawn), abs=0.02)


@pytest.mark.parametrize("case", [case for case in cases(2) if case.name != "half"], ids=lambda case: case.name)
def test_every_modality_sums_channels_and_takes_masks_of_its_places(case: Any) -> None:
    model = load(case.proto)
    e = model.explain(case.feed, "gradient")
    name = next(iter(case.feed))
    axes = {"cnn": (2, 3), "nhwc": (1, 2), "mlp": (1,), "series": (2,), "tokens": (1,), "two": (2, 3)}[case.name]
    map_ = np.asarray(e.attributions[name], np.float64)
    places = map_.sum(axis=tuple(axis for axis in range(1, map_.ndim) if axis not in axes))
    mask = np.zeros(places.shape, bool)
    mask.reshape(2, -1)[0, :3] = mask.reshape(2, -1)[1, 2:4] = True
    found = analyzer.evaluate(model, case.feed, e, "relevance-mass", mask={name: mask})
    positive = np.maximum(places, 0).reshape(2, -1)
    expected = (positive * mask.reshape(2, -1)).sum(axis=1) / positive.sum(axis=1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    for metric in METRICS:  # all take it
        assert np.isfinite(analyzer.evaluate(model, case.feed, e, metric, mask={name: mask}).values).all()


def test_masks_of_two_inputs_are_judged_together() -> None:
    case = next(case for case in cases(1) if case.name == "two")
    model = load(case.proto)
    e = model.explain(case.feed, "gradient")
    picture, row = np.zeros((1, 3, 8, 8), np.float32), np.zeros((1, 4), np.float32)
    picture[0, 1, 2, 2], row[0, 1], row[0, 3] = 2, 3, 5
    inside, column = np.zeros((8, 8), bool), np.array([False, True, False, False])
    inside[2, 2] = True
    found = analyzer.evaluate(
        model, case.feed, with_map(e, picture, row), "relevance-mass", mask={"picture": inside, "row": column[None]}
    )
    assert found.value == pytest.approx((2 + 3) / 10)
    only = analyzer.evaluate(model, case.feed, with_map(e, picture, row), "relevance-mass", mask={"row": column[None]})
    assert only.value == pytest.approx(3 / 8)


def test_a_mask_is_needed() -> None:
    with pytest.raises(UsageError, match="where the truth lies"):
        analyzer.evaluate(MODEL, X, EXPLAINED, "pointing-game")


def test_equal_to_quantus() -> None:
    library = quantus()
    rng = np.random.default_rng(3)
    maps, masks = rng.random((6, 1, 4, 4)).astype(np.float32), rng.random((6, 1, 4, 4)) < 0.4
    x = draw(4, 6, *SHAPE)
    e = with_map(explained(MODEL, x), maps)
    quiet = {"abs": False, "normalise": False, "disable_warnings": True}
    theirs = {
        "pointing-game": library.PointingGame(**quiet),
        "relevance-mass": library.RelevanceMassAccuracy(**quiet),
        "relevance-rank": library.RelevanceRankAccuracy(**quiet),
        "top-k-intersection": library.TopKIntersection(k=5, **quiet),
        "localisation-auc": library.AUC(**quiet),
    }
    for metric, oracle in theirs.items():
        params = {"k": 5} if metric == "top-k-intersection" else {}
        own = analyzer.evaluate(MODEL, x, e, metric, mask=masks, **params)
        expected = oracle.evaluate_batch(a_batch=maps, s_batch=masks)
        np.testing.assert_allclose(own.values, np.asarray(expected, np.float64), atol=1e-5, err_msg=metric)


def test_where_quantus_is_wrong() -> None:
    """A map of zeros hits, so does anything beside an empty mask; with signs the mass is no share."""
    library = quantus()
    quiet = {"abs": False, "normalise": False, "disable_warnings": True}
    zero, mask = np.zeros((1, 1, 4, 4), np.float32), MASK[None, None]
    game = library.PointingGame(**quiet)
    assert game.evaluate_batch(a_batch=zero, s_batch=mask)[0]
    assert game.evaluate_batch(a_batch=zero + np.arange(16).reshape(4, 4), s_batch=mask & False)[0]
    signed = zero.copy()
    signed[0, 0, 1, 1], signed[0, 0, 0, 0] = 2, -1
    assert library.RelevanceMassAccuracy(**quiet).evaluate_batch(a_batch=signed, s_batch=mask)[0] == 2
    assert judged("pointing-game", zero).n_nan == judged("pointing-game", np.arange(16), MASK & False).n_nan == 1
    assert judged("relevance-mass", signed).value == 1
