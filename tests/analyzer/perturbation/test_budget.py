"""Budgets and standard errors at which random methods stop: what was run, why it ended, what came out."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import UsageError
from analyzer.methods.perturbation.lime import Surrogate
from analyzer.perturbation.budget import Budget, Progress, SequentialSampling, relative_error
from analyzer.perturbation.coalitions import design_of
from tests.analyzer.methods.known import forest, network, row
from tests.analyzer.methods.linear import Array, linear, weights_of
from tests.common.models import assemble

RANDOM = (("rise", "masks"), ("bubbles", "samples"), ("lime", "samples"), ("kernel-shap", "samples"))


def some(*shape: int, seed: int = 9) -> Array:
    """A batch of values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- the budget itself ----------------------------------------------------------------------------------------------


@given(
    draws=st.integers(2, 5000),
    budget=st.none() | st.integers(2, 5000),
    cost=st.integers(1, 30),
    standard_error=st.none() | st.floats(0.01, 0.9),
)
def test_checkpoints_grow_up_to_what_is_allowed(
    draws: int, budget: int | None, cost: int, standard_error: float | None
) -> None:
    if budget is not None and budget // cost < 2:
        with pytest.raises(UsageError):
            Budget.of(draws, budget, standard_error, cost=cost)
        return
    limits = Budget.of(draws, budget, standard_error, cost=cost)
    checkpoints = limits.checkpoints()
    assert checkpoints[-1] == limits.draws <= draws
    assert all(a < b for a, b in itertools.pairwise(checkpoints))
    assert len(checkpoints) == 1 or standard_error is not None
    assert budget is None or limits.draws * cost <= budget
    assert limits.limited == (limits.draws < draws)


def test_the_share_of_the_range() -> None:
    assert relative_error(np.array([[1.0, 5.0]]), np.array([[0.1, 0.4]])) == pytest.approx(0.1)
    assert relative_error(np.array([2.0, 2.0]), np.zeros(2)) == 0
    assert relative_error(np.array([2.0, 2.0]), np.array([0.0, 0.1])) == np.inf


def test_each_sample_stops_at_its_own_error_and_the_total_shrinks() -> None:
    """Errors fall with the root of the draws, from a start of its own for each sample."""
    calls: list[tuple[int, int]] = []
    limits = Budget(400, cost=3, standard_error=0.1)
    sampling = SequentialSampling(limits, [400] * 3, lambda *call: calls.append(call))
    values, starts = np.array([0.0, 1.0]), (0.5, 1.0, 100.0)
    for start in starts:
        done = 0

        def after(draws: int, start: float = start) -> tuple[Array, Array]:
            nonlocal done
            list(sampling.progress.counted([0.0] * (draws - done)))
            done = draws
            return values, np.full(1, start / np.sqrt(draws))

        np.testing.assert_array_equal(sampling.estimate(after), values)
        ends = [draws for draws in limits.checkpoints() if start / np.sqrt(draws) <= 0.1]
        assert done == (ends[0] if ends else 400)
    record = sampling.record()
    assert record["stopped"] == ["standard error", "standard error", "all samples"]
    assert record["standard_error"] == [[error] for error in record["relative_error"]]
    assert record["mean_standard_error"] == record["relative_error"]
    assert calls[-1] == (record["evaluations"],) * 2
    assert calls[0] == (3, 3600)


def test_without_standard_errors_all_draws_are_taken() -> None:
    sampling = SequentialSampling(Budget(90, limited=True, standard_error=0.5), [90], lambda done, total: None)
    seen: list[int] = []
    sampling.estimate(lambda draws: (np.ones(2), seen.append(draws)), first=70)  # type: ignore[func-returns-value]
    assert seen == [70, 77, 84, 90]
    record = sampling.record()
    assert (record["standard_error"], record["relative_error"], record["stopped"]) == ([None], [None], ["budget"])


def test_progress_reports_each_mask_once() -> None:
    calls: list[tuple[int, int]] = []
    progress = Progress(12, lambda *call: calls.append(call), cost=2)
    for masks in (2, 1, 4, 3, 6):
        progress.reach(masks)
    assert calls == [(done, 12) for done in range(2, 13, 2)]


@pytest.mark.parametrize("given_", [{"budget": 1}, {"budget": 0}, {"standard_error": 0.0}, {"standard_error": 1.0}])
@pytest.mark.parametrize("method", [method for method, _ in RANDOM])
def test_wrong_limits_are_refused(method: str, given_: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        linear(weights_of(1, 8, 8)).explain(some(1, 1, 8, 8), method=method, **given_)
    assert caught.value.code == "params.invalid"


# --- random methods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "count"), RANDOM)
def test_a_budget_is_as_many_samples(method: str, count: str) -> None:
    x, model = some(2, 1, 12, 12), linear(weights_of(1, 12, 12))
    limited = model.explain(x, method=method, budget=90, seed=3)
    plain = model.explain(x, method=method, seed=3, **{count: 90})
    np.testing.assert_array_equal(limited.attribution, plain.attribution)
    assert limited.record["evaluations"] == plain.record["evaluations"] == 180
    assert limited.record["stopped"] == ["budget"] * 2
    assert plain.record["stopped"] == ["all samples"] * 2


@pytest.mark.parametrize(("method", "count"), RANDOM)
def test_it_stops_where_the_error_is_small_enough(method: str, count: str) -> None:
    x, model = some(2, 1, 12, 12), linear(weights_of(1, 12, 12))
    if method == "kernel-shap":
        model = saturating(1, 12, 12)
    more: dict[str, Any] = {"centre": True} if method == "rise" else {}
    if method in ("lime", "kernel-shap"):
        more["segments"] = "grid:3"
    calls: tuple[list[tuple[int, int]], ...] = [], []
    runs = [
        model.explain(
            x,
            method=method,
            standard_error=0.15,
            progress=lambda *now, to=to: to.append(now),
            **more,
            **{count: 20_000},
        )
        for to in calls
    ]
    for run in runs:
        assert run.record["stopped"] == ["standard error"] * 2
        assert max(run.record["relative_error"]) <= 0.15
        assert run.record["evaluations"] < 2 * 20_000
    np.testing.assert_array_equal(runs[0].attribution, runs[1].attribution)
    done = [at for at, _ in calls[0]]
    assert done == sorted(done)
    assert done[-1] == runs[0].record["evaluations"]
    totals = [total for _, total in calls[0]]
    assert all(a >= b for a, b in itertools.pairwise(totals))
    assert all(at <= total for at, total in calls[0])
    small = model.explain(x, method=method, standard_error=0.001, budget=100, **more)
    assert small.record["stopped"] == ["budget"] * 2
    assert small.record["evaluations"] <= 200


def test_rise_that_stopped_equals_so_many_masks() -> None:
    x, model = some(1, 1, 12, 12), linear(weights_of(1, 12, 12))
    stopped = model.explain(x, method="rise", standard_error=0.2)
    plain = model.explain(x, method="rise", masks=stopped.record["evaluations"])
    np.testing.assert_allclose(stopped.attribution, plain.attribution, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["rise", "lime", "kernel-shap"])
def test_the_error_at_the_stop_is_the_true_one(method: str) -> None:
    """Over seeds, what is off at the stop is as large as the record says."""
    w, x = weights_of(8), some(1, 8)
    model, more = linear(w), {"alpha": 1e-9} if method == "lime" else {}
    truth = w * x
    if method == "rise":
        more, truth = {"masks": 50_000}, 0.5 * truth
    else:
        game = network("Tanh", row(8, 2), 5)
        model, x, truth = game.model, game.x, game.truth[None]
    if method == "lime":  # the fit's own expectation, from far more copies than any run below takes
        truth = model.explain(x, method="lime", samples=200_000, seed=99, **more).attribution
    misses = []
    for seed in range(30):
        limit = {"samples": 250} if method == "kernel-shap" else {} if method == "rise" else {"samples": 50_000}
        done = model.explain(x, method=method, standard_error=0.06, seed=seed, **more, **limit)
        assert done.record["stopped"] == ["standard error"]
        errors = np.array(done.record["relative_error"][0]) * np.ptp(done.attribution)
        misses.append(np.sqrt(np.mean((done.attribution - truth) ** 2)) / errors)
    assert 0.5 < np.sqrt(np.mean(np.square(misses))) < 1.25  # the root mean square over elements is below the largest


def saturating(*shape: int) -> Any:
    """A model that isn't additive, so that Shapley values of samples have an error."""

    w = weights_of(int(np.prod(shape)), 6, seed=3) / np.sqrt(np.prod(shape)) * 2
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["z"]),
        helper.make_node("Relu", ["z"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]  # fmt: skip
    weights = {"w": w.astype(np.float32), "v": weights_of(6, 1, seed=4)}
    proto = assemble(nodes, {"x": (TensorProto.FLOAT, ["n", *shape])}, {"y": (TensorProto.FLOAT, ["n", 1])}, weights)
    return analyzer.load(proto, "cpu", threads=1)


@pytest.mark.parametrize("count", [3, 7, 12, 30])
def test_smaller_designs_lie_in_larger_ones(count: int) -> None:
    full = design_of(count, 900, 5)
    everything = {row.tobytes() for row in full.present}
    for samples in (20, 60, 200, 500):
        part = design_of(count, samples, 5, full)
        assert len(part.present) <= samples or part.complete
        assert {row.tobytes() for row in part.present} <= everything


def test_kernel_shap_runs_no_coalition_twice_and_keeps_to_its_budget() -> None:
    game = forest(row(12), 4)
    done = game.model.explain(game.x, method="kernel-shap", samples=600, standard_error=1e-6)
    assert done.record["evaluations"] <= 600
    plain = game.model.explain(game.x, method="kernel-shap", samples=600)
    np.testing.assert_allclose(done.attribution, plain.attribution, atol=1e-6)


# --- lime's errors --------------------------------------------------------------------------------------------------


def test_limes_standard_errors_are_the_spread_between_draws() -> None:
    rng = np.random.default_rng(0)
    w, pairs = rng.standard_normal(7), rng.standard_normal((7, 7))
    surrogate = Surrogate(0.5, 1.0)
    found, stated = [], []
    for seed in range(300):
        present = np.random.default_rng(seed).integers(0, 2, (200, 7)).astype(bool)
        present[0] = True
        z = present.astype(float)
        scores = z @ w + np.einsum("ni,ij,nj->n", z, pairs, z)
        weights, _ = surrogate.fit(present, scores)
        found.append(weights)
        stated.append(surrogate.standard_errors(present, scores, weights))
    np.testing.assert_allclose(np.mean(stated, axis=0), np.std(found, axis=0, ddof=1), rtol=0.15)


def test_lime_has_no_error_where_features_are_chosen() -> None:
    x, model = some(1, 6), linear(weights_of(6))
    assert model.explain(x, method="lime", features=2).record["standard_error"] == [None]
    with pytest.raises(UsageError, match="features"):
        model.explain(x, method="lime", features=2, standard_error=0.1)
    assert model.explain(x, method="lime", samples=7).record["standard_error"] == [None]


# --- methods without chance -----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    budget=st.integers(1, 60), window=st.integers(1, 5), stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    sides=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)  # fmt: skip
def test_occlusion_takes_the_smallest_stride_that_fits(
    budget: int, window: int, stride: tuple[int, int], sides: tuple[int, int]
) -> None:
    x, model = some(1, 1, *sides), linear(weights_of(1, *sides))
    plain = model.explain(x, method="occlusion", window=window, stride=stride)
    done = model.explain(x, method="occlusion", window=window, stride=stride, budget=budget)
    assert done.record["windows"] <= budget
    if plain.record["windows"] <= budget:
        np.testing.assert_array_equal(done.attribution, plain.attribution)
        assert not done.record["notes"]
        return
    assert any("budget" in note for note in done.record["notes"])
    for by in range(max(stride), 40):
        larger = [min(max(side, step), -(-step * by // max(stride))) for step, side in zip(stride, sides, strict=True)]
        expected = model.explain(x, method="occlusion", window=window, stride=larger)
        if expected.record["windows"] <= budget:
            break
    np.testing.assert_array_equal(done.attribution, expected.attribution)


@pytest.mark.parametrize("how", [None, 40, "slic", "grid:2", "voronoi"])
def test_feature_ablation_takes_fewer_segments(how: Any) -> None:
    x, model = some(2, 3, 16, 16), linear(weights_of(3, 16, 16))
    done = model.explain(x, method="feature-ablation", segments=how, budget=9)
    assert max(done.record["segments"]) <= 9
    assert done.record["evaluations"] == sum(done.record["segments"])
    assert any("budget" in note for note in done.record["notes"])


def test_a_mask_is_not_cut_otherwise() -> None:
    x, model = some(1, 1, 4, 4), linear(weights_of(1, 4, 4))
    ids = np.arange(16).reshape(4, 4)
    with pytest.raises(UsageError, match="16 segments"):
        model.explain(x, method="feature-ablation", segments=ids, budget=9)
    with pytest.raises(UsageError, match="budget"):
        model.explain(x, method="occlusion", budget=0)


def test_background_samples_count() -> None:
    x, model, background = some(1, 6), linear(weights_of(6)), some(5, 6, seed=1)
    calls: list[tuple[int, int]] = []
    for method in ("occlusion", "feature-ablation", "kernel-shap", "lime", "rise"):
        name = "baseline" if method == "kernel-shap" else "fill"
        calls.clear()
        done = model.explain(
            x, method=method, budget=30, progress=lambda *call: calls.append(call), **{name: background}
        )
        assert done.record["evaluations"] <= 30
        assert calls[-1] == (done.record["evaluations"],) * 2
