"""LIME against what is known: linear models, an independent weighted least squares, planted supports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import UsageError
from analyzer.methods.perturbation.lime import Surrogate
from tests.analyzer.methods.linear import Array, linear, weights_of
from tests.common.models import assemble


def kernel(present: Array, width: float) -> Array:
    """The weight of each row: exponential kernel on the cosine distance to the row of ones."""
    cosine = present.sum(axis=1) / (np.sqrt(present.sum(axis=1)) * np.sqrt(present.shape[1]) + 1e-300)
    return np.sqrt(np.exp(-((1 - cosine) ** 2) / width**2))


def weighted_ridge(present: Array, scores: Array, weights: Array, alpha: float) -> tuple[Array, float]:
    """Ridge with a free intercept by the normal equations; and the weighted R²."""
    z = np.hstack([present.astype(np.float64), np.ones((len(present), 1))])
    penalty = alpha * np.eye(z.shape[1])
    penalty[-1, -1] = 0
    solved = np.linalg.solve(z.T @ (weights[:, None] * z) + penalty, z.T @ (weights * scores))
    residual = scores - z @ solved
    mean = np.average(scores, weights=weights)
    return solved[:-1], 1 - (weights * residual**2).sum() / (weights * (scores - mean) ** 2).sum()


def drawn(samples: int, count: int, seed: int = 0) -> Array:
    """Rows of segments that are there."""
    present = np.random.default_rng(seed).integers(0, 2, (samples, count)).astype(bool)
    present[0] = True
    return present


# --- the fit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-9, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("width", [0.1, 0.25, 2.0])
def test_the_fit_is_weighted_ridge(alpha: float, width: float) -> None:
    present = drawn(200, 7)
    scores = np.random.default_rng(1).standard_normal(200) + present @ np.arange(7.0)
    expected, r2 = weighted_ridge(present, scores, kernel(present, width), alpha)
    got, found_r2 = Surrogate(width, alpha).fit(present, scores)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)
    assert found_r2 == pytest.approx(r2, rel=1e-6)


def test_a_linear_score_is_recovered_exactly() -> None:
    present = drawn(100, 6)
    truth = np.array([3.0, -1.0, 0.0, 0.5, 2.0, -4.0])
    got, r2 = Surrogate(0.25, 1e-9).fit(present, present @ truth + 7)
    np.testing.assert_allclose(got, truth, atol=1e-6)
    assert r2 == pytest.approx(1.0)


@pytest.mark.parametrize("features", [1, 2, 3])
def test_k_lasso_keeps_the_segments_that_count(features: int) -> None:
    present = drawn(400, 12)
    truth = np.zeros(12)
    truth[[8, 2, 5]] = [5.0, -3.0, 2.0]
    noise = 0.05 * np.random.default_rng(3).standard_normal(400)
    got, r2 = Surrogate(0.25, 1e-9, features).fit(present, present @ truth + noise)
    assert set(np.flatnonzero(got)) == set([8, 2, 5][:features])
    if features == 3:
        np.testing.assert_allclose(got[[8, 2, 5]], [5.0, -3.0, 2.0], atol=0.05)
        assert r2 > 0.99


def test_as_many_features_as_segments_are_all_of_them() -> None:
    present = drawn(50, 4)
    scores = np.random.default_rng(4).standard_normal(50)
    for features in (4, 9):
        chosen, every = (Surrogate(0.25, 1.0, most).fit(present, scores)[0] for most in (features, None))
        np.testing.assert_array_equal(chosen, every)


@pytest.mark.parametrize("features", [None, 2])
def test_a_constant_score_has_no_weights(features: int | None) -> None:
    got, r2 = Surrogate(0.25, 1.0, features).fit(drawn(50, 4), np.full(50, 3.0))
    np.testing.assert_allclose(got, 0, atol=1e-12)
    assert np.isfinite(r2)


# --- the method -----------------------------------------------------------------------------------------------------


def test_columns_of_a_linear_model_get_weight_times_difference() -> None:
    x, w = np.random.default_rng(5).standard_normal((3, 6)).astype(np.float32), weights_of(6)
    done = linear(w).explain(x, method="lime", samples=200, alpha=1e-6, fill=0.5)
    np.testing.assert_allclose(done.attribution, (x - 0.5) * w, rtol=1e-3, atol=1e-4)
    assert done.attribution.shape == x.shape
    assert done.record["r2"] == pytest.approx([1.0] * 3, abs=1e-5)
    assert done.record["segments"] == [6, 6, 6]
    assert done.record["evaluations"] == 600


MASK = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2], [7, 7, 7, 2]])


@pytest.mark.parametrize("mask", [MASK, MASK[None], MASK.tolist(), MASK.astype(np.uint8)])
def test_a_mask_gives_the_segments_of_a_picture(mask: Any) -> None:
    """Numbers need not be without gaps; channels share a segment; every pixel carries its segment's weight."""
    x, w = np.random.default_rng(6).standard_normal((2, 3, 4, 4)).astype(np.float32), weights_of(3, 4, 4)
    done = linear(w).explain(x, method="lime", segments=mask, samples=150, alpha=1e-6, fill=0.0)
    expected = np.zeros((2, 1, 4, 4))
    for value in (0, 1, 2, 7):
        inside = value == MASK
        expected[:, 0, inside] = (x * w)[:, :, inside].sum(axis=(1, 2))[:, None]
    np.testing.assert_allclose(done.attribution, expected, rtol=1e-3, atol=1e-3)


def test_a_mask_that_tells_channels_apart_keeps_them_apart() -> None:
    x, w = np.random.default_rng(6).standard_normal((1, 3, 4, 4)).astype(np.float32), weights_of(3, 4, 4)
    mask = np.arange(3)[:, None, None] * np.ones((3, 4, 4), int)
    done = linear(w).explain(x, method="lime", segments=mask, samples=150, alpha=1e-6, fill=0.0)
    assert done.attribution.shape == (1, 3, 4, 4)
    np.testing.assert_allclose(done.attribution[0, :, 0, 0], (x * w)[0].sum(axis=(1, 2)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("segments", "count"), [("grid:2", 4), ("grid:4", 1), ("grid:1x4", 4), ("elements", 16)])
def test_grids_cut_pictures_into_blocks(segments: str, count: int) -> None:
    x, w = np.random.default_rng(6).standard_normal((1, 3, 4, 4)).astype(np.float32), weights_of(3, 4, 4)
    done = linear(w).explain(x, method="lime", segments=segments, samples=300, alpha=1e-6, fill=0.0)
    assert done.record["segments"] == [count]
    if segments == "grid:2":
        blocks = (x * w)[0].sum(axis=0).reshape(2, 2, 2, 2).sum(axis=(1, 3))
        expected = np.repeat(np.repeat(blocks, 2, axis=0), 2, axis=1)
        np.testing.assert_allclose(done.attribution[0, 0], expected, rtol=1e-3, atol=1e-3)


def test_superpixels_follow_the_picture_and_stay_near_the_count() -> None:
    rng = np.random.default_rng(7)
    x = (rng.standard_normal((1, 3, 32, 32)) * 0.05).astype(np.float32)
    x[:, 0, :, 16:] += 1.0
    done = linear(weights_of(3, 32, 32)).explain(x, method="lime", segments=8, samples=60)
    assert 4 <= done.record["segments"][0] <= 16
    across = done.attribution[0, 0, :, 11] == done.attribution[0, 0, :, 20]
    assert not across.any(), "no superpixel reaches across the edge"


@pytest.mark.parametrize("last", [False, True])
def test_a_series_is_cut_along_time(last: bool) -> None:
    x, w = np.random.default_rng(8).standard_normal((1, 2, 12)).astype(np.float32), weights_of(2, 12)
    expected = np.repeat((x * w).sum(axis=1).reshape(4, 3).sum(axis=1), 3)
    if last:
        x, w = x.transpose(0, 2, 1).copy(), w.T.copy()
    done = linear(w).explain(x, method="lime", segments=4, samples=200, alpha=1e-6, fill=0.0)
    assert done.attribution.shape == ((1, 12, 1) if last else (1, 1, 12))
    np.testing.assert_allclose(done.attribution.ravel(), expected, rtol=1e-3, atol=1e-3)


def test_words_are_replaced_one_by_one() -> None:
    ids, w = np.array([[4, 2, 9, 0, 3]]), weights_of(5)
    done = linear(w, dtype=TensorProto.INT64).explain(ids, method="lime", samples=200, alpha=1e-6, fill=1)
    np.testing.assert_allclose(done.attribution, (ids - 1) * w, rtol=1e-3, atol=1e-3)


def test_the_mean_is_the_default_fill_of_pictures() -> None:
    x, w = np.random.default_rng(6).standard_normal((1, 3, 4, 4)).astype(np.float32) + 2, weights_of(3, 4, 4)
    done = linear(w).explain(x, method="lime", segments="grid:2", samples=200, alpha=1e-6)
    drop = ((x - x.mean(axis=(2, 3), keepdims=True)) * w)[0].sum(axis=0).reshape(2, 2, 2, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(done.attribution[0, 0, ::2, ::2], drop, rtol=1e-3, atol=1e-3)


def test_the_planted_segments_are_found_through_a_model() -> None:
    """A score that looks at two of sixteen blocks."""
    w = np.zeros((1, 8, 8), np.float32)
    w[:, 2:4, 4:6], w[:, 6:8, 0:2] = 3.0, -2.0
    x = np.ones((1, 1, 8, 8), np.float32)
    done = linear(w).explain(x, method="lime", segments="grid:2", features=2, samples=300, alpha=1e-6, fill=0.0)
    expected = np.zeros((8, 8))
    expected[2:4, 4:6], expected[6:8, 0:2] = 12.0, -8.0
    np.testing.assert_allclose(done.attribution[0, 0], expected, rtol=1e-3, atol=1e-3)


def test_r2_is_low_where_no_linear_model_fits() -> None:
    nodes = [helper.make_node("ReduceProd", ["x"], ["y"], axes=[1], keepdims=1)]
    proto = assemble(nodes, {"x": (1, ["n", 6])}, {"y": (1, ["n", 1])}, {})
    x = np.full((1, 6), -1.0, np.float32)
    done = analyzer.load(proto, "cpu").explain(x, method="lime", samples=500, fill=1.0)
    assert done.record["r2"][0] < 0.1


def test_a_linear_model_is_recovered_from_what_the_runtime_was_given() -> None:
    """The method's own scores, fitted independently, give the method's own weights."""
    rng = np.random.default_rng(11)
    w1, w2 = rng.standard_normal((5, 8)).astype(np.float32), rng.standard_normal((8, 1)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"]), helper.make_node("Tanh", ["h"], ["a"]),
        helper.make_node("MatMul", ["a", "w2"], ["y"]),
    ]  # fmt: skip
    proto = assemble(nodes, {"x": (1, ["n", 5])}, {"y": (1, ["n", 1])}, {"w1": w1, "w2": w2})
    model = analyzer.load(proto, "cpu")
    x = rng.standard_normal((1, 5)).astype(np.float32)
    done = model.explain(x, method="lime", samples=120, seed=6, fill=0.0, kernel_width=0.4, alpha=0.7)
    present = drawn(120, 5, seed=6)
    scores = (np.tanh(np.where(present, x, 0.0) @ w1) @ w2)[:, 0]
    expected, r2 = weighted_ridge(present, scores, kernel(present, 0.4), 0.7)
    np.testing.assert_allclose(done.attribution[0], expected, rtol=1e-3, atol=1e-4)
    assert done.record["r2"][0] == pytest.approx(r2, rel=1e-3)


def test_seeds_decide_and_results_repeat() -> None:
    x, w = np.random.default_rng(5).standard_normal((2, 6)).astype(np.float32), weights_of(6)
    model = linear(w)
    runs = [model.explain(x, method="lime", samples=20, seed=seed).attribution for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize(
    "params",
    [
        {"samples": 1}, {"samples": 0}, {"samples": "many"}, {"kernel_width": 0}, {"kernel_width": -1.0},
        {"alpha": -0.1}, {"features": 0}, {"segments": "hexagons"}, {"segments": 0}, {"segments": -3},
        {"segments": np.zeros((5, 5), int)}, {"segments": np.full((4, 4), 0.5)}, {"fill": "chequered"},
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        linear(weights_of(3, 4, 4)).explain(np.ones((1, 3, 4, 4), np.float32), method="lime", **params)
    assert caught.value.code.partition(".")[0] in ("params", "segments", "fill")
    assert "\n" not in str(caught.value)


def test_a_fit_that_explains_little_is_said_to() -> None:
    """A product of two signs is no sum at all; half of one is."""
    nodes = [
        helper.make_node("Split", ["x", "halves"], ["a", "b"], axis=1), helper.make_node("Mul", ["a", "b"], ["ab"]),
        helper.make_node("Mul", ["a", "much"], ["c"]), helper.make_node("Add", ["ab", "c"], ["y"]),
    ]  # fmt: skip
    notes = []
    for much in (0.0, 2.0):
        weights = {"halves": np.array([1, 1], np.int64), "much": np.array([[much]], np.float32)}
        model = analyzer.load(assemble(nodes, {"x": (1, ["n", 2])}, {"y": (1, ["n", 1])}, weights), "cpu", threads=1)
        done = model.explain(np.ones((1, 2), np.float32), "lime", fill=-1, kernel_width=100.0, samples=400)
        notes.append([note for note in done.record["notes"] if "linear fit explains little" in note])
        assert bool(notes[-1]) == (done.record["r2"][0] < 0.5)
    assert "R² 0.0" in notes[0][0]
    assert not notes[1]
