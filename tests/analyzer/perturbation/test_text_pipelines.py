"""Pipelines of scikit-learn that take text, exported: predicted as scikit-learn does, and explained as it would have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import analyzer

pytest.importorskip("skl2onnx")

Array = NDArray[Any]
METHODS = ("feature-ablation", "occlusion", "kernel-shap", "lime")


def people(count: int = 200) -> tuple[Array, Array]:
    """Rows of age, fare, city and job, and a class that follows from them."""
    dice = np.random.default_rng(0)
    rows = np.empty((count, 4), object)
    rows[:, 0], rows[:, 1] = dice.integers(18, 80, count).astype(float), dice.random(count).round(2)
    rows[:, 2], rows[:, 3] = dice.choice(["Paris", "Rome", "New York"], count), dice.choice(["cook", "clerk"], count)
    return rows, ((rows[:, 2] == "Paris") * 2 + (rows[:, 3] == "cook") + (rows[:, 0] > 40) > 1.5).astype(int)


def reviews(count: int = 200) -> tuple[list[str], Array]:
    """Texts of six words, two of which are kind or unkind."""
    dice = np.random.default_rng(0)
    kind = dice.integers(0, 2, count)
    pools = (["Bad", "awful", "poor"], ["good", "GREAT", "fine"])
    texts = [[*dice.choice(pools[each], 2), *dice.choice(["movie", "the", "a", "plot"], 4)] for each in kind]
    return [" ".join(dice.permutation(text)) for text in texts], kind


def exported(made: Any, types: list[tuple[str, Any]], **more: Any) -> analyzer.Model:
    from skl2onnx import convert_sklearn

    options = {id(made): {"zipmap": False}}
    return analyzer.load(convert_sklearn(made, initial_types=types, options=options, target_opset=18, **more), "cpu")


@pytest.mark.parametrize("encoder", ["one-hot", "ordinal"])
def test_categories(encoder: str) -> None:
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    rows, classes = people()
    rows = rows[:, 2:]
    steps: dict[str, tuple[Any, Any]] = {
        "one-hot": (OneHotEncoder(handle_unknown="ignore"), LogisticRegression()),
        "ordinal": (
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
            RandomForestClassifier(10, random_state=0),
        ),
    }
    made = make_pipeline(*steps[encoder]).fit(rows, classes)
    model = exported(made, [("x", StringTensorType([None, 2]))])
    x = rows[:5]
    expected = made.predict_proba(x)
    np.testing.assert_allclose(model.predict(x)["probabilities"], expected, atol=1e-6)
    found = model.explain(x, "feature-ablation", 1, score="probability")
    for column in range(2):
        changed = x.copy()
        changed[:, column] = ""
        drop = expected[:, 1] - made.predict_proba(changed)[:, 1]
        np.testing.assert_allclose(found.attribution[:, column], drop, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grouped", [False, True])
def test_numbers_and_categories(grouped: bool, method: str) -> None:
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rows, classes = people()
    encode = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), [0, 1]),
            ("categories", OneHotEncoder(handle_unknown="ignore"), [2, 3]),
        ]
    )
    made = make_pipeline(encode, LogisticRegression()).fit(rows, classes)
    one, text = FloatTensorType([None, 1]), StringTensorType([None, 1])
    types = [("age", one), ("fare", one), ("city", text), ("job", text)]
    if grouped:
        types = [("numbers", FloatTensorType([None, 2])), ("categories", StringTensorType([None, 2]))]
    model = exported(made, types)
    x = rows[:3].copy()
    feed = {name: x[:, [at]].astype(np.float32 if at < 2 else object) for at, (name, _) in enumerate(types)}
    if grouped:
        feed = {"numbers": x[:, :2].astype(np.float32), "categories": x[:, 2:]}
    np.testing.assert_allclose(model.predict(feed)["probabilities"], made.predict_proba(x), atol=1e-6)
    found = model.explain(feed, method, 1, score="probability")
    maps = np.concatenate(list(found.attributions.values()), axis=1)
    assert maps.shape == (3, 4) and np.isfinite(maps).all()
    nothing = np.array([[0.0, 0.0, "", ""]], object)
    if method in ("feature-ablation", "occlusion"):
        for column in range(4):
            changed = x.copy()
            changed[:, column] = nothing[0, column]
            drop = made.predict_proba(x)[:, 1] - made.predict_proba(changed)[:, 1]
            np.testing.assert_allclose(maps[:, column], drop, atol=1e-5)
    if method == "kernel-shap":
        gain = made.predict_proba(x)[:, 1] - made.predict_proba(nothing)[0, 1]
        np.testing.assert_allclose(maps.sum(axis=1), gain, atol=1e-5)


@pytest.mark.parametrize("pairs", [False, True])
def test_words_of_a_vectorizer(pairs: bool) -> None:
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, classes = reviews()
    vectorizer = CountVectorizer(ngram_range=(1, 2)) if pairs else TfidfVectorizer()
    made = make_pipeline(vectorizer, LogisticRegression()).fit(texts, classes)
    model = exported(made, [("text", StringTensorType([None, 1]))])
    x = np.array([["GOOD plot and fine movie"], ["The movie was awful"]], object)
    score = made.predict_proba(x[:, 0])[:, 1]
    np.testing.assert_allclose(model.predict(x)["probabilities"][:, 1], score, atol=1e-6)
    found = model.explain(x, "feature-ablation", 1, score="probability")
    for sample, (text,) in enumerate(x):
        words = text.split()
        without = [" ".join(words[:at] + words[at + 1 :]) for at in range(len(words))]
        drops = score[sample] - made.predict_proba(without)[:, 1]
        np.testing.assert_allclose(found.raw[sample, 0, : len(words)], drops, atol=1e-5)
    values = model.explain(x, "kernel-shap", 1, score="probability")
    np.testing.assert_allclose(values.attribution[:, 0], score - made.predict_proba([""])[0, 1], atol=1e-5)


def test_a_text_beside_a_category() -> None:
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    texts, classes = reviews()
    rows = np.empty((len(texts), 2), object)
    rows[:, 0], rows[:, 1] = texts, np.where(np.arange(len(texts)) % 2, "cinema", "home")
    encode = ColumnTransformer([("t", TfidfVectorizer(), 0), ("c", OneHotEncoder(handle_unknown="ignore"), [1])])
    made = make_pipeline(encode, LogisticRegression()).fit(rows, classes)
    model = exported(made, [("text", StringTensorType([None, 1])), ("place", StringTensorType([None, 1]))])
    feed = {"text": rows[:2, :1], "place": rows[:2, 1:]}
    found = model.explain(feed, "feature-ablation", 1, score="probability")
    for column, name in enumerate(feed):
        changed = rows[:2].copy()
        changed[:, column] = ""
        drop = made.predict_proba(rows[:2])[:, 1] - made.predict_proba(changed)[:, 1]
        np.testing.assert_allclose(found.attributions[name][:, 0], drop, atol=1e-5)
