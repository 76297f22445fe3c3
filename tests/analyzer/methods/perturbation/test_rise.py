"""RISE against expectations in closed form, naive sums, torch's interpolation."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import UsageError
from analyzer.inputs.resampling import interpolation_matrix
from analyzer.methods.perturbation.rise import SmoothGrids, independent_cells
from analyzer.perturbation.moments import Moments
from tests.analyzer.methods.linear import Array, linear, weights_of
from tests.common.models import assemble


def some(*shape: int, seed: int = 9) -> Array:
    """A batch of values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def smooth(*how: Any) -> Any:
    """Grids as the masks that they stand for."""
    draw = SmoothGrids(*how)
    return lambda rng, n: draw.grid(draw.sides).masks(draw.rows(rng, n), {})


# --- masks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "side"), [(1, 5), (2, 9), (4, 12), (8, 8), (7, 30), (8, 224)])
def test_interpolation_is_that_of_torch(count: int, side: int) -> None:
    import torch

    expected = torch.nn.functional.interpolate(torch.eye(count)[None], side, mode="linear", align_corners=False)[0].T
    np.testing.assert_allclose(interpolation_matrix(count, side), expected.numpy(), atol=1e-5)


def naive(sides: tuple[int, ...], grid: int, keep: float, n: int, seed: int) -> Array:
    """The paper's masks one by one: a coarse grid enlarged by torch, then cut out."""
    import torch

    rng, masks = np.random.default_rng(seed), []
    counts = [min(grid, side) for side in sides]
    for _ in range(n):
        drawn = rng.random(len(sides) + int(np.prod(counts)))
        coarse = torch.from_numpy((drawn[len(sides) :] < keep).astype(np.float32).reshape(1, 1, *counts))
        steps = [-(-side // count) for side, count in zip(sides, counts, strict=True)]
        size = [(count + 1) * step for count, step in zip(counts, steps, strict=True)]
        mode = {1: "linear", 2: "bilinear"}[len(sides)]
        large = torch.nn.functional.interpolate(coarse, size, mode=mode, align_corners=False)[0, 0].numpy()
        at = [int(u * step) for u, step in zip(drawn, steps, strict=False)]
        masks.append(large[tuple(slice(a, a + side) for a, side in zip(at, sides, strict=True))])
    return np.stack(masks)


@pytest.mark.parametrize(("sides", "grid"), [((12, 20), 4), ((9, 9), 8), ((5, 30), 8), ((40,), 6), ((3,), 8)])
def test_masks_are_those_of_the_paper(sides: tuple[int, ...], grid: int) -> None:
    masks = smooth(sides, grid, 0.4)(np.random.default_rng(2), 6)
    assert masks.shape == (6, *sides)
    np.testing.assert_allclose(masks, naive(sides, grid, 0.4, 6, 2), atol=1e-5)


@pytest.mark.parametrize("draw", [smooth((11, 7), 4, 0.5), smooth((20,), 5, 0.3), independent_cells((6,), 0.5)])
def test_masks_do_not_depend_on_how_they_are_cut_into_blocks(draw: Any) -> None:
    rng = np.random.default_rng(1)
    parts = [draw(rng, n) for n in (1, 4, 2)]
    np.testing.assert_allclose(np.concatenate(parts), draw(np.random.default_rng(1), 7), atol=1e-7)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_an_element_shows_with_the_probability_asked_for(keep: float) -> None:
    for draw in (smooth((10, 12), 5, keep), independent_cells((10, 12), keep)):
        masks = draw(np.random.default_rng(0), 20_000)
        assert masks.min() >= 0
        assert masks.max() <= 1 + 1e-6
        np.testing.assert_allclose(masks.mean(axis=0), keep, atol=0.02)


# --- moments --------------------------------------------------------------------------------------------------------


def test_moments_are_those_of_numpy() -> None:
    rng = np.random.default_rng(4)
    masks, scores = rng.random((400, 3, 5)), 100 + rng.standard_normal(400)
    scores += 3 * masks[:, 1, 2]
    moments = Moments(reference=99.0)
    for start in range(0, 400, 64):
        moments.add(masks[start : start + 64], scores[start : start + 64])
    flat = masks.reshape(400, -1)
    product = scores[:, None] * flat
    mean, error = moments.product()
    np.testing.assert_allclose(mean.ravel(), product.mean(axis=0))
    np.testing.assert_allclose(error.ravel(), product.std(axis=0, ddof=1) / 20, rtol=1e-6)
    covariance, error = moments.covariance()
    np.testing.assert_allclose(covariance.ravel(), [np.cov(scores, m)[0, 1] for m in flat.T], rtol=1e-8)
    about = (scores - scores.mean())[:, None] * (flat - flat.mean(axis=0))
    np.testing.assert_allclose(error.ravel(), about.std(axis=0, ddof=1) / 20, rtol=1e-6)
    correlation, error = moments.correlation()
    np.testing.assert_allclose(correlation.ravel(), [np.corrcoef(scores, m)[0, 1] for m in flat.T], rtol=1e-8)
    np.testing.assert_allclose(error.ravel(), np.sqrt((1 - correlation.ravel() ** 2) / 398))


def test_what_never_varies_has_no_correlation() -> None:
    moments = Moments(reference=5.0)
    moments.add(np.stack([np.ones(4), np.ones(4), np.ones(4)]), np.array([1.0, 2.0, 4.0]))
    np.testing.assert_array_equal(moments.correlation()[0], 0)
    moments = Moments(reference=5.0)
    moments.add(np.eye(3), np.full(3, 7.5))
    np.testing.assert_array_equal(moments.correlation()[0], 0)


# --- the method -----------------------------------------------------------------------------------------------------


def test_the_map_is_the_papers_sum() -> None:
    """sum(score * mask) / (masks * keep), with the paper's masks and the scores computed apart."""
    x, w = some(2, 3, 12, 9), weights_of(3, 12, 9)
    done = linear(w, bias=0.5).explain(x, method="rise", masks=70, grid=4, keep=0.3, fill=0.25, centre=False, seed=6)
    masks = naive((12, 9), 4, 0.3, 70, 6).astype(np.float64)
    for sample in range(2):
        mixed = 0.25 + masks[:, None] * (x[sample] - 0.25)
        scores = (mixed * w).sum(axis=(1, 2, 3)) + 0.5
        expected = np.tensordot(scores, masks, 1) / (70 * 0.3)
        np.testing.assert_allclose(done.attribution[sample, 0], expected, rtol=1e-3, atol=1e-3)
    assert done.attribution.shape == (2, 1, 12, 9)
    assert done.record["evaluations"] == 140


@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_columns_of_a_linear_model_have_their_expected_score(keep: float) -> None:
    x, w = some(2, 6), weights_of(6)
    effect = (x * w).astype(np.float64)
    others = effect.sum(axis=1, keepdims=True) - effect
    done = linear(w, bias=0.5).explain(x, method="rise", masks=4000, keep=keep, centre=False)
    error = np.array(done.record["standard_error"])
    assert (np.abs(done.attribution - (0.5 + effect + keep * others)) < 5 * error).all()
    centred = linear(w, bias=0.5).explain(x, method="rise", masks=4000, keep=keep)
    error = np.array(centred.record["standard_error"])
    assert (np.abs(centred.attribution - (1 - keep) * effect) < 5 * error).all()


def test_standard_errors_are_the_spread_between_seeds() -> None:
    x, w = some(1, 1, 10, 10), weights_of(1, 10, 10)
    model = linear(w, bias=3.0)
    for centre in (False, True):
        runs = [model.explain(x, method="rise", masks=200, grid=4, centre=centre, seed=s) for s in range(40)]
        spread = np.std([run.attribution for run in runs], axis=0, ddof=1).mean()
        stated = np.mean([run.record["standard_error"] for run in runs])
        assert stated == pytest.approx(spread, rel=0.15)


def test_by_default_what_speaks_against_is_negative_however_high_the_score() -> None:
    """The paper's form is one colour there."""
    w = np.ones((1, 16, 16), np.float32)
    w[:, :, 8:] = -1
    model, x = linear(w, bias=500.0), np.ones((1, 1, 16, 16), np.float32)
    found = model.explain(x, method="rise", grid=4)
    assert found.record["evaluations"] == 1000
    assert found.attribution[..., :6].min() > 0 > found.attribution[..., 10:].max()
    assert model.explain(x, method="rise", grid=4, centre=False).attribution.min() > 0


def test_centring_takes_the_constants_noise_off() -> None:
    x, w = some(1, 1, 10, 10), weights_of(1, 10, 10)
    plain, centred = (
        linear(w, bias=200.0).explain(x, method="rise", masks=300, grid=4, centre=c).record["mean_standard_error"][0]
        for c in (False, True)
    )
    assert centred < plain / 10


@pytest.mark.parametrize("method", ["rise", "bubbles"])
def test_every_elements_standard_error_is_its_spread_between_seeds(method: str) -> None:
    """Kept for each element with the map, in the record and in the .npz; an element that counts varies more."""
    x, w = np.ones((2, 1, 8, 8), np.float32), np.ones((1, 8, 8), np.float32)
    model = linear(w)
    params: dict[str, Any] = {"masks": 100, "grid": 4} if method == "rise" else {"samples": 100, "count": 3}
    runs = [model.explain(x, method=method, seed=seed, **params) for seed in range(60)]
    spread = np.std([run.attribution for run in runs], axis=0, ddof=1)
    stated = np.mean([run.standard_errors["x"] for run in runs], axis=0)
    assert stated.shape == runs[0].attribution.shape
    np.testing.assert_allclose(stated, spread, rtol=0.45)
    assert np.mean(stated) == pytest.approx(np.mean(spread), rel=0.1)
    np.testing.assert_array_equal(runs[0].record["standard_error"], runs[0].standard_errors["x"])
    assert runs[0].record["mean_standard_error"][1] == pytest.approx(float(runs[0].standard_errors["x"][1].mean()))


def test_words_are_shown_or_replaced_never_blended() -> None:
    ids, w = np.array([[4, 2, 9, 0, 3, 7]]), weights_of(6)
    done = linear(w, dtype=TensorProto.INT64).explain(ids, method="rise", masks=3000, fill=1)
    error = done.record["standard_error"][0]
    assert (np.abs(done.attribution - 0.5 * (ids - 1) * w) < 5 * error).all()


def test_a_series_and_channels_last() -> None:
    w = np.zeros((2, 40), np.float32)
    w[:, 10:16] = 1.0
    done = linear(w).explain(np.ones((1, 2, 40), np.float32), method="rise", masks=800)
    assert done.attribution.shape == (1, 1, 40)
    assert 9 <= int(done.attribution[0, 0].argmax()) <= 16
    x = some(1, 12, 10, 3)
    last = linear(weights_of(12, 10, 3)).explain(x, method="rise", masks=50)
    assert last.attribution.shape == (1, 12, 10, 1)


def test_memory_is_a_few_batches() -> None:
    """4,000 masks of 64 x 64 would be 64 MiB in single precision."""
    model = linear(weights_of(1, 64, 64))
    x = some(1, 1, 64, 64)
    model.explain(x, method="rise", masks=10)
    tracemalloc.start()
    model.explain(x, method="rise", masks=4000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_a_product_shows_both_of_its_parts() -> None:
    """Only with both blocks there is a score at all."""
    nodes = [
        helper.make_node("Mul", ["x", "a"], ["xa"]), helper.make_node("Mul", ["x", "b"], ["xb"]),
        helper.make_node("ReduceSum", ["xa", "axes"], ["sa"]), helper.make_node("ReduceSum", ["xb", "axes"], ["sb"]),
        helper.make_node("Mul", ["sa", "sb"], ["p"]), helper.make_node("Flatten", ["p"], ["y"]),
    ]  # fmt: skip
    a, b = np.zeros((2, 1, 1, 16, 16), np.float32)
    a[..., 2:6, 2:6], b[..., 10:14, 8:12] = 1 / 16, 1 / 16
    weights = {"a": a, "b": b, "axes": np.array([1, 2, 3], np.int64)}
    proto = assemble(nodes, {"x": (1, ["n", 1, 16, 16])}, {"y": (1, ["n", 1])}, weights)
    x = np.ones((1, 1, 16, 16), np.float32)
    found = analyzer.load(proto, "cpu").explain(x, method="rise", masks=3000).attribution[0, 0]
    inside = (a + b)[0, 0] > 0
    assert found[inside].mean() > 4 * np.abs(found[~inside]).mean()
    assert found[a[0, 0] > 0].mean() == pytest.approx(found[b[0, 0] > 0].mean(), rel=0.3)


@pytest.mark.parametrize(
    "params",
    [{"masks": 1}, {"masks": "all"}, {"grid": 0}, {"keep": 0.0}, {"keep": 1.0}, {"keep": -1}, {"fill": "chequered"}],
)
def test_wrong_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        linear(weights_of(3, 4, 4)).explain(some(1, 3, 4, 4), method="rise", **params)
    assert caught.value.code in ("params.invalid", "fill.unknown")
