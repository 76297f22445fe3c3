"""Several targets of one input are explained as each of them separately, by every method on every kind of model."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import analyzer
from tests.common.checks import QUICK, load, registered, suits
from tests.common.models import Array, Case, cases, cnn, masked_tokens, mlp, series, tokens, two_inputs

BATCH = 3
FREE = {case.name: case for case in cases(BATCH)}
MAKERS = {"cnn": cnn, "mlp": mlp, "series": series, "tokens": tokens, "two": two_inputs}
FIXED = {
    f"{name}-fixed": Case(f"{name}-fixed", make(BATCH), FREE[name].feed, FREE[name].modality)
    for name, make in MAKERS.items()
}
CASES = {**FREE, **FIXED}
TARGETS: list[Any] = [1, "top1", "contrast:0,2", [2, 0, 1]]


@functools.cache
def model_of(name: str) -> analyzer.Model:
    """The case's model."""
    return load(CASES[name].proto)


def equal(together: list[analyzer.Explanation], single: list[analyzer.Explanation]) -> None:
    """Assert that two lists of explanations are the same, to the rounding of batches."""
    assert len(together) == len(single)
    for got, want in zip(together, single, strict=True):
        assert (got.target, got.classes) == (want.target, want.classes)
        np.testing.assert_allclose(got.score, want.score, rtol=1e-6, atol=1e-6)
        for arrays, others in ((got.attributions, want.attributions), (got.raws, want.raws)):
            assert arrays.keys() == others.keys()
            for name, value in others.items():
                scale = float(np.abs(value).max(initial=0))
                np.testing.assert_allclose(arrays[name], value, rtol=0, atol=1e-5 * max(scale, 1e-6))


def both(model: analyzer.Model, feed: dict[str, Array], method: str, **options: Any) -> None:
    """Explain several targets together and one by one, and compare."""
    options = {**QUICK.get(method, {}), **options}
    single = [model.explain(feed, method, target, **options) for target in TARGETS]
    equal(model.explain_targets(feed, TARGETS, method, **options), single)


@pytest.mark.parametrize(
    ("method", "name"), [(m, n) for n, case in CASES.items() for m in registered() if suits(m, case)]
)
def test_several_targets_are_explained_as_each_alone(method: str, name: str) -> None:
    both(model_of(name), CASES[name].feed, method)


@pytest.mark.parametrize("batch", [BATCH, 16, "n"], ids=str)
@pytest.mark.parametrize("count", [3, 16])
@pytest.mark.parametrize("method", ["feature-ablation", "lime", "kernel-shap"])
def test_segments_of_an_embedding_too(method: str, batch: int | str, count: int) -> None:
    """The methods change their inputs: every sample is repeated, and explained beside its own mask."""
    if count % (batch if isinstance(batch, int) else 1):
        pytest.skip("the batch doesn't fit")
    rng = np.random.default_rng(7)
    feed: dict[str, Array] = {
        "ids": rng.integers(0, 11, (count, 7)),
        "mask": rng.uniform(0, 2, (count, 7)).astype(np.float32),
    }
    segments = np.arange(7 * 4).reshape(7, 4) // 2
    model, options = load(masked_tokens(batch)), {**QUICK.get(method, {}), "segments": segments}
    targets: list[Any] = [1, "top1", "contrast:0,2"]
    single = [model.explain(feed, method, target, **options) for target in targets]
    equal(model.explain_targets(feed, targets, method, **options), single)
