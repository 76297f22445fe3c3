"""Columns and words of models that take text, against replacing each by hand and asking onnxruntime."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import analyzer
from tests.common.models import assemble
from tests.common.text_models import (
    CITIES,
    CITY_SCORES,
    JOB_SCORES,
    JOBS,
    categories,
    columns,
    odd_encoders,
    word_score,
    words,
)

Array = NDArray[Any]
TABLE = np.array([["Paris", "clerk"], ["Rome", "cook"]], object)
ROW = {
    "age": np.array([[30.0]], np.float32),
    "children": np.array([[2]]),
    "member": np.array([[True]]),
    "city": np.array([["Rome"]], object),
}
TEXT = "not good but  fine"


def scorer(proto: onnx.ModelProto) -> Callable[[Mapping[str, Array]], float]:
    """The first score of one sample, by onnxruntime alone."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda feed: float(session.run(["scores"], dict(feed))[0][0, 0])


def shapley(count: int, worth: Callable[[frozenset[int]], float]) -> list[float]:
    """Shapley values of a game by enumeration of all coalitions."""
    values = []
    for player in range(count):
        others = [each for each in range(count) if each != player]
        value = 0.0
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for coalition in itertools.combinations(others, size):
                value += weight * (worth(frozenset({*coalition, player})) - worth(frozenset(coalition)))
        values.append(value)
    return values


def explain(proto: onnx.ModelProto, x: Any, method: str, **params: Any) -> analyzer.Explanation:
    return analyzer.load(proto, "cpu").explain(x, method, 0, **params)


def left(text: str, kept: Sequence[int]) -> str:
    """A text with single spaces of which only some words are left."""
    return " ".join(word for at, word in enumerate(text.split()) if at in kept)


@pytest.mark.parametrize("kind", [object, str, "T"])
@pytest.mark.parametrize("method", ["feature-ablation", "occlusion"])
@pytest.mark.parametrize("fill", ["", "London", "elsewhere"])
def test_each_column_is_replaced_by_a_text(method: str, fill: str, kind: Any) -> None:
    proto = categories()
    score = scorer(proto)
    found = explain(proto, TABLE.astype(kind), method, **({"fill": fill} if fill else {}))
    for sample, column in np.ndindex(TABLE.shape):
        changed = TABLE[[sample]].copy()
        changed[0, column] = fill
        drop = score({"x": TABLE[[sample]]}) - score({"x": changed})
        assert found.attribution[sample, column] == pytest.approx(drop, abs=1e-5)
    assert f"become {fill!r}" in " ".join(found.record["notes"])


def test_a_longer_text_is_never_cut_to_the_width_of_others() -> None:
    x = np.array([["Rome", "cook"]])  # of numpy's own type for four letters
    found = explain(categories(), x, "feature-ablation", fill="London")
    assert found.attribution[0, 0] == pytest.approx(CITY_SCORES[1] - CITY_SCORES[2], abs=1e-5)


@pytest.mark.parametrize("method", ["feature-ablation", "occlusion"])
def test_columns_of_all_types_beside_each_other(method: str) -> None:
    proto = columns()
    score = scorer(proto)
    found = explain(proto, ROW, method)
    nothing = {"age": np.float32(0), "children": 0, "member": False, "city": ""}
    for name, value in nothing.items():
        changed = {**ROW, name: np.full((1, 1), value, ROW[name].dtype)}
        assert found.attributions[name].shape == (1, 1)
        assert found.attributions[name][0, 0] == pytest.approx(score(ROW) - score(changed), abs=1e-5)
    assert found.record["notes"] == [
        "what is left out: texts of 'city' become '', numbers of 'age', 'children', 'member' become 0"
    ]


def test_kernel_shap_of_columns_gives_shapley_values() -> None:
    proto = columns()
    score, names = scorer(proto), list(ROW)
    other = {"age": np.array([[50.0]], np.float32), "children": np.array([[5]]), "member": np.array([[False]]),
             "city": np.array([["Paris"]], object)}  # fmt: skip
    row = np.array([each[0, 0] for each in other.values()], object)
    found = explain(proto, ROW, "kernel-shap", baseline=row)

    def worth(present: frozenset[int]) -> float:
        return score({name: (ROW if at in present else other)[name] for at, name in enumerate(names)})

    for name, value in zip(names, shapley(4, worth), strict=True):
        assert found.attributions[name][0, 0] == pytest.approx(value, abs=1e-4)


def test_kernel_shap_of_words_gives_shapley_values_of_texts_without_them() -> None:
    proto = words()
    score, count = scorer(proto), len(TEXT.split())
    found = explain(proto, np.array([TEXT]), "kernel-shap")
    expected = shapley(count, lambda present: score({"text": np.array([left(TEXT, sorted(present))], object)}))
    assert found.raw.shape == (1, count) and found.attribution.shape == (1,)
    np.testing.assert_allclose(found.raw[0], expected, atol=1e-4)
    assert found.attribution[0] == pytest.approx(sum(expected), abs=1e-4)
    assert found.record["notes"] == ["what is left out: words of 'text' are taken out"]


def test_lime_of_a_linear_model_gives_its_weights() -> None:
    found = explain(categories(), TABLE, "lime", samples=60, alpha=0.0)
    expected = [[CITY_SCORES[CITIES.index(city)], JOB_SCORES[JOBS.index(job)]] for city, job in TABLE]
    np.testing.assert_allclose(found.attribution, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [("n",), ("n", 1), (1,), (1, 1)])
@pytest.mark.parametrize("method", ["feature-ablation", "occlusion"])
def test_words_are_taken_out_of_texts_of_any_length(method: str, shape: tuple[int | str, ...]) -> None:
    texts = ["fine", TEXT, " bad  bad   not good ", "the plot"]
    x = np.array(texts, object).reshape(-1, *shape[1:])
    found = explain(words(shape), x, method)
    longest = max(len(text.split()) for text in texts)
    assert found.attribution.shape == x.shape and found.raw.shape == (*x.shape, longest)
    maps = found.raw.reshape(len(texts), longest)
    for text, values in zip(texts, maps, strict=True):
        count = len(text.split())
        drops = [word_score(text) - word_score(left(text, set(range(count)) - {at})) for at in range(count)]
        np.testing.assert_allclose(values, [*drops, *[0] * (longest - count)], atol=1e-5)
    np.testing.assert_allclose(found.attribution, found.raw.sum(axis=-1), atol=1e-5)
    told = [[(each["word"], each["value"]) for each in sample] for sample in found.record["features"]]
    assert told == [list(enumerate(text.split())) for text in texts]


def test_a_word_can_be_replaced_by_another() -> None:
    found = explain(words(), np.array(["good movie"]), "feature-ablation", fill="poor")
    np.testing.assert_allclose(found.raw[0], [2 - -1.5, 1.5], atol=1e-5)
    assert found.record["notes"] == ["what is left out: words of 'text' become 'poor'"]
    mean = explain(words(), np.array(["good"]), "feature-ablation", fill="text:mean")
    assert mean.record["notes"] == ["what is left out: words of 'text' become 'mean'"]


def test_a_text_beside_a_column_is_a_column_unless_words_are_asked_for() -> None:
    proto = words(("n", 1), kind=True)
    x = {"text": np.array([["not good"]], object), "city": np.array([["Paris"]], object)}
    found = explain(proto, x, "feature-ablation")
    assert found.attributions["text"] == pytest.approx(np.array([[word_score("not good")]]))
    assert found.attributions["city"] == pytest.approx(np.array([[CITY_SCORES[0]]]))
    cut = explain(proto, x, "feature-ablation", segments="words")
    np.testing.assert_allclose(cut.raws["text"], [[[-5, word_score("not good")]]], atol=1e-5)
    assert cut.attributions["city"] == pytest.approx(np.array([[CITY_SCORES[0]]]))
    alone = explain(words(), np.array(["not good"]), "feature-ablation", segments="columns")
    assert alone.attribution == pytest.approx(np.array([word_score("not good")]))


def test_a_category_of_two_words_is_one_feature() -> None:
    cities = ["New York", "Rome"]
    encoder = helper.make_node("OneHotEncoder", ["x"], ["wide"], domain="ai.onnx.ml", cats_strings=cities, zeros=1)
    nodes = [encoder, helper.make_node("Squeeze", ["wide", "axis"], ["scores"])]
    model = assemble(
        nodes, {"x": (TensorProto.STRING, ["n", 1])}, {"scores": (TensorProto.FLOAT, ["n", 2])}, {"axis": np.array([1])},
        domains={"ai.onnx.ml": 1},
    )  # fmt: skip
    found = explain(model, np.array([["New York"]]), "feature-ablation")
    assert found.raw.tolist() == [[1.0]]
    assert found.record["features"] == [[{"input": "x", "column": "x", "value": "New York", "attribution": 1.0}]]


def test_encoders_of_other_kinds() -> None:
    proto = odd_encoders()
    x = {"size": np.array([["L"]]), "price": np.array([["2.5"]])}
    found = explain(proto, x, "feature-ablation")
    assert found.attributions["size"][0, 0] == pytest.approx(3) and found.attributions["price"][0, 0] == pytest.approx(
        2.5
    )


@pytest.mark.parametrize("method", ["feature-ablation", "kernel-shap", "lime"])
def test_background_rows_of_a_file_are_found_by_their_columns_names(method: str, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("city,label,member,children,age\nParis,yes,true,1,10\nLondon,no,false,3,50.0\n")
    proto = columns()
    name = "baseline" if method == "kernel-shap" else "fill"
    params = {"samples": 400, "alpha": 0.0} if method == "lime" else {}
    found = explain(proto, ROW, method, **{name: f"samples:{path}"}, **params)
    expected = {"age": 0.5 * (30 - 30), "children": 2 * (2 - 2), "member": 4 * (1 - 0.5), "city": -1 - (3 + 0.5) / 2}
    for (
        name,
        value,
    ) in expected.items():  # each is linear in its own column: the weight times the distance from the mean
        assert found.attributions[name][0, 0] == pytest.approx(value, abs=1e-3)
    assert "cells of 2 background rows" in found.record["notes"][-1]
    assert found.record["fills"][0]["path"] == str(path)


def test_a_sample_is_explained_alone_as_in_a_batch() -> None:
    proto = words()
    texts = np.array(["bad", TEXT, "not good"], object)
    for method in ("feature-ablation", "kernel-shap", "lime"):
        together, alone = (
            explain(
                proto,
                texts,
                method,
            ),
            explain(proto, texts[1:2], method),
        )
        np.testing.assert_allclose(together.raw[1, : alone.raw.shape[1]], alone.raw[0], atol=1e-6)


def test_words_joined_to_a_count_of_segments() -> None:
    found = explain(words(), np.array(["good good bad fine"]), "feature-ablation", segments=2)
    np.testing.assert_allclose(found.raw[0], [4, 4, -2, -2], atol=1e-5)
    mask = explain(words(), np.array(["good good bad fine"]), "feature-ablation", segments=[0, 1, 1, 0])
    np.testing.assert_allclose(mask.raw[0], [3, -1, -1, 3], atol=1e-5)
    fewer = explain(words(), np.array(["good good bad fine"]), "feature-ablation", budget=2)
    assert fewer.record["segments"] == [2] and any("budget" in note for note in fewer.record["notes"])


def test_runs_at_once_give_the_same() -> None:
    x = np.array([TEXT + " good not good bad fine"] * 2)
    one, four = (
        analyzer.load(words(), "cpu", threads=threads).explain(x, "kernel-shap", 0, samples=400) for threads in (1, 4)
    )
    np.testing.assert_array_equal(one.raw, four.raw)


@pytest.mark.parametrize("method", ["feature-ablation", "occlusion", "kernel-shap"])
def test_only_named_inputs_are_changed(method: str) -> None:
    drops = {"age": 15.0, "children": 4.0, "member": 4.0, "city": CITY_SCORES[1]}
    for names in (["city"], ["age"], ["city", "member"]):
        found = explain(columns(), ROW, method, inputs=names)
        assert list(found.attributions) == names
        for name in names:
            assert found.attributions[name][0, 0] == pytest.approx(drops[name], abs=1e-4)
        held = [name for name in ROW if name not in names]
        assert f"held fixed: {', '.join(held)}" in found.record["notes"]


def test_names_of_other_uses_hold_no_text_back() -> None:
    """A column of text may be called as token types and positions are."""
    proto = odd_encoders()
    for node in proto.graph.node:
        node.input[:] = [{"size": "segment", "price": "position_ids"}.get(name, name) for name in node.input]
    for value, name in zip(proto.graph.input, ("segment", "position_ids"), strict=True):
        value.name = name
    found = explain(proto, {"segment": np.array([["L"]]), "position_ids": np.array([["2.5"]])}, "kernel-shap")
    assert {name: float(each[0, 0]) for name, each in found.attributions.items()} == pytest.approx(
        {"segment": 3, "position_ids": 2.5}
    )


def captioned() -> onnx.ModelProto:
    """The mean of a picture, and the score of a city beside it."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["picture"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["mean"]),
        helper.make_node(
            "OneHotEncoder", ["city"], ["wide"], name="encode", domain="ai.onnx.ml", cats_strings=CITIES, zeros=1
        ),
        helper.make_node("Squeeze", ["wide", "axis"], ["code"]),
        helper.make_node("MatMul", ["code", "w"], ["by_city"]),
        helper.make_node("Add", ["mean", "by_city"], ["scores"]),
    ]
    inputs = {"picture": (TensorProto.FLOAT, ["n", 1, 4, 4]), "city": (TensorProto.STRING, ["n", 1])}
    weights = {"axis": np.array([1]), "w": np.array(CITY_SCORES, np.float32).reshape(3, 1)}
    return assemble(nodes, inputs, {"scores": (TensorProto.FLOAT, ["n", 1])}, weights, domains={"ai.onnx.ml": 3})


@pytest.mark.parametrize("method", ["feature-ablation", "lime", "kernel-shap"])
def test_a_picture_beside_a_text(method: str) -> None:
    picture = np.random.default_rng(0).standard_normal((2, 1, 4, 4)).astype(np.float32)
    x = {"picture": picture, "city": np.array([["Paris"], ["Rome"]], object)}
    params = {"samples": 200, "alpha": 0.0, "fill": 0} if method == "lime" else {}
    found = explain(captioned(), x, method, segments="grid:2", **params)
    blocks = picture.reshape(2, 1, 2, 2, 2, 2).sum((3, 5), keepdims=True) / 16
    np.testing.assert_allclose(
        found.attributions["picture"].reshape(2, 1, 2, 2, 2, 2), np.broadcast_to(blocks, (2, 1, 2, 2, 2, 2)), atol=1e-3
    )
    np.testing.assert_allclose(found.attributions["city"][:, 0], CITY_SCORES[:2], atol=1e-3)
    assert [[each["value"] for each in sample] for sample in found.record["features"]] == [["Paris"], ["Rome"]]


def test_masks_that_blend_leave_a_text_beside_a_picture_alone() -> None:
    x = {"picture": np.ones((1, 1, 4, 4), np.float32), "city": np.array([["Paris"]], object)}
    with pytest.raises(analyzer.UnsupportedError, match="text of input 'city'") as caught:
        explain(captioned(), x, "rise", masks=50)
    assert "inputs=NAME" in caught.value.hint
    found = explain(captioned(), x, "rise", masks=50, inputs="picture")
    assert list(found.attributions) == ["picture"] and "held fixed: city" in found.record["notes"]
    blurred = explain(captioned(), x, "feature-ablation", fill="blur", segments="grid:2")
    assert np.abs(blurred.attributions["picture"]).max() < 1e-6  # a picture of one colour
    assert blurred.attributions["city"][0, 0] == pytest.approx(CITY_SCORES[0])
