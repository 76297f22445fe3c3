"""How spread relevance is: known values, maps of zeros, Quantus where it is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import analyzer
from tests.analyzer.evaluation.maps import Array, draw, explained, linear, load, with_map
from tests.analyzer.evaluation.oracles import quantus
from tests.common.models import cases

COUNT = 8
X = draw(1, 1, COUNT)
MODEL = load(linear([COUNT], draw(2, COUNT, 3)))
EXPLAINED = explained(MODEL, X)
METRICS = ["sparseness", "complexity", "effective-complexity"]


def judged(metric: str, map_: Array, **params: Any) -> analyzer.Evaluation:
    return analyzer.evaluate(MODEL, X, with_map(EXPLAINED, np.asarray(map_, np.float32)[None]), metric, **params)


@pytest.mark.parametrize(
    ("map_", "gini", "entropy", "effective"),
    [
        (np.full(COUNT, -3.0), 0.0, np.log(COUNT), 1.0),
        (np.eye(COUNT)[2], 1 - 1 / COUNT, 0.0, 1 / COUNT),
        ([1, -1, 0, 0, 0, 0, 0, 0], 0.75, np.log(2), 0.25),
        ([3, 1, 0, 0, 0, 0, 0, 0], 13 / 16, -0.75 * np.log(0.75) - 0.25 * np.log(0.25), 0.25),
    ],
)
def test_known_values(map_: Array, gini: float, entropy: float, effective: float) -> None:
    assert judged("sparseness", map_).value == pytest.approx(gini)
    assert judged("complexity", map_).value == pytest.approx(entropy, abs=1e-12)
    assert judged("effective-complexity", map_).value == pytest.approx(effective)


@pytest.mark.parametrize("metric", METRICS)
def test_the_scale_of_a_map_plays_no_part(metric: str) -> None:
    map_ = np.random.default_rng(0).standard_normal(COUNT)
    assert judged(metric, map_).value == pytest.approx(judged(metric, map_ * 1e-6).value, rel=1e-5)


def test_the_threshold_is_a_share_of_the_largest() -> None:
    map_ = [10, -5, 1, 0.4, 0, 0, 0, 0]
    assert [judged("effective-complexity", map_, threshold=t).value * COUNT for t in (0, 0.05, 0.5, 1)] == [4, 3, 2, 1]


@pytest.mark.parametrize("metric", METRICS)
def test_without_an_answer_there_is_a_reason(metric: str) -> None:
    assert judged(metric, np.zeros(COUNT)).reasons[0] == "the map is zero everywhere"
    assert "finite" in judged(metric, np.full(COUNT, np.inf)).reasons[0]


@pytest.mark.parametrize("case", [case for case in cases(2) if case.name != "half"], ids=lambda case: case.name)
def test_every_modality_counts_all_elements_of_all_inputs(case: Any) -> None:
    model = load(case.proto)
    e = model.explain(case.feed, "gradient")
    flat = np.abs(np.concatenate([np.asarray(v, np.float64).reshape(2, -1) for v in e.attributions.values()], axis=1))
    shares = flat / flat.sum(axis=1, keepdims=True)
    expected = -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=1)
    np.testing.assert_allclose(analyzer.evaluate(model, case.feed, e, "complexity").values, expected, rtol=1e-9)
    largest = flat.max(axis=1, keepdims=True)
    found = analyzer.evaluate(model, case.feed, e, "effective-complexity", threshold=0.3)
    np.testing.assert_allclose(found.values, (flat >= 0.3 * largest).mean(axis=1))


def test_equal_to_quantus_where_it_is_right_and_not_where_it_depends_on_the_scale() -> None:
    library = quantus()
    from quantus.functions.complexity_func import entropy, gini_coeffiient

    rng = np.random.default_rng(1)
    for map_ in np.abs(rng.standard_normal((5, COUNT)).astype(np.float32)):
        shaped = np.zeros((1, COUNT))
        assert judged("complexity", map_).value == pytest.approx(entropy(map_, shaped), abs=1e-5)
        assert judged("sparseness", map_).value == pytest.approx(gini_coeffiient(map_, shaped), abs=1e-5)
    effective = library.EffectiveComplexity(abs=False, normalise=False, disable_warnings=True)
    map_ = np.full((1, COUNT), 1e-6, np.float32)  # uniform, but below their absolute threshold
    assert effective.evaluate_batch(a_batch=map_) == [0]
    assert judged("effective-complexity", map_[0]).value == 1
    with np.errstate(all="ignore"):
        assert np.isnan(entropy(np.zeros(COUNT), np.zeros((1, COUNT))))  # a NaN, and nothing that says why
