"""What every registered metric must do on every kind of model that it is for.

A newly registered metric is checked without a word here.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer.errors import UnsupportedError, UsageError
from analyzer.evaluation.registry import MetricInfo
from tests.common.checks import load
from tests.common.models import Array, Case, cases

METRICS = analyzer.metrics()
CASES = {case.name: case for case in cases(batch=2) if case.name in ("cnn", "nhwc", "mlp", "series", "tokens", "two")}
each_metric = pytest.mark.parametrize("metric", METRICS)
on_each_case = pytest.mark.parametrize("name", CASES)


@functools.cache
def explained(name: str) -> tuple[analyzer.Model, analyzer.Explanation]:
    """The case's model and an explanation of its inputs, shared by the tests."""
    model = load(CASES[name].proto)
    return model, model.explain(CASES[name].feed, "occlusion", target=1)


def masks(case: Case) -> dict[str, Array]:
    """A truth for every input that is explained: the first half of it."""
    found = {}
    for name, value in explained(case.name)[1].attributions.items():
        half = np.zeros(value[0].size, bool)
        half[: value[0].size // 2] = True
        found[name] = np.stack([half.reshape(value.shape[1:])] * len(value))
    return found


def judged(metric: str, name: str, **options: Any) -> analyzer.Evaluation:
    """A case's explanation judged with quick parameters."""
    info, (model, e) = METRICS[metric], explained(name)
    truth = {"mask": masks(CASES[name])} if info.needs == "mask" else {}
    return analyzer.evaluate(model, CASES[name].feed, e, metric, **{**truth, **info.quick, **options})


def suits(info: MetricInfo, name: str) -> bool:
    """Whether a metric is for a case's kind of input, and for several of them at once."""
    return CASES[name].modality in info.modalities


@each_metric
def test_it_says_what_it_is(metric: str) -> None:
    info = METRICS[metric]
    assert info.name == metric
    for text in (info.summary, info.range, info.cost, info.blind_spot, info.source):
        assert text.strip()
    assert info.summary.endswith(".")
    assert info.modalities
    for parameter in info.parameters.values():
        assert parameter.doc, parameter.name
        assert info.check({parameter.name: parameter.default})[parameter.name] is parameter.default
    assert set(info.quick) <= set(info.parameters)


@on_each_case
@each_metric
def test_every_sample_has_a_value_or_a_reason(metric: str, name: str) -> None:
    info, case = METRICS[metric], CASES[name]
    before = {key: value.copy() for key, value in case.feed.items()}
    maps = {key: value.copy() for key, value in explained(name)[1].attributions.items()}
    try:
        found = judged(metric, name)
    except UnsupportedError as problem:
        assert problem.hint, problem
        assert not suits(info, name) or len(case.feed) > 1, problem
        return
    assert found.values.shape == (2,)
    assert found.values.dtype == np.float64
    assert set(found.reasons) == set(np.flatnonzero(np.isnan(found.values)))
    assert all(reason.strip() for reason in found.reasons.values())
    assert not np.isinf(found.values).any()
    assert found.n_valid + found.n_nan == 2
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["metric"] == metric
    if info.needs in ("map", "mask"):
        assert found.n_evaluations == found.n_explanations == 0
    elif found.n_valid:
        assert (found.n_evaluations > 0) if info.needs == "scores" else (found.n_explanations > 0)
    for curve in found.curves.values():
        assert curve.y.shape[0] == 2
        assert curve.x.shape in (curve.y.shape, curve.y.shape[1:])
    for key, value in case.feed.items():
        np.testing.assert_array_equal(value, before[key])
    for key, value in explained(name)[1].attributions.items():
        np.testing.assert_array_equal(value, maps[key])


@each_metric
def test_one_seed_gives_one_result(metric: str) -> None:
    model, _ = explained("cnn")
    digest = model.proto.SerializeToString(deterministic=True)
    one, other = (judged(metric, "cnn", seed=7) for _ in range(2))
    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())
    assert one.seed == 7
    assert model.proto.SerializeToString(deterministic=True) == digest


@each_metric
def test_a_sample_alone_has_the_value_that_it_has_in_a_batch(metric: str) -> None:
    """The first one, whose random numbers are the same."""
    model, _ = explained("cnn")
    feed = {key: value[:1] for key, value in CASES["cnn"].feed.items()}
    alone = model.explain(feed, "occlusion", target=1)
    truth = {"mask": {key: value[:1] for key, value in masks(CASES["cnn"]).items()}}
    options = {**(truth if METRICS[metric].needs == "mask" else {}), **METRICS[metric].quick}
    found = analyzer.evaluate(model, feed, alone, metric, **options)
    np.testing.assert_allclose(found.values, judged(metric, "cnn").values[:1], rtol=1e-4, atol=1e-5)


@each_metric
def test_unknown_parameters_are_named(metric: str) -> None:
    with pytest.raises(UsageError, match="no parameter 'nonsense'"):
        judged(metric, "cnn", nonsense=1)


def test_another_input_is_refused() -> None:
    model, e = explained("cnn")
    with pytest.raises(UsageError, match="is not what was explained"):
        analyzer.evaluate(model, CASES["cnn"].x + 1, e)
