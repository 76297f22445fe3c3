"""Units of every kind of input: words, columns that are inputs of their own, background samples, whole numbers, long rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from tests.analyzer.evaluation.maps import Array, context_of, draw, explained, linear, load, with_map
from tests.common.models import assemble, tokens
from tests.common.text_models import categories, word_score
from tests.common.text_models import words as text_model

SCORES = [name for name, info in analyzer.metrics().items() if info.needs == "scores" and name != "road"]


def test_a_text_loses_its_words_one_by_one() -> None:
    model = load(text_model())
    x = np.array(["good fine bad thing", "poor not good"], object)
    e = model.explain(x, "feature-ablation", target=0)
    found = analyzer.evaluate(model, x, e, "pixel-flipping", steps=12)
    assert found.n_evaluations == 4 + 3 + 2
    for sample, text in enumerate(x):
        words = text.split()
        drops = [word_score(text) - word_score(" ".join(words[:at] + words[at + 1 :])) for at in range(len(words))]
        order = np.argsort(-np.array(drops))
        left = [[word for at, word in enumerate(words) if at not in order[:gone]] for gone in range(len(words) + 1)]
        expected = [word_score(" ".join(each)) for each in left]
        _, first = np.unique(found.curves["morf"].x[sample], return_index=True)
        np.testing.assert_allclose(found.curves["morf"].y[sample, first], expected, atol=1e-5)


@pytest.mark.parametrize("metric", SCORES)
def test_every_metric_takes_words_and_categories(metric: str) -> None:
    quick = dict(analyzer.metrics()[metric].quick)
    for proto, x in (
        (text_model(), np.array(["good fine bad thing", "poor not good"], object)),
        (categories(), np.array([["Paris", "cook"], ["Rome", "clerk"]], object)),
    ):
        model = load(proto)
        found = analyzer.evaluate(model, x, model.explain(x, "feature-ablation", target=0), metric, **quick)
        assert all("fewer than three" in why or "next to nothing" in why for why in found.reasons.values()), (
            found.reasons
        )


def test_columns_that_are_inputs_are_one_row() -> None:
    w, values = draw(61, 4, 3), draw(62, 2, 4)
    nodes = [
        helper.make_node("Concat", list("abcd"), ["x"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
    ]
    inputs = {name: (TensorProto.FLOAT, ["n", 1]) for name in "abcd"}
    model = load(assemble(nodes, inputs, {"scores": (TensorProto.FLOAT, ["n", 3])}, {"w": w}))
    feed = {name: values[:, at : at + 1] for at, name in enumerate("abcd")}
    e = model.explain(feed, "occlusion", target=1)
    parts = values * w[:, 1]
    found = analyzer.evaluate(model, feed, e, "pixel-flipping", steps=4)
    expected = parts.sum(axis=1)[:, None] - np.cumsum(-np.sort(-parts, axis=1), axis=1)
    np.testing.assert_allclose(found.curves["morf"].y[:, 1:], expected, atol=1e-5)
    np.testing.assert_allclose(analyzer.evaluate(model, feed, e, "sensitivity-n").values, 1, atol=1e-5)


def test_words_become_the_word_that_fill_names() -> None:
    model, ids = load(tokens()), np.random.default_rng(6).integers(0, 11, (2, 7))
    e = model.explain(ids, "feature-ablation", target=1)
    for fill, word in (("mean", 0), (4, 4)):
        found = analyzer.evaluate(model, ids, e, "pixel-flipping", steps=7, fill=fill)
        everything = model.predict(np.full((1, 7), word))["scores"][0, 1]
        np.testing.assert_allclose(found.curves["morf"].y[:, -1], everything, atol=1e-5)


def test_a_score_is_the_mean_over_background_samples_each_counted() -> None:
    w, x, rows = draw(63, 6, 3), draw(64, 2, 6), draw(65, 5, 6)
    model = load(linear([6], w))
    e = with_map(explained(model, x), x * w[:, 1])
    found = analyzer.evaluate(model, x, e, "pixel-flipping", steps=3, fill=rows)
    assert found.n_evaluations == 2 * (1 + 3 * 5)
    np.testing.assert_allclose(found.curves["morf"].y[:, -1], (rows @ w)[:, 1].mean(), atol=1e-5)
    slopes = with_map(e, np.tile(w[:, 1], (2, 1)))
    exact = analyzer.evaluate(model, x, slopes, "infidelity", kind="derivative", fill=rows, draws=6)
    np.testing.assert_allclose(exact.values, 0, atol=1e-9)


def test_pictures_of_whole_numbers() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["numbers"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
    ]
    inputs, outputs = {"x": (TensorProto.UINT8, ["n", 3, 8, 8])}, {"scores": (TensorProto.FLOAT, ["n", 3])}
    model = load(assemble(nodes, inputs, outputs, {"w": draw(66, 192, 3) / 255}))
    x = np.random.default_rng(1).integers(0, 255, (2, 3, 8, 8)).astype(np.uint8)
    for metric, info in analyzer.metrics().items():
        if info.needs == "scores":
            e = with_map(explained(model, x), draw(72, *x.shape))
            assert analyzer.evaluate(model, x, e, metric, **info.quick).n_valid == 2


@pytest.mark.parametrize("shared", [np.array(2.0, np.float32), draw(75, 7, 3)], ids=["scalar", "rows"])
def test_an_input_that_all_samples_share_is_left_whole(shared: Array) -> None:
    """Samples are judged on their own, and it is no sample's."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Mul", ["z", "scale"], ["scores"])]
    if shared.ndim:
        nodes[1:] = [
            helper.make_node("ReduceMean", ["shared"], ["scale"], axes=[0], keepdims=1),
            helper.make_node("Mul", ["z", "scale"], ["scores"]),
        ]
    name, w, x = "shared" if shared.ndim else "scale", draw(73, 5, 3), draw(74, 3, 5)
    inputs = {"x": (TensorProto.FLOAT, ["n", 5]), name: (TensorProto.FLOAT, ["m", 3] if shared.ndim else [])}
    model = load(assemble(nodes, inputs, {"scores": (TensorProto.FLOAT, ["n", 3])}, {"w": w}))
    feed = {"x": x, name: shared}
    e = model.explain(feed, "occlusion", target=1, inputs=["x"])
    found = analyzer.evaluate(model, feed, e, "completeness")
    expected = x @ w[:, 1] * (shared[:, 1].mean() if shared.ndim else shared)
    np.testing.assert_allclose(found.record["expected"], expected, rtol=1e-4)
    assert (found.values < 1e-4).all()
    for metric in ("sparseness", "max-sensitivity", "parameter-randomisation"):
        assert analyzer.evaluate(model, feed, e, metric, **analyzer.metrics()[metric].quick).n_valid == 3
    compared = analyzer.compare(model, model, feed, "gradient", target=1, inputs=["x"])
    assert [row.similarity["cosine"] for row in compared.rows] == pytest.approx([1, 1, 1])
    assert compared.shown[0].first.inputs[name].shape == shared.shape


def test_units_of_every_size() -> None:
    for shape, size, count in (
        ((3, 16, 24), None, 64), ((3, 16, 24), 1, 384), ((3, 16, 24), 5, 20), ((2, 200), None, 50), ((6,), 4, 6),
        ((500,), None, 63), ((2, 8, 8, 8), None, 64),
    ):  # fmt: skip
        x = draw(67, 1, *shape)
        model = load(linear(shape, draw(68, int(np.prod(shape)), 2)))
        units = context_of(model, explained(model, x)).units(0, size)
        ids = next(iter(units.segmentation.ids.values()))
        assert units.count == count == len(np.unique(ids)), (shape, size)


def test_relevance_of_a_unit_is_the_sum_over_it() -> None:
    x, relevance = draw(69, 1, 3, 4, 4), draw(70, 1, 3, 4, 4)
    model = load(linear((3, 4, 4), draw(71, 48, 2)))
    units = context_of(model, with_map(explained(model, x), relevance)).units(0, 2)
    expected = [
        relevance[0, :, row : row + 2, column : column + 2].sum() for row, column in itertools.product((0, 2), (0, 2))
    ]
    np.testing.assert_allclose(units.relevance, expected, rtol=1e-5)
    assert units.order(np.random.default_rng(0)).tolist() == np.argsort(-units.relevance).tolist()
