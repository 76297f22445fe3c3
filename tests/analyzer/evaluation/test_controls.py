"""Every faithfulness metric tells an exact explanation from a random and a reversed one, and answers maps that say nothing.

A newly registered metric of the category is checked without a word here.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer.evaluation.registry import MetricInfo
from models.shapes.scenes import dataset
from tests.analyzer.evaluation.maps import PICTURE, Array, draw, explained, linear, load, with_map

METRICS = {name: info for name, info in analyzer.metrics().items() if info.category == "faithfulness"}
each_metric = pytest.mark.parametrize("metric", METRICS)
#: Few evaluations that tell the controls apart all the same.
BUDGETS: dict[str, Any] = {"steps": 8, "draws": 12, "sets": 8, "sizes": 2, "shares": (0.4,)}
INPUTS = 50


@dataclass(frozen=True)
class Subject:
    """A model, inputs, and an explanation of them that is right."""

    model: analyzer.Model
    x: Array
    explanation: analyzer.Explanation
    right: Array

    def judged(self, metric: str, relevance: Array, **params: Any) -> analyzer.Evaluation:
        """A map of these inputs judged."""
        return analyzer.evaluate(self.model, self.x, with_map(self.explanation, relevance), metric, **params)


@functools.cache
def linear_subject() -> Subject:
    """Three classes, linear in 64 pixels: the contributions to the best one are the pixels times its weights."""
    w, x = draw(21, 64, 3), draw(22, INPUTS, *PICTURE)
    model = load(linear(PICTURE, w))
    e = explained(model, x, "top1")
    return Subject(model, x, e, x * w.T[list(e.classes)].reshape(-1, *PICTURE))


@functools.cache
def shapes_subject() -> Subject:
    """The classifier of drawn shapes; the drop of the score without each of 64 blocks, shared by its pixels."""
    images, _, _ = dataset(INPUTS, 77)
    x = (images.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    model = load(Path(__file__).parents[3] / "models" / "shapes_cnn.onnx")
    e = model.explain(x, "occlusion", window=8, stride=8, fill="mean")
    return Subject(model, x, e, e.attribution / 64)


SUBJECTS = {"linear": (linear_subject, 1), "shapes": (shapes_subject, 8)}


def shuffled(maps: Array, block: int) -> Array:
    """Every map with its blocks in an order of chance: as large and as smooth, and wrong."""
    rng, small = np.random.default_rng(5), maps[:, :, ::block, ::block]
    mixed = np.stack([rng.permutation(each.reshape(-1)).reshape(each.shape) for each in small])
    return mixed.repeat(block, axis=2).repeat(block, axis=3)


def reversed_for(info: MetricInfo, maps: Array) -> Array:
    """Every map with its order turned round, as the metric reads it."""
    sizes = np.abs(maps)
    return -maps if info.signed else sizes.max(axis=(1, 2, 3), keepdims=True) - sizes


def interval(values: Array) -> tuple[float, float]:
    """The ends of the 95 % interval of a mean."""
    assert np.isfinite(values).all()
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


@pytest.mark.parametrize("name", SUBJECTS)
@each_metric
def test_exact_is_better_than_random_is_better_than_reversed(metric: str, name: str) -> None:
    make, block = SUBJECTS[name]
    subject, info = make(), METRICS[metric]
    budget = {key: value for key, value in BUDGETS.items() if key in info.parameters}
    controls = subject.right, shuffled(subject.right, block), reversed_for(info, subject.right)
    found = [subject.judged(metric, each, **budget) for each in controls]
    sign = 1 if found[0].higher_is_better else -1
    exact, random, wrong = (interval(sign * each.values) for each in found)
    assert exact[0] > random[1], (exact, random)
    assert random[0] > wrong[1], (random, wrong)


@each_metric
def test_a_map_and_its_negative_differ_where_signs_are_read(metric: str) -> None:
    subject, info = linear_subject(), METRICS[metric]
    one, other = (subject.judged(metric, each, **info.quick).values for each in (subject.right, -subject.right))
    assert np.array_equal(one, other) != info.signed


@each_metric
def test_a_map_of_zeros_scores_as_a_random_one_or_has_no_value(metric: str) -> None:
    subject = linear_subject()
    budget = {key: value for key, value in BUDGETS.items() if key in METRICS[metric].parameters}
    found = subject.judged(metric, np.zeros_like(subject.right), **budget)
    assert set(found.reasons) == set(np.flatnonzero(np.isnan(found.values)))
    if found.n_nan:
        assert found.n_valid == 0
        assert all("relevance" in reason for reason in found.reasons.values())
    elif found.curves:
        random = [subject.judged(metric, draw(seed, *subject.x.shape), **budget).values for seed in (31, 32, 33)]
        low, high = interval(found.values)
        assert low - (high - low) < np.mean(random) < high + (high - low)
        assert any("of chance" in note for note in found.notes)
    else:
        assert metric == "infidelity"  # that nothing changes is a prediction as well
        np.testing.assert_allclose(found.values, found.record["mean_squared_drop"])


@each_metric
def test_a_constant_map_is_all_ties(metric: str) -> None:
    subject = linear_subject()
    found = subject.judged(metric, np.full_like(subject.right, 0.3), **METRICS[metric].quick)
    assert set(found.reasons) == set(np.flatnonzero(np.isnan(found.values)))
    ranked = bool(found.curves) and metric != "sensitivity-n"
    assert any("of chance" in note for note in found.notes) == ranked
    if "correlation" in metric or metric in ("sensitivity-n", "faithfulness-estimate"):
        assert "the same" in found.reasons[0]
    else:
        assert found.n_valid == INPUTS


@each_metric
def test_ties_are_broken_by_the_seed(metric: str) -> None:
    subject = linear_subject()
    tied = np.rint(draw(29, *subject.right.shape))
    found = [subject.judged(metric, tied, seed=seed, **METRICS[metric].quick) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0].values, found[1].values)
    assert found[0].n_valid == INPUTS
    assert not np.array_equal(found[0].values, found[2].values)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@each_metric
def test_a_map_that_is_not_finite_has_no_value_and_says_so(metric: str, bad: float) -> None:
    subject = linear_subject()
    broken = subject.right.copy()
    broken[3, 0, 2, 2] = bad
    found = subject.judged(metric, broken, **METRICS[metric].quick)
    whole = subject.judged(metric, subject.right, **METRICS[metric].quick)
    assert list(found.reasons) == [3]
    assert "finite" in found.reasons[3]
    np.testing.assert_array_equal(np.delete(found.values, 3), np.delete(whole.values, 3))
    assert "NaN" not in str(found.to_dict())


@each_metric
def test_a_score_that_never_changes_is_no_silent_number(metric: str) -> None:
    x = draw(23, 2, *PICTURE)
    model = load(linear(PICTURE, np.zeros((64, 3), np.float32), np.float32([1, 2, 3])))
    found = analyzer.evaluate(model, x, with_map(explained(model, x), x), metric, **METRICS[metric].quick)
    if "correlation" in metric or metric in ("sensitivity-n", "faithfulness-estimate"):
        assert "doesn't change" in found.reasons[0]
    elif metric == "infidelity":
        assert (found.values > 1).all()  # what the map predicts doesn't happen
    else:
        np.testing.assert_allclose(found.values, found.values[0])


@each_metric
def test_the_result_does_not_depend_on_how_the_batch_is_cut(metric: str) -> None:
    info, w, x = METRICS[metric], draw(24, 64, 3), draw(25, 4, *PICTURE)
    relevance = draw(26, 4, *PICTURE)
    found = []
    for batch in ("n", 1, 2):
        model = load(linear(PICTURE, w, batch=batch))
        e = with_map(explained(model, x), relevance)
        found.append(analyzer.evaluate(model, x, e, metric, **info.quick))
    for other in found[1:]:
        np.testing.assert_allclose(other.values, found[0].values, rtol=1e-5, atol=1e-6)
        assert other.n_evaluations == found[0].n_evaluations
        for key, curve in found[0].curves.items():
            np.testing.assert_allclose(other.curves[key].y, curve.y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", ["n", 1])
def test_progress_goes_through_the_samples_however_they_are_cut(batch: int | str) -> None:
    x, steps = draw(25, 3, *PICTURE), []
    model = load(linear(PICTURE, draw(24, 64, 3), batch=batch))
    analyzer.evaluate(model, x, explained(model, x), steps=4, progress=lambda *at: steps.append(at))
    assert steps == [(1, 3), (2, 3), (3, 3)]


@each_metric
def test_every_evaluation_is_counted(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.executor.session import Session

    rows: list[int] = []
    run = Session.run

    def counted(self: Session, feed: Any, *args: Any, **options: Any) -> Any:
        got = run(self, feed, *args, **options)
        rows.append(len(next(iter(got.values()))))
        return got

    w, x = draw(27, 64, 3), draw(28, 3, *PICTURE)
    model = load(linear(PICTURE, w))
    e = with_map(explained(model, x), x)  # which finds out whether rows depend on each other, once for a model
    monkeypatch.setattr(Session, "run", counted)
    found = analyzer.evaluate(model, x, e, metric, **METRICS[metric].quick)
    assert found.n_evaluations == sum(rows)
    assert found.n_explanations == 0
