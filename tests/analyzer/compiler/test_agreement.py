"""Whether a compiled model's relevance counts as the torch backend's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analyzer.compiler import agreement
from analyzer.compiler.decompositions.derivatives import expm1, log1p
from analyzer.errors import ParityError

WANT = {"x": np.array([[1.0, -2.0, 1.0]])}


def test_what_moved_is_relative_to_all_relevance() -> None:
    assert agreement.relative_difference(WANT, WANT) == 0
    assert agreement.relative_difference({"x": np.array([[1.0, -2.0, 1.4]])}, WANT) == pytest.approx(0.1)
    assert agreement.relative_difference({"x": np.zeros((1, 3))}, {"x": np.zeros((1, 3))}) == 0
    for other in (np.zeros((1, 2)), np.array([[np.nan, -2.0, 1.0]])):
        assert agreement.relative_difference({"x": other}, WANT) == float("inf")
    assert agreement.relative_difference({"x": np.ones((1, 3))}, {"x": np.zeros((1, 3))}) == float("inf")


def test_rounding_of_the_torch_backend_is_the_measure_where_it_moves_more() -> None:
    got = {"x": WANT["x"] * 1.05}

    def far() -> dict[str, np.ndarray]:
        return {"x": WANT["x"] * 1.02}

    agreement.require("m", got, WANT, far, "hint")
    with pytest.raises(ParityError) as caught:
        agreement.require("m", got, WANT, lambda: WANT, "hint")
    assert caught.value.code == "compile.mismatch"
    with pytest.raises(ParityError):  # relevance that is noise proves nothing
        agreement.require("m", {"x": -WANT["x"]}, WANT, lambda: {"x": -WANT["x"]}, "hint")


def test_near_relevance_needs_no_second_look() -> None:
    def never() -> dict[str, np.ndarray]:
        raise AssertionError

    agreement.require("m", {"x": WANT["x"] * 1.001}, WANT, never, "hint")


def test_shaken_inputs_differ_in_their_last_digits() -> None:
    inputs = {"x": np.random.default_rng(1).standard_normal((2, 50)).astype(np.float32), "ids": np.arange(4)}
    got = agreement.with_rounding_noise(inputs)
    assert got["x"].dtype == np.float32
    assert 0 < np.abs(got["x"] / inputs["x"] - 1).max() < 1e-5
    np.testing.assert_array_equal(got["ids"], inputs["ids"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logarithm_and_exponential_are_exact_near_zero(dtype: torch.dtype) -> None:
    size = torch.logspace(-30, 0.3, 4000, dtype=torch.float64)
    x = torch.cat([size, -size[size < 0.99], torch.zeros(1, dtype=torch.float64)]).to(dtype)
    for made, exact in ((log1p, torch.log1p), (expm1, torch.expm1)):
        want = exact(x.double())
        gap = (made(x).double() - want).abs() / want.abs().clamp(min=1e-300)
        assert gap.max() <= 4 * torch.finfo(dtype).eps


def test_logarithm_and_exponential_at_the_ends() -> None:
    ends = torch.tensor([-1.0, 0.0, float("inf")])
    assert log1p(ends).tolist() == [float("-inf"), 0.0, float("inf")]
    assert expm1(torch.tensor([-1000.0, 0.0, 1000.0])).tolist() == [-1.0, 0.0, float("inf")]
