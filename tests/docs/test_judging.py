"""What ``docs/judging.md`` says happened, happens."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import analyzer
from docs.judging import experiments
from tests.analyzer.evaluation.intervals import apart


@pytest.fixture(scope="module")
def flipped():
    return experiments.flipped(count=50, steps=16)


def test_zplus_conserves_and_gradient_x_input_does_not():
    sums = experiments.sums(12)
    assert abs(sums["gradient-x-input"][0]) < 0.2, "its sum is next to nothing"
    assert sums["gradient-x-input"][1] > 5, "its pixels add up to many times the score"
    assert sums["lrp zplus"][0] != pytest.approx(1, abs=0.05), "biases take a share"
    assert sums["lrp zplus, no share for biases"] == pytest.approx((1, 1), abs=0.02)


def test_gradient_x_input_grows_with_depth_and_lrp_does_not():
    found = experiments.exploding((1, 16, 64), count=9)
    first, middle, last = found["gradient-x-input"]
    assert first < middle < last and last > 3 * first
    for name in ("lrp gamma", "lrp zplus"):
        assert max(found[name]) < 1.1 * min(found[name]) < 1.5, name


def test_gradient_x_input_sums_to_the_score_without_biases():
    rng = np.random.default_rng(5)
    model = analyzer.load(experiments.deep_network(16, 64, rng), "cpu", threads=1)
    e = model.explain(rng.uniform(0, 1, (1, 64)).astype(np.float32), "gradient-x-input", 0)
    assert e.attribution.sum() == pytest.approx(e.score[0], rel=1e-3)


def test_maps_move_with_the_scene_the_better_the_larger_gamma_is():
    found = [experiments.roughness(gamma) for gamma in experiments.GAMMAS]
    assert all(after < before for before, after in pairwise(found)), found
    assert found[-1] < 0.75 * found[0]


def test_gamma_of_zero_is_gradient_x_input():
    x = experiments.moving(1)
    model = analyzer.load(experiments.MODEL, "cpu")
    zero = experiments.maps_of_moving(0.0, x)
    expected = model.explain(x, "gradient-x-input", list(zero.classes)).attribution
    assert np.corrcoef(zero.attribution.ravel(), expected.ravel())[0, 1] > 0.999


def test_max_networks_compute_the_maximum():
    x = np.random.default_rng(0).uniform(0, 1, (50, 2)).astype(np.float32)
    for proto in experiments.max_networks():
        np.testing.assert_allclose(analyzer.load(proto, "cpu").predict(x)["y"][:, 0], x.max(axis=1), rtol=1e-6)


def test_gradient_x_input_cannot_tell_two_maxima_apart_and_zplus_can():
    found = experiments.explanations_of_max()
    for got in found["gradient-x-input"]:
        np.testing.assert_allclose(got, [1, 0], atol=1e-5)
    first, second = found["lrp zplus"]
    np.testing.assert_allclose(first, [0.5, 0.5], atol=1e-4)
    np.testing.assert_allclose(second, [0.75, 0.25], atol=1e-4)


def test_the_uniform_map_conserves():
    model, x = analyzer.load(experiments.MODEL, "cpu"), experiments.shapes(3)
    e = experiments.uniform(model.explain(x, "gradient"))
    np.testing.assert_allclose(e.attribution.reshape(3, -1).sum(axis=1, dtype=np.float64), e.score, rtol=1e-5)


def test_the_uniform_map_flips_like_chance(flipped):
    difference = flipped["uniform"].values - flipped["chance"].values
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    assert abs(difference.mean()) < 3 * error


@pytest.mark.parametrize("name", ["occlusion", "lrp epsilon-gamma-box", "gradient-x-input"])
def test_good_maps_flip_faster_than_chance(flipped, name):
    assert apart(lower=flipped[name].values, higher=flipped["chance"].values)


def test_deconvnet_is_near_chance(flipped):
    chance, best = flipped["chance"].value, flipped["occlusion"].value
    assert chance - flipped["deconvnet"].value < 0.3 * (chance - best)
