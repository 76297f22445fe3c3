"""Maps of randomised models and of other classes: held against explanations made by hand, scipy and Quantus."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

import analyzer
from analyzer.evaluation.metrics.efficient_parameter_randomisation import discrete_entropy
from analyzer.evaluation.metrics.parameter_randomisation import grouped
from analyzer.evaluation.other_models import OtherModels
from analyzer.evaluation.randomised import layers, randomised
from analyzer.evaluation.sample_similarity import similarity
from analyzer.model import Model
from tests.analyzer.evaluation.maps import Array, context_of, draw, linear, load, with_map
from tests.analyzer.evaluation.oracles import quantus
from tests.common.models import cases, cnn, mlp, tokens

CASES = {case.name: case for case in cases(2)}
MODEL = load(cnn())
X = draw(61, 3, 3, 8, 8)
EXPLAINED = MODEL.explain(X, "gradient-x-input")
ORDERS = {
    "top-down": [["head"], ["head", "conv2"], ["head", "conv2", "conv1"]],
    "bottom-up": [["conv1"], ["conv1", "conv2"], ["conv1", "conv2", "head"]],
    "independent": [["head"], ["conv2"], ["conv1"]],
}


def correlation(one: Array, other: Array) -> float:
    return float(spearmanr(one.reshape(-1), other.reshape(-1)).statistic)


@pytest.mark.parametrize("order", list(ORDERS))
def test_each_step_is_the_correlation_with_the_map_of_the_randomised_model(order: str) -> None:
    found = analyzer.evaluate(MODEL, X, EXPLAINED, "parameter-randomisation", order=order, seed=3)
    known = {layer.name: layer for layer in layers(MODEL)}
    expected = []
    for names in ORDERS[order]:
        other = randomised(MODEL, [known[name] for name in names], 3)
        e = other.explain(X, "gradient-x-input", target=list(EXPLAINED.classes))
        expected.append([correlation(a, b) for a, b in zip(EXPLAINED.attribution, e.attribution, strict=True)])
    y = found.curves[order].y[:, -3:].T
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(found.values, np.mean(expected, axis=0), atol=1e-5)
    np.testing.assert_allclose(found.record["last"], expected[-1], atol=1e-5)
    assert found.record["layers"] == {str(at + 1): names[-1:] for at, names in enumerate(ORDERS[order])}
    assert found.n_explanations == 9
    if order != "independent":
        assert found.curves[order].x.tolist() == [0, 1, 2, 3] and (found.curves[order].y[:, 0] == 1).all()


def test_many_layers_are_taken_several_at_a_time() -> None:
    known = layers(MODEL)
    assert [[layer.name for layer in group] for group in grouped(known, 2)] == [["conv1", "conv2"], ["head"]]
    found = analyzer.evaluate(MODEL, X, EXPLAINED, "parameter-randomisation", steps=2)
    assert found.curves["top-down"].x.tolist() == [0, 2, 3] and found.n_explanations == 6


def test_similarities() -> None:
    context = context_of(MODEL, EXPLAINED)
    rng = np.random.default_rng(0)
    one, other = ({"x": rng.standard_normal((3, 8, 8))} for _ in range(2))
    assert similarity(context, one, other, "spearman") == pytest.approx(correlation(one["x"], other["x"]))
    absolute = correlation(np.abs(one["x"]), np.abs(other["x"]))
    assert similarity(context, one, other, "spearman-absolute") == pytest.approx(absolute)
    assert similarity(context, one, {"x": -one["x"]}, "spearman") == pytest.approx(-1)
    assert similarity(context, one, {"x": 7 * one["x"]}, "ssim") == pytest.approx(1)
    from skimage.metrics import structural_similarity

    a, b = (each["x"].sum(axis=0) for each in (one, other))
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    span = max(a.max(), b.max()) - min(a.min(), b.min())
    expected = structural_similarity(a, b, data_range=span, win_size=7)
    assert similarity(context, one, other, "ssim") == pytest.approx(expected)


def test_without_an_answer_there_is_a_reason() -> None:
    rows = CASES["mlp"]
    model = load(rows.proto)
    e = model.explain(rows.x, "gradient-x-input")
    broken = np.concatenate([np.ones_like(rows.x[:1]), np.full_like(rows.x[:1], np.nan)])
    for metric in ("parameter-randomisation", "efficient-parameter-randomisation", "random-logit"):
        found = analyzer.evaluate(model, rows.x, with_map(e, broken), metric)
        assert found.n_nan == 2 and "finite" in found.reasons[1]
        assert "constant" in found.reasons[0] or "same everywhere" in found.reasons[0]
    assert "pictures" in analyzer.evaluate(model, rows.x, e, "random-logit", similar="ssim").reasons[0]


def test_the_rise_of_entropy() -> None:
    found = analyzer.evaluate(MODEL, X, EXPLAINED, "efficient-parameter-randomisation", bins=40)
    other = randomised(MODEL, layers(MODEL), 0).explain(X, "gradient-x-input", target=list(EXPLAINED.classes))
    before, after = (
        np.array([discrete_entropy(map_.astype(np.float64).reshape(-1), 40) for map_ in e.attribution])
        for e in (EXPLAINED, other)
    )
    np.testing.assert_allclose(found.values, (after - before) / before, atol=1e-9)
    assert found.record["entropy"][0] == {"before": pytest.approx(before[0]), "after": pytest.approx(after[0])}


def test_discrete_entropy_equals_quantus() -> None:
    quantus()
    from quantus.functions.complexity_func import discrete_entropy as theirs

    for map_ in np.random.default_rng(0).standard_normal((5, 300)):
        assert discrete_entropy(map_, 50) == pytest.approx(theirs(map_, map_, n_bins=50), abs=1e-5)
    assert discrete_entropy(np.ones(5), 10) == 0


def test_random_logit_is_the_similarity_with_the_class_that_the_record_names() -> None:
    found = analyzer.evaluate(MODEL, X, EXPLAINED, "random-logit")
    others = found.record["other_class"]
    assert all(other != own and 0 <= other < 3 for other, own in zip(others, EXPLAINED.classes, strict=True))
    e = MODEL.explain(X, "gradient-x-input", target=others)
    expected = [correlation(a, b) for a, b in zip(EXPLAINED.attribution, e.attribution, strict=True)]
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    assert found.n_explanations == 3


def test_every_other_class_is_drawn_alike() -> None:
    x = np.repeat(X[:1], 60, axis=0)
    found = analyzer.evaluate(MODEL, x, MODEL.explain(x, "gradient", target=1), "random-logit")
    drawn = np.bincount(found.record["other_class"], minlength=3)
    assert drawn[1] == 0 and drawn.sum() == 60 and min(drawn[0], drawn[2]) > 15


def test_opposite_classes_have_opposite_maps() -> None:
    weights = draw(1, 12, 1)
    model = load(linear([12], np.concatenate([weights, -weights], axis=1)))
    x = draw(2, 2, 12)
    e = model.explain(x, "gradient")
    np.testing.assert_allclose(analyzer.evaluate(model, x, e, "random-logit").values, -1)
    np.testing.assert_allclose(analyzer.evaluate(model, x, e, "random-logit", similar="spearman-absolute").values, 1)


def test_random_logit_needs_a_class_and_another() -> None:
    for target in ("contrast:1,0", "not:2"):
        found = analyzer.evaluate(MODEL, X, MODEL.explain(X, "gradient", target=target), "random-logit")
        assert found.n_nan == 3 and found.reasons[0] == "what is explained is no class" and not found.n_explanations
    single = load(linear([6], draw(1, 6, 1)))
    x = draw(2, 2, 6)
    found = analyzer.evaluate(single, x, single.explain(x, "gradient"), "random-logit")
    assert found.n_nan == 2 and set(found.reasons.values()) <= {
        "the model has one score, so there is no other class", "what is explained is no class",
    }  # fmt: skip


@pytest.mark.parametrize("case", ["cnn", "nhwc", "mlp", "series", "tokens", "two"])
def test_every_modality(case: str) -> None:
    each = CASES[case]
    model = load(each.proto)
    e = model.explain(each.feed, "gradient-x-input")
    for metric in ("parameter-randomisation", "random-logit"):
        found = analyzer.evaluate(model, each.feed, e, metric, **({"steps": 1} if metric[0] == "p" else {}))
        assert found.n_valid == 2 and (np.abs(found.values) <= 1).all()
    flat = np.concatenate([value.reshape(2, -1) for value in e.attributions.values()], axis=1)
    other = randomised(model, layers(model), 0).explain(each.feed, "gradient-x-input", target=list(e.classes))
    new = np.concatenate([value.reshape(2, -1) for value in other.attributions.values()], axis=1)
    found = analyzer.evaluate(model, each.feed, e, "parameter-randomisation", steps=1)
    np.testing.assert_allclose(found.values, [correlation(a, b) for a, b in zip(flat, new, strict=True)], atol=1e-5)


@pytest.mark.parametrize("make", [mlp, tokens])
def test_the_same_of_a_model_of_one_sample_at_a_time(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its randomised copies are made once for all parts, and let go of at the end."""
    x = CASES[make.__name__].feed
    one, each = load(make()), load(make(1))
    made, cleared = [], []
    original = Model.clear
    monkeypatch.setattr(Model, "clear", lambda self: (cleared.append(self), original(self)))
    loaded = Model.__init__
    monkeypatch.setattr(Model, "__init__", lambda self, *a, **k: (made.append(self), loaded(self, *a, **k))[1])
    wanted = {mlp: ["efficient-parameter-randomisation", "random-logit"], tokens: ["parameter-randomisation"]}[make]
    for metric in wanted:
        one_by_one = analyzer.evaluate(each, x, each.explain(x, "gradient-x-input"), metric)
        count = len(made)
        together = analyzer.evaluate(one, x, one.explain(x, "gradient-x-input"), metric)
        assert count == len(made) - count  # as many for two parts as for one
        assert made == cleared
        np.testing.assert_allclose(one_by_one.values, together.values, atol=1e-4)
        made.clear()
        cleared.clear()


def test_models_beyond_the_budget_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyzer.evaluation.other_models._MOST_BYTES", MODEL.size)
    made = []

    def make() -> Model:
        made.append(load(cnn()))
        return made[-1]

    with OtherModels() as others:
        for key in ("first", "second", "first", "second"):
            with others.one(key, make) as model:
                assert model is made[-1] or key == "first"
        assert len(made) == 3 and list(others.kept) == ["first"]
    assert not others.kept


def test_a_camera_layer_is_where_the_map_lies_and_not_what_is_explained() -> None:
    """Other classes are those of the output, whatever layer a class activation map is of."""
    e = MODEL.explain(X, "grad-cam", layer="relu1", relu=False)
    found = analyzer.evaluate(MODEL, X, e, "random-logit")
    assert set(found.record["other_class"]) <= {0, 1, 2} and found.n_valid == 3
    np.testing.assert_allclose(context_of(MODEL, e).score, e.score, rtol=1e-5)
