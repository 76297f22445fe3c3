"""Perturbation methods on words and series: a real transformer against all coalitions of its words, windows of a series."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyzer
from tests.analyzer.methods.known import shapley
from tests.analyzer.methods.linear import Array, linear, weights_of

EXPORTED = Path(__file__).resolve().parents[4] / "shared" / "exported"
EXPORTS = ("hf_bert__dynamo_op18", "hf_bert__ts_op17")
WORDS, MASK = 12, 3
WORD_METHODS = ("occlusion", "feature-ablation", "kernel-shap", "lime", "rise")


@functools.cache
def bert(name: str) -> tuple[analyzer.Model, Array, Array, Array]:
    """A model, one sentence, its attention mask, and the score of class 1 for all sets of words that are kept."""
    if not (EXPORTED / f"{name}.onnx").exists():
        pytest.skip(f"{EXPORTED} isn't there")
    model = analyzer.load(str(EXPORTED / f"{name}.onnx"), "cpu")
    with np.load(EXPORTED / "hf_bert.npz") as data:
        ids, attention = data["in0"][:1], data["in1"][:1]
    kept = (np.arange(2**WORDS)[:, None] >> np.arange(WORDS) & 1).astype(bool)
    session = model.session()
    names = list(model.inputs)
    parts = [
        session.run({names[0]: np.where(part, ids, MASK), names[1]: np.repeat(attention, len(part), 0)})
        for part in np.split(kept, 16)
    ]
    scores = np.concatenate([next(iter(part.values()))[:, 1] for part in parts]).astype(np.float64)
    return model, ids, attention, scores


def explained(name: str, method: str, **params: Any) -> tuple[analyzer.Explanation, Array, Array]:
    """An explanation of class 1 with words replaced by the mask, which sets kept which word, and all scores."""
    model, ids, attention, scores = bert(name)
    feed = dict(zip(model.inputs, (ids, attention), strict=True))
    fill = {"baseline" if method == "kernel-shap" else "fill": MASK}
    done = model.explain(feed, method=method, target=1, **fill, **params)
    assert done.attribution.shape == (1, WORDS)
    assert any("attention_mask" in note for note in done.record["notes"])
    return done, (np.arange(2**WORDS)[:, None] >> np.arange(WORDS) & 1).astype(bool), scores


@pytest.mark.parametrize("name", EXPORTS)
@pytest.mark.parametrize("method", ["occlusion", "feature-ablation"])
def test_a_word_counts_what_the_score_falls_without_it(name: str, method: str) -> None:
    done, _, scores = explained(name, method)
    everything = 2**WORDS - 1
    expected = [scores[everything] - scores[everything ^ 1 << word] for word in range(WORDS)]
    np.testing.assert_allclose(done.attribution[0], expected, atol=1e-6)


@pytest.mark.parametrize("name", EXPORTS)
def test_kernel_shap_of_words(name: str) -> None:
    done, _, scores = explained(name, "kernel-shap", samples=2**WORDS)
    truth = shapley(lambda kept: scores[kept @ (1 << np.arange(WORDS))], WORDS)
    np.testing.assert_allclose(done.attribution[0], truth, atol=1e-6)


@pytest.mark.parametrize("name", EXPORTS)
def test_rise_of_words(name: str) -> None:
    done, kept, scores = explained(name, "rise", masks=3000, centre=False)
    expected = np.array([scores[kept[:, word]].mean() for word in range(WORDS)])
    assert (np.abs(done.attribution[0] - expected) < 5 * done.record["standard_error"][0]).all()


@pytest.mark.parametrize("name", EXPORTS)
def test_lime_of_words(name: str) -> None:
    done, kept, scores = explained(name, "lime", samples=4000, alpha=1e-6, kernel_width=0.5)
    weight = np.exp(-((1 - np.sqrt(kept.mean(axis=1))) ** 2) / 0.5**2) ** 0.25
    z = np.hstack([kept, np.ones((len(kept), 1))])
    expected = np.linalg.lstsq(z * weight[:, None], scores * weight, rcond=None)[0][:-1]
    assert (np.abs(done.attribution[0] - expected) < 5 * np.array(done.record["standard_error"][0])).all()


@pytest.mark.parametrize("method", WORD_METHODS)
def test_background_sentences_and_one_in_an_array(method: str) -> None:
    model, ids, attention, _ = bert(EXPORTS[0])
    feed = dict(zip(model.inputs, (ids, attention), strict=True))
    key = "baseline" if method == "kernel-shap" else "fill"
    one = model.explain(feed, method=method, target=1, budget=200, **{key: MASK})
    as_array = model.explain(feed, method=method, target=1, budget=200, **{key: np.full((1, WORDS), MASK)})
    np.testing.assert_allclose(one.attribution, as_array.attribution, atol=1e-6)
    twice = model.explain(feed, method=method, target=1, budget=400, **{key: np.full((2, WORDS), MASK)})
    np.testing.assert_allclose(one.attribution, twice.attribution, atol=1e-6)


# --- series ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 200), (3, 200), (200,), (200, 2)])
def test_windows_of_a_series(shape: tuple[int, ...]) -> None:
    """Each moment carries the mean drop of the windows that cover it; channels share them."""
    x, w = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32), weights_of(*shape)
    time = shape.index(200)
    each = np.moveaxis((w * (x - 0.5)).astype(np.float64), time + 1, -1).reshape(2, -1, 200).sum(axis=1)
    total, count = np.zeros((2, 200)), np.zeros(200)
    for start in range(0, 200 - 25 + 15, 15):
        part = slice(start, min(start + 25, 200))
        total[:, part] += each[:, part].sum(axis=1, keepdims=True)
        count[part] += 1
    done = linear(w).explain(x, method="occlusion", window=25, stride=15, fill=0.5)
    np.testing.assert_allclose(done.attribution.reshape(2, 200), total / np.maximum(count, 1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 200), (3, 200), (200, 2)])
def test_pieces_of_a_series(shape: tuple[int, ...]) -> None:
    x, w = np.random.default_rng(1).standard_normal((1, *shape)).astype(np.float32), weights_of(*shape)
    time = shape.index(200)
    each = np.moveaxis((w * x[0]).astype(np.float64), time, -1).reshape(-1, 200).sum(axis=0)
    expected = np.repeat(each.reshape(8, 25).sum(axis=1), 25)
    for method, more in (("kernel-shap", {}), ("feature-ablation", {}), ("lime", {"alpha": 0.0, "fill": 0})):
        done = linear(w).explain(x, method=method, segments=8, **more)
        np.testing.assert_allclose(done.attribution.reshape(-1), expected, rtol=1e-4, atol=1e-3)
