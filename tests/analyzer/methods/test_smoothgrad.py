"""SmoothGrad against expectations in closed form: a score whose slope is linear in the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

import analyzer
from tests.common.models import assemble


def parabola() -> analyzer.Model:
    """The sum of 1.5 x ** 2: its slope is 3 x."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squares"]), helper.make_node("Mul", ["squares", "half"], ["z"]),
        helper.make_node("ReduceSum", ["z", "axes"], ["y"], keepdims=1),
    ]  # fmt: skip
    weights: dict[str, Any] = {"half": np.array([1.5], np.float32), "axes": np.array([1], np.int64)}
    return analyzer.load(assemble(nodes, {"x": (1, ["n", 5])}, {"y": (1, ["n", 1])}, weights), "cpu", threads=1)


X = np.array([[1.0, -2.0, 0.5, 3.0, 0.0]], np.float32)


@pytest.mark.parametrize("reduce", ["mean", "square", "variance"])
def test_reductions_are_moments_of_the_noisy_slopes(reduce: str) -> None:
    """Slopes 3 (x + s e): mean 3 x, variance 9 s ** 2, mean square their sum; s is a fraction of max - min, here 5."""
    done = parabola().explain(X, "smoothgrad", samples=4000, noise=0.04, reduce=reduce)
    sigma = 3 * 0.04 * 5
    expected = {"mean": 3 * X, "square": 9 * X**2 + sigma**2, "variance": np.full_like(X, sigma**2)}[reduce]
    np.testing.assert_allclose(done.attribution, expected, atol=5 * sigma * (6 * np.abs(X).max() + 1) / np.sqrt(4000))
    assert done.signed == (reduce == "mean")


def test_the_default_is_the_mean_square_at_little_noise_and_has_no_sign() -> None:
    done = parabola().explain(X, "smoothgrad")
    assert (done.params["reduce"], done.params["noise"], done.params["samples"]) == ("square", 0.05, 50)
    assert not done.signed
    assert done.attribution.min() >= 0
    assert not parabola().explain(X, "smoothgrad", base="saliency", reduce="mean", samples=2).signed
