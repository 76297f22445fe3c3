"""Kernel SHAP against Shapley values in closed form and by their definition, and against plain sampling."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import analyzer
from analyzer.errors import UsageError
from analyzer.perturbation.coalitions import design_of
from tests.analyzer.methods.known import Game, five, network, products, row, row_model, shapley
from tests.analyzer.methods.linear import Array, linear, weights_of

NAMES = ("products", "largest", "tanh", "relu", "forest")


@functools.cache
def games() -> dict[str, Game]:
    """The five games by name."""
    return {game.name: game for game in five()}


def run(game: Game, samples: int, seed: int = 0) -> analyzer.Explanation:
    """Kernel SHAP of every feature."""
    return game.model.explain(game.x, method="kernel-shap", samples=samples, seed=seed)


# --- all coalitions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_all_coalitions_give_shapley_values(name: str) -> None:
    game = games()[name]
    done = run(game, 2**12)
    np.testing.assert_allclose(done.attribution[0], game.truth, rtol=0, atol=1e-6 * np.abs(game.truth).max())
    assert done.record["exact"] == [True]
    assert done.record["evaluations"] == 2**12
    assert done.record["standard_error"] == [[0.0] * 12]


@pytest.mark.parametrize("count", range(1, 11))
def test_any_number_of_features(count: int) -> None:
    game = network("Tanh", row(count, count), count)
    found = run(game, 2**count).attribution[0]
    np.testing.assert_allclose(found, game.truth, rtol=0, atol=1e-6 * np.abs(game.truth).max())


def test_the_closed_forms_are_shapley_values() -> None:
    """What the tests rest on: products and the airport game against the definition."""
    for name in ("products", "largest"):
        game = games()[name]
        np.testing.assert_allclose(game.truth, shapley(game.coalitions, 12), atol=1e-5)


# --- samples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [40, 200, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_the_sum_is_exact_from_any_sample(name: str, samples: int) -> None:
    game = games()[name]
    done = run(game, samples)
    ends = game.score(np.vstack([np.zeros_like(game.x), game.x]))
    assert done.record["sum"][0] == pytest.approx(ends[1] - ends[0], rel=1e-6)
    assert done.attribution.sum() == pytest.approx(ends[1] - ends[0], rel=1e-5)
    assert done.record["baseline_score"][0] == pytest.approx(ends[0], abs=1e-6)
    assert done.record["evaluations"] <= samples


def unpaired(game: Game, samples: int, seed: int) -> Array:
    """Kernel SHAP as first published: coalitions drawn one by one by the kernel's weight of their size."""
    rng, count = np.random.default_rng(seed), game.x.shape[1]
    sizes = np.arange(1, count)
    weight = 1 / (sizes * (count - sizes))
    present = np.zeros((samples - 2, count), bool)
    for coalition in present:
        coalition[rng.choice(count, rng.choice(sizes, p=weight / weight.sum()), replace=False)] = True
    nothing, everything = game.coalitions(np.array([[False] * count, [True] * count]))
    z, one = present.astype(float), np.ones((count, 1))
    system = np.block([[z.T @ z, one], [one.T, np.zeros((1, 1))]])
    goal = np.append(z.T @ (game.coalitions(present) - nothing), everything - nothing)
    return np.linalg.lstsq(system, goal, rcond=None)[0][:count]


def orders(game: Game, samples: int, seed: int) -> Array:
    """Plain Monte Carlo: what each feature adds in random orders."""
    rng, count = np.random.default_rng(seed), game.x.shape[1]
    turns, total = max(1, (samples - 2) // (count - 1)), np.zeros(count)
    for _ in range(turns):
        order = rng.permutation(count)
        present = np.zeros((count + 1, count), bool)
        for at, feature in enumerate(order):
            present[at + 1] = present[at]
            present[at + 1, feature] = True
        total[order] += np.diff(game.coalitions(present))
    return total / turns


@pytest.mark.parametrize("samples", [100, 500])
def test_errors_are_smaller_than_those_of_plain_sampling(samples: int) -> None:
    """At the same number of evaluations, on at least four of five models, against both plain ways."""
    better = 0
    for game in games().values():
        seeds = range(6)
        ours = np.mean([np.abs(run(game, samples, seed).attribution[0] - game.truth).mean() for seed in seeds])
        plain = [
            np.mean([np.abs(way(game, samples, s) - game.truth).mean() for s in seeds]) for way in (unpaired, orders)
        ]
        better += bool(ours < 0.8 * min(plain))
    assert better >= 4


@pytest.mark.parametrize("name", NAMES)
def test_standard_errors_are_of_the_size_of_the_errors(name: str) -> None:
    game = games()[name]
    ratios = []
    for seed in range(20):
        done = run(game, 300, seed)
        error = np.array(done.record["standard_error"][0])
        assert (error > 0).all()
        ratios.append((done.attribution[0] - game.truth) / error)
    assert 0.7 < np.sqrt(np.mean(np.square(ratios))) < 1.4
    assert np.abs(np.mean(ratios)) < 0.3


def test_a_linear_score_needs_few_samples_and_has_no_error() -> None:
    x, w = np.random.default_rng(5).standard_normal((2, 20)).astype(np.float32), weights_of(20)
    done = linear(w).explain(x, method="kernel-shap", samples=60, baseline=0.5)
    np.testing.assert_allclose(done.attribution, (x - 0.5) * w, rtol=1e-4, atol=1e-5)
    assert np.max(done.record["standard_error"]) < 1e-5


def test_pairs_cancel_what_features_do_two_by_two() -> None:
    """Interactions of two features are antisymmetric about their Shapley values: pairs take them out but for noise."""
    terms = {(i, i + 1): 1.0 for i in range(0, 14, 2)}
    game = products(terms, row(14))
    np.testing.assert_allclose(run(game, 100).attribution[0], game.truth, atol=1e-5)


def test_too_few_samples_are_said_and_still_sum_up() -> None:
    game = games()["tanh"]
    done = run(game, 8)
    assert done.record["standard_error"] == [None]
    assert any("raise samples" in note for note in done.record["notes"])
    ends = game.score(np.vstack([np.zeros_like(game.x), game.x]))
    assert done.attribution.sum() == pytest.approx(ends[1] - ends[0], rel=1e-5)


@pytest.mark.parametrize(("count", "samples"), [(3, 7), (5, 20), (6, 50), (13, 500), (14, 4000), (40, 1000), (41, 90)])
def test_the_sampled_coalitions(count: int, samples: int) -> None:
    """Complements in pairs, no coalition twice where all could be listed, weights as the kernel's mass of each size."""
    design = design_of(count, samples, seed=3)
    present = design.present[2:]
    assert len(design.present) <= samples
    assert len(design.present) >= samples - 3
    np.testing.assert_array_equal(present[::2], ~present[1::2])
    np.testing.assert_array_equal(np.minimum(present[::2].sum(1), count - present[::2].sum(1)), design.stratum)
    if count <= 14:
        assert len(np.unique(present, axis=0)) == len(present)
    for size in np.unique(design.stratum):
        mass = (count - 1) / (size * (count - size)) * (1 if 2 * size == count else 2)
        assert design.weight[np.repeat(design.stratum, 2) == size].sum() == pytest.approx(mass)
    assert ((design.undrawn >= 0) & (design.undrawn < 1)).all()


# --- segments, batches, seeds ---------------------------------------------------------------------------------------


def test_segments_of_a_picture_share_their_value() -> None:
    x, w = np.random.default_rng(6).standard_normal((2, 3, 4, 4)).astype(np.float32), weights_of(3, 4, 4)
    mask = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2], [7, 7, 7, 2]])
    done = linear(w).explain(x, method="kernel-shap", segments=mask, samples=16)
    assert done.attribution.shape == (2, 1, 4, 4)
    for value in (0, 1, 2, 7):
        inside = mask == value
        expected = (x * w)[:, :, inside].sum(axis=(1, 2))
        np.testing.assert_allclose(done.attribution[:, 0, inside], np.stack([expected] * inside.sum(), 1), rtol=1e-4)
    assert done.record["segments"] == [4, 4]
    assert done.record["evaluations"] == 32


def test_pieces_of_a_series() -> None:
    x, w = np.random.default_rng(6).standard_normal((1, 2, 16)).astype(np.float32), weights_of(2, 16)
    done = linear(w).explain(x, method="kernel-shap", segments=4, samples=16)
    expected = (x * w)[0].sum(axis=0).reshape(4, 4).sum(axis=1).repeat(4)
    np.testing.assert_allclose(done.attribution[0, 0], expected, rtol=1e-4, atol=1e-5)


def test_words() -> None:
    ids, w = np.array([[4, 2, 9, 0, 3]]), weights_of(5)
    done = linear(w, dtype=TensorProto.INT64).explain(ids, method="kernel-shap", samples=32, baseline=1)
    np.testing.assert_allclose(done.attribution, (ids - 1) * w, rtol=1e-5)


def test_a_baseline_can_be_an_array() -> None:
    x, w = np.random.default_rng(5).standard_normal((2, 6)).astype(np.float32), weights_of(6)
    start = np.arange(6, dtype=np.float32)
    done = linear(w).explain(x, method="kernel-shap", baseline=start)
    np.testing.assert_allclose(done.attribution, (x - start) * w, rtol=1e-4, atol=1e-5)


def test_seeds_decide() -> None:
    game = games()["relu"]
    first, again, other = (run(game, 100, seed).attribution for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_progress_counts_evaluations() -> None:
    steps: list[tuple[int, int]] = []
    x = np.ones((2, 6), np.float32)
    linear(weights_of(6)).explain(x, method="kernel-shap", samples=20, progress=lambda at, of: steps.append((at, of)))
    assert [at for at, _ in steps] == list(range(1, steps[-1][1] + 1))
    assert steps[-1][1] == 40


@pytest.mark.parametrize(
    "params",
    [{"samples": 1}, {"samples": "many"}, {"segments": "hexagons"}, {"segments": 0}, {"baseline": "chequered"}],
)
def test_wrong_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        linear(weights_of(3, 4, 4)).explain(np.ones((1, 3, 4, 4), np.float32), method="kernel-shap", **params)
    assert caught.value.code.partition(".")[0] in ("params", "segments", "fill")


def test_a_score_that_ignores_the_input_has_no_shapley_values() -> None:
    from onnx import helper

    nodes = [helper.make_node("Mul", ["x", "none"], ["z"]), helper.make_node("ReduceSum", ["z", "axis"], ["y"])]
    weights = {"none": np.zeros(1, np.float32), "axis": np.array([1], np.int64)}
    done = row_model(nodes, 9, weights).explain(row(9), method="kernel-shap", samples=60)
    np.testing.assert_array_equal(done.attribution, 0)
