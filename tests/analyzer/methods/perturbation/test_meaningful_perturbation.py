"""Learned masks against models whose smallest sufficient region is known, numerical derivatives and torch's Adam."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import UsageError
from analyzer.methods.perturbation.meaningful_perturbation import Adam, multiplied, roughness
from tests.analyzer.methods.linear import Array, linear, weights_of
from tests.common.models import assemble


def region_model(region: Array, bump: str = "Identity") -> analyzer.Model:
    """The mean over a region of a sample, then an activation."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["z"]),
        helper.make_node(bump, ["z"], ["y"]),
    ]
    weights = {"w": (region / np.abs(region).sum()).astype(np.float32).reshape(-1, 1)}
    proto = assemble(nodes, {"x": (1, ["n", *region.shape])}, {"y": (1, ["n", 1])}, weights)
    return analyzer.load(proto, "cpu", threads=1)


# --- the parts ------------------------------------------------------------------------------------------------------


def test_adam_is_torchs() -> None:
    import torch

    start = np.random.default_rng(0).standard_normal(7)
    here, there = start.copy(), torch.tensor(start, requires_grad=True)
    ours, theirs = Adam(0.1), torch.optim.Adam([there], lr=0.1, eps=1e-3)
    for _ in range(30):
        here = here - ours.step(4 * here**3 + 1)
        theirs.zero_grad()
        (there**4 + there).sum().backward()
        theirs.step()
    np.testing.assert_allclose(here, there.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("shape", [(2, 6), (1, 4, 5), (2, 3, 2, 4)])
def test_roughness_is_the_derivative_of_cubed_steps(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(1).random(shape)

    def price(values: Array) -> float:
        return float(sum((np.abs(np.diff(values, axis=axis)) ** 3).sum() for axis in range(1, values.ndim)))

    found = roughness(mask)
    for index in np.ndindex(*shape):
        step = np.zeros(shape)
        step[index] = 1e-5
        assert found[index] == pytest.approx((price(mask + step) - price(mask - step)) / 2e-5, abs=1e-8)


def test_enlarging_and_its_transpose_are_adjoint() -> None:
    rng = np.random.default_rng(2)
    matrices = [rng.random((9, 4)), rng.random((7, 3))]
    small, large = rng.random((2, 4, 3)), rng.random((2, 9, 7))
    direct = np.einsum("ai,bj,nij->nab", *matrices, small)
    np.testing.assert_allclose(multiplied(small, matrices), direct)
    assert (multiplied(small, matrices) * large).sum() == pytest.approx(
        (small * multiplied(large, [m.T for m in matrices])).sum()
    )


# --- the method -----------------------------------------------------------------------------------------------------


def away(region: Array, by: int) -> Array:
    """What lies further than ``by`` elements from a region of a picture."""
    near = np.pad(region != 0, by)
    views = np.lib.stride_tricks.sliding_window_view(near, (2 * by + 1, 2 * by + 1))
    return ~views.any(axis=(2, 3))


def test_a_planted_region_is_removed_and_nothing_else() -> None:
    region = np.zeros((1, 32, 32))
    region[0, 8:16, 16:28] = 1.0
    x = np.ones((1, 1, 32, 32), np.float32)
    done = region_model(region).explain(
        x, method="meaningful-perturbation", fill=0.0, steps=200, grid=32, jitter=0.0, tv=0.0
    )
    found = done.attribution[0, 0]
    assert found[region[0] > 0].min() > 0.8
    np.testing.assert_array_equal(found[region[0] == 0], 0)


def test_a_coarse_mask_finds_a_region_up_to_two_cells() -> None:
    """Cells of 4 x 4 that reach one cell further, a shift of one element in each step."""
    region = np.zeros((1, 32, 32))
    region[0, 8:16, 16:28] = 1.0
    x = np.ones((1, 1, 32, 32), np.float32)
    done = region_model(region).explain(x, method="meaningful-perturbation", fill=0.0, steps=150)
    found = done.attribution[0, 0]
    assert found[region[0] > 0].mean() > 0.8
    assert found[away(region[0], 9)].max() < 0.05
    assert done.record["score_before"] == pytest.approx([1.0], rel=1e-5)
    assert done.record["score_filled"] == pytest.approx([0.0], abs=1e-6)
    assert done.record["score_after"][0] < 0.2
    assert done.raw.shape == (1, 1, 8, 8)


def test_blurring_removes_detail_alone() -> None:
    """A score of a fine pattern falls by blurring it; the flat rest doesn't change by blurring and stays."""
    pattern = np.zeros((1, 32, 32))
    pattern[0, 4:16, 4:16] = np.indices((12, 12)).sum(axis=0) % 2 * 2 - 1
    x = pattern[None].astype(np.float32)
    done = region_model(pattern).explain(x, method="meaningful-perturbation", steps=150)
    inside = pattern[0] != 0
    found = done.attribution[0, 0]
    assert found[inside].mean() > 0.8
    assert found[away(pattern[0], 9)].max() < 0.05
    assert done.record["score_after"][0] < 0.25 * done.record["score_before"][0]


def test_columns_that_speak_against_are_kept() -> None:
    x, w = np.ones((2, 6), np.float32), np.array([3.0, -2.0, 0.0, 3.0, -2.0, 0.0], np.float32)
    done = linear(w, bias=0.0).explain(x, method="meaningful-perturbation", steps=150, tv=0.0)
    np.testing.assert_array_equal(done.attribution[:, [1, 2, 4, 5]], 0)
    assert (done.attribution[:, [0, 3]] > 0.1).all()
    assert (np.array(done.record["score_after"]) < 0.3).all()


def test_a_higher_price_removes_less() -> None:
    rng = np.random.default_rng(3)
    x, w = np.ones((1, 12), np.float32), rng.uniform(0.1, 2, 12).astype(np.float32)
    removed = []
    for price in (0.0, 0.6, 1.5, 100.0):
        done = linear(w).explain(x, method="meaningful-perturbation", l1=price, tv=0.0, steps=150)
        removed.append(done.record["removed"][0])
    assert removed[0] > removed[1] > removed[2] > removed[3] == 0
    # what is worth its price goes: with no stop at the filled score, w * 12 / sum(w) > price
    done = linear(w).explain(x, method="meaningful-perturbation", l1=1.5, tv=0.0, steps=300)
    worth = w * 12 / w.sum()
    np.testing.assert_array_equal(done.attribution[0] > 0.9, worth > 1.5)


def test_roughness_costs() -> None:
    region = np.random.default_rng(0).random((1, 16, 16)) > 0.5
    x = np.ones((1, 1, 16, 16), np.float32)
    rough, smooth = (
        region_model(region.astype(float)).explain(
            x, method="meaningful-perturbation", fill=0.0, tv=tv, steps=100, grid=16, jitter=0.0
        ).attribution[0, 0]
        for tv in (0.0, 20.0)
    )  # fmt: skip
    assert np.abs(np.diff(smooth, axis=0)).max() < 0.6 * np.abs(np.diff(rough, axis=0)).max()


def test_a_piece_of_a_series() -> None:
    region = np.zeros((2, 48))
    region[:, 12:24] = 1.0
    x = np.ones((1, 2, 48), np.float32)
    done = region_model(region, "Tanh").explain(x, method="meaningful-perturbation", fill=0.0, steps=150)
    assert done.attribution.shape == (1, 1, 48)
    assert done.attribution[0, 0, 13:23].min() > 0.6
    assert done.attribution[0, 0, :4].max() < 0.05
    assert done.attribution[0, 0, 32:].max() < 0.05


def test_words_are_removed_at_their_embedding() -> None:
    table = np.zeros((10, 4), np.float32)
    table[7] = 1.0
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("ReduceSum", ["e", "axes"], ["s"], keepdims=0),
        helper.make_node("Reshape", ["s", "shape"], ["y"]),
    ]
    weights = {"table": table, "axes": np.array([1, 2], np.int64), "shape": np.array([-1, 1], np.int64)}
    proto = assemble(nodes, {"ids": (TensorProto.INT64, ["n", 5])}, {"y": (1, ["n", 1])}, weights)
    ids = np.array([[1, 7, 3, 7, 2], [7, 1, 1, 2, 3]])
    done = analyzer.load(proto, "cpu").explain(ids, method="meaningful-perturbation", steps=100, tv=0.0)
    np.testing.assert_array_equal(done.attribution[ids != 7], 0)
    assert (done.attribution[ids == 7] > 0.5).all()


def test_a_fill_that_changes_nothing_is_said() -> None:
    x = np.zeros((1, 1, 8, 8), np.float32)
    done = linear(weights_of(1, 8, 8)).explain(x, method="meaningful-perturbation", fill=0.0, steps=5)
    np.testing.assert_array_equal(done.attribution, 0)
    assert any("another fill" in note for note in done.record["notes"])


def test_a_fill_that_changes_nothing_as_a_whole_but_in_part_is_said_with_what_came_of_it() -> None:
    """Half of the columns speak for, half against: all together nothing changes, and yet the score falls to nothing."""
    x, w = np.ones((2, 8), np.float32), np.repeat([2.0, -2.0], 4).astype(np.float32)
    x[1, 7] = 0.5
    done = linear(w, bias=8.0).explain(x, method="meaningful-perturbation", steps=100, tv=0.0)
    (note,) = done.record["notes"]
    before, after = done.record["score_before"], done.record["score_after"]
    assert before[0] == done.record["score_filled"][0] == 8
    assert after[0] < 2  # all that speaks for it is removed
    assert f"of sample 0; replacing what the mask removes takes it from 8 to {after[0]:.4g}" in note
    assert (done.attribution[0, :4] > 0.5).all()
    np.testing.assert_array_equal(done.attribution[0, 4:], 0)


def test_what_counts_more_is_removed_earlier_and_ranks_higher() -> None:
    """Of what a mask removes as a whole the map keeps the order: the mean over the steps."""
    x, w = np.ones((1, 8), np.float32), np.array([8.0, 4, 2, 1.5, 0, 0, 0, 0], np.float32)
    found = linear(w).explain(x, method="meaningful-perturbation", l1=0.3, tv=0.0, rate=0.02).attribution[0]
    assert (np.diff(found[:4]) <= 0).all()
    np.testing.assert_array_equal(found[4:], 0)


def test_no_fill_that_changes_something_is_said_to_change_nothing() -> None:
    region = np.zeros((4, 4), np.float32)
    region[1:3, 1:3] = 1
    x = np.linspace(0.5, 3, 64, dtype=np.float32)[:, None, None] * np.ones((64, 4, 4), np.float32)
    found = region_model(region).explain(x, method="meaningful-perturbation", target=0, fill=0, steps=1)
    assert not found.record["notes"]  # a change times one over it is 1 - eps / 2 for some changes


def test_seeds_decide_where_the_mask_is_shifted() -> None:
    x, w = np.random.default_rng(0).standard_normal((1, 1, 32, 32)).astype(np.float32), weights_of(1, 32, 32)
    first, again, other = (
        linear(w).explain(x, method="meaningful-perturbation", steps=20, jitter=0.1, seed=seed).attribution
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "params",
    [{"steps": 0}, {"grid": 0}, {"rate": 0.0}, {"l1": -1.0}, {"tv": -1.0}, {"jitter": 1.0}, {"fill": "chequered"}],
)
def test_wrong_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        linear(weights_of(3, 4, 4)).explain(
            np.ones((1, 3, 4, 4), np.float32), method="meaningful-perturbation", **params
        )
    assert caught.value.code in ("params.invalid", "fill.unknown")
