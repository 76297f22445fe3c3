"""Fills: closed forms, per-sample independence, faults."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analyzer.errors import UsageError
from analyzer.inputs import fill

X = np.random.default_rng(0).normal(3, 2, (2, 3, 16, 20)).astype(np.float32)


def test_numbers_and_arrays():
    assert (fill(X, 0) == 0).all() and (fill(X, "zero") == 0).all() and (fill(X, "-1.5") == -1.5).all()
    per_channel = np.array([1, 2, 3])[:, None, None]
    got = fill(X, per_channel)
    assert np.array_equal(got[1, :, 4, 5], [1, 2, 3]) and got.dtype == np.float32 and got.shape == X.shape
    got[0, 0, 0, 0] = 9  # its own memory
    assert got[0, 0, 0, 1] == 1


def test_mean_is_per_sample_and_channel():
    got = fill(X, "mean")
    for sample in range(2):
        for channel in range(3):
            np.testing.assert_allclose(got[sample, channel], X[sample, channel].astype(np.float64).mean(), rtol=1e-6)
    last = fill(np.moveaxis(X, 1, -1), "mean", layout="HWC")
    np.testing.assert_allclose(np.moveaxis(last, -1, 1), got, rtol=1e-6)
    rows = fill(X[:, 0, 0], "mean")
    np.testing.assert_allclose(rows, np.broadcast_to(X[:, 0, 0].mean(axis=1, keepdims=True), rows.shape), rtol=1e-5)


def gauss(values: np.ndarray, sigma: float, axis: int) -> np.ndarray:
    """A truncated Gaussian with the border value repeated, tap by tap."""
    radius = int(4 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    total = np.zeros(values.shape, np.float64)
    for offset, weight in zip(range(-radius, radius + 1), taps, strict=True):
        index = np.clip(np.arange(values.shape[axis]) + offset, 0, values.shape[axis] - 1)
        total += weight * np.take(values, index, axis=axis)
    return total


@pytest.mark.parametrize(("how", "fraction"), [("blur", 0.1), ("blur:0.05", 0.05)])
def test_blur_against_tap_by_tap(how: str, fraction: float):
    expected = gauss(gauss(X.astype(np.float64), fraction * 16, 2), fraction * 20, 3)
    np.testing.assert_allclose(fill(X, how), expected, rtol=1e-4, atol=1e-4)
    last = fill(np.moveaxis(X, 1, -1), how, layout="HWC")
    np.testing.assert_allclose(np.moveaxis(last, -1, 1), expected, rtol=1e-4, atol=1e-4)
    row = fill(X[:, 0, 0], how)
    np.testing.assert_allclose(row, gauss(X[:, 0, 0].astype(np.float64), fraction * 20, 1), rtol=1e-4, atol=1e-4)


def test_noise_has_the_samples_moments_and_a_seed():
    wide = np.random.default_rng(1).normal([[[[4]], [[-2]]]], [[[[0.5]], [[3]]]], (1, 2, 100, 100))
    got = fill(wide, "noise")
    np.testing.assert_allclose(got.mean(axis=(2, 3)), wide.mean(axis=(2, 3)), atol=0.15)
    np.testing.assert_allclose(got.std(axis=(2, 3)), wide.std(axis=(2, 3)), rtol=0.05)
    assert np.array_equal(got, fill(wide, "noise", seed=0)) and not np.array_equal(got, fill(wide, "noise", seed=1))


@settings(max_examples=60, deadline=None)
@given(
    x=hnp.arrays(
        st.sampled_from([np.float32, np.float16, np.int64, np.uint8]),
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=6),
        elements=st.integers(0, 100),
    ),
    how=st.sampled_from([0, 1.5, "zero", "mean", "blur", "noise", "blur:1"]),
    layout=st.sampled_from(["CHW", "HWC"]),
)
def test_no_sample_depends_on_its_batch(x, how, layout):
    filled = fill(x, how, layout=layout)
    assert filled.shape == x.shape and filled.dtype == np.float32 and np.isfinite(filled).all()
    for index in range(len(x)):
        np.testing.assert_allclose(
            fill(x[index : index + 1], how, layout=layout)[0], filled[index], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    ("how", "code", "word"),
    [
        ("blurr", "fill.unknown", "'blur'"),
        ("mean:3", "fill.unknown", "allowed"),
        ("blur:0", "fill.unknown", "fraction"),
        ("blur:x", "fill.unknown", "fraction"),
        ("", "fill.unknown", "allowed"),
        (np.zeros((5, 5)), "fill.bad_shape", "(5, 5)"),
        (np.zeros((7, 2, 3, 16, 20)), "fill.bad_shape", "broadcast"),
        (float("nan"), "fill.nonfinite", "NaN"),
        ("inf", "fill.nonfinite", "infinite"),
    ],
)
def test_faults(how, code: str, word: str):
    with pytest.raises(UsageError) as caught:
        fill(X, how)
    assert caught.value.code == code and word in str(caught.value)
