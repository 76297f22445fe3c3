"""Bubbles against masks made one by one, numpy's correlation, planted regions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from analyzer.errors import UsageError
from analyzer.methods.perturbation.bubbles import gaussian_windows
from tests.analyzer.methods.linear import Array, linear, weights_of


def naive(sides: tuple[int, ...], count: int, widths: tuple[float, ...], n: int, seed: int) -> Array:
    """Sums of Gaussian windows, cut off at 1, element by element."""
    rng, masks = np.random.default_rng(seed), []
    for _ in range(n):
        centres = rng.random((len(sides), count))
        mask = np.zeros(sides)
        for bubble in range(count):
            away: Any = 0.0
            for axis, (index, side) in enumerate(zip(np.indices(sides), sides, strict=True)):
                away = away + ((index - (centres[axis, bubble] * side - 0.5)) / widths[axis]) ** 2
            mask += np.exp(-away / 2)
        masks.append(np.minimum(mask, 1))
    return np.stack(masks)


@pytest.mark.parametrize(("sides", "widths"), [((9, 14), (2.0, 1.0)), ((30,), (3.0,)), ((4, 5, 6), (1.0, 1.0, 2.0))])
def test_masks_are_sums_of_windows(sides: tuple[int, ...], widths: tuple[float, ...]) -> None:
    masks = gaussian_windows(sides, 4, widths)(np.random.default_rng(3), 5)
    np.testing.assert_allclose(masks, naive(sides, 4, widths, 5, 3), atol=1e-5)
    rng = np.random.default_rng(3)
    parts = [gaussian_windows(sides, 4, widths)(rng, n) for n in (2, 3)]
    np.testing.assert_allclose(np.concatenate(parts), masks, atol=1e-7)


def test_the_map_is_the_correlation_of_score_and_mask() -> None:
    x, w = np.random.default_rng(1).standard_normal((2, 3, 10, 8)).astype(np.float32), weights_of(3, 10, 8)
    done = linear(w).explain(x, method="bubbles", samples=150, count=3, sigma=1.5, fill=0.1, seed=8)
    masks = naive((10, 8), 3, (1.5, 1.5), 150, 8)
    for sample in range(2):
        scores = ((0.1 + masks[:, None] * (x[sample] - 0.1)) * w).sum(axis=(1, 2, 3))
        expected = [np.corrcoef(scores, m)[0, 1] for m in masks.reshape(150, -1).T]
        np.testing.assert_allclose(done.attribution[sample].ravel(), expected, atol=2e-4)
    assert done.attribution.shape == (2, 1, 10, 8)
    assert done.record["evaluations"] == 300
    assert done.record["mean_standard_error"] == pytest.approx([1 / np.sqrt(148)] * 2, rel=0.2)


def test_what_speaks_for_and_against_is_found() -> None:
    w = np.zeros((1, 24, 24), np.float32)
    w[0, 3:8, 3:8], w[0, 15:20, 14:19] = 1.0, -1.0
    found = linear(w).explain(np.ones((1, 1, 24, 24), np.float32), method="bubbles", samples=1500, count=4).attribution
    assert w.ravel()[found.argmax()] == 1
    assert w.ravel()[found.argmin()] == -1
    assert abs(float(found[0, 0, 3:8, 15:20].mean())) < 0.3 * float(found[0, 0, 3:8, 3:8].mean())


def test_a_series() -> None:
    w = np.zeros((2, 60), np.float32)
    w[:, 20:26] = 1.0
    done = linear(w).explain(np.ones((1, 2, 60), np.float32), method="bubbles", samples=500, count=3)
    assert done.attribution.shape == (1, 1, 60)
    assert 19 <= int(done.attribution.argmax()) <= 26


def test_a_constant_score_correlates_with_nothing() -> None:
    done = linear(np.zeros((1, 8, 8), np.float32)).explain(np.ones((1, 1, 8, 8), np.float32), method="bubbles")
    np.testing.assert_array_equal(done.attribution, 0)


def test_words_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        linear(weights_of(5), dtype=TensorProto.INT64).explain(np.array([[4, 2, 9, 0, 3]]), method="bubbles")
    assert caught.value.code == "method.unsuitable"


@pytest.mark.parametrize(
    "params",
    [{"samples": 2}, {"count": 0}, {"sigma": 0.0}, {"sigma": -2.0}, {"sigma": float("inf")}, {"fill": "chequered"}],
)
def test_wrong_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        linear(weights_of(3, 4, 4)).explain(np.ones((1, 3, 4, 4), np.float32), method="bubbles", **params)
    assert caught.value.code in ("params.invalid", "params.nonfinite", "fill.unknown")
