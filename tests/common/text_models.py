"""Tiny ONNX models that take text: categories, whole texts, and numbers beside them. Not here: what is checked on them.

They are made of the operators that pipelines with encoders and vectorizers become. All have an output ``scores`` of two columns,
batch first, that is linear in what the encoders give.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.common.models import assemble

Array = NDArray[Any]
CITIES, JOBS = ("Paris", "Rome", "London"), ("cook", "clerk")
#: What each category adds to the first score; the second is its negative.
CITY_SCORES, JOB_SCORES = (3.0, -1.0, 0.5), (2.0, -4.0)
WORDS = ("good", "fine", "bad", "poor")
#: What each word, and the pair "not good", adds to the first score.
WORD_SCORES, PAIR_SCORE = (2.0, 1.0, -3.0, -1.5), -5.0
_ML = {"ai.onnx.ml": 3}


def _one_hot(source: str, into: str, categories: tuple[str, ...], zeros: int) -> NodeProto:
    return helper.make_node(
        "OneHotEncoder",
        [source],
        [into],
        name=f"encode_{into}",
        domain="ai.onnx.ml",
        cats_strings=categories,
        zeros=zeros,
    )


def _signed(values: Any) -> Array:
    column = np.array(values, np.float32).reshape(-1, 1)
    return np.concatenate([column, -column], axis=1)


def categories(zeros: int = 1, batch: int | str = "n") -> onnx.ModelProto:
    """City and job as the columns of one input ``x`` (batch, 2); without ``zeros`` an unknown category is an error."""
    nodes = [
        helper.make_node("Gather", ["x", "zero"], ["city"], axis=1),
        helper.make_node("Gather", ["x", "one"], ["job"], axis=1),
        _one_hot("city", "cities", CITIES, zeros),
        _one_hot("job", "jobs", JOBS, zeros),
        helper.make_node("Concat", ["cities", "jobs"], ["wide"], axis=2),
        helper.make_node("Reshape", ["wide", "row"], ["encoded"]),
        helper.make_node("MatMul", ["encoded", "w"], ["scores"], name="linear"),
    ]
    weights = {
        "zero": np.array([0]),
        "one": np.array([1]),
        "row": np.array([-1, 5]),
        "w": _signed([*CITY_SCORES, *JOB_SCORES]),
    }
    outputs = {"scores": (TensorProto.FLOAT, [batch, 2])}
    return assemble(nodes, {"x": (TensorProto.STRING, [batch, 2])}, outputs, weights, domains=_ML)


def columns() -> onnx.ModelProto:
    """An input for each column: ``age`` (a float, 0.5 a year), ``children`` (an integer, 2 each), ``member`` (4), ``city``."""
    nodes = [
        helper.make_node("Mul", ["age", "half"], ["by_age"]),
        helper.make_node("Cast", ["children", ], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "two"], ["by_children"]),
        helper.make_node("Cast", ["member"], ["truth"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["truth", "four"], ["by_member"]),
        _one_hot("city", "encoded", CITIES, 1),
        helper.make_node("Squeeze", ["encoded", "axis"], ["cities"]),
        helper.make_node("MatMul", ["cities", "w"], ["by_city"]),
        helper.make_node("Sum", ["by_age", "by_children", "by_member"], ["by_numbers"]),
        helper.make_node("Mul", ["by_numbers", "signs"], ["both"]),
        helper.make_node("Add", ["both", "by_city"], ["scores"]),
    ]  # fmt: skip
    weights = {
        "half": np.float32(0.5).reshape(1), "two": np.float32(2).reshape(1), "four": np.float32(4).reshape(1),
        "axis": np.array([1]), "w": _signed(CITY_SCORES), "signs": np.array([[1, -1]], np.float32),
    }  # fmt: skip
    kinds = {
        "age": TensorProto.FLOAT, "children": TensorProto.INT64, "member": TensorProto.BOOL, "city": TensorProto.STRING,
    }  # fmt: skip
    inputs = {name: (kind, ["n", 1]) for name, kind in kinds.items()}
    return assemble(nodes, inputs, {"scores": (TensorProto.FLOAT, ["n", 2])}, weights, domains=_ML)


def words(shape: tuple[int | str, ...] = ("n",), kind: bool = False) -> onnx.ModelProto:
    """A text cut at white space, its words and pairs of words counted; with ``kind`` the city as an input beside it."""
    ngrams = [*WORDS, "not", "good"]  # the pair is one bigram of two pieces
    nodes = [
        helper.make_node("Reshape", ["text", "flat"], ["texts"]),
        helper.make_node("StringSplit", ["texts"], ["pieces", "counts"], name="split"),
        helper.make_node(
            "TfIdfVectorizer", ["pieces"], ["counted"], name="count", mode="TF", min_gram_length=1, max_gram_length=2,
            max_skip_count=0, ngram_counts=[0, len(WORDS)], ngram_indexes=list(range(len(WORDS) + 1)), pool_strings=ngrams,
        ),
        helper.make_node("MatMul", ["counted", "w"], ["by_words" if kind else "scores"], name="linear"),
    ]  # fmt: skip
    weights = {"flat": np.array([-1]), "w": _signed([*WORD_SCORES, PAIR_SCORE])}
    inputs: dict[str, Any] = {"text": (TensorProto.STRING, list(shape))}
    if kind:
        inputs["city"] = (TensorProto.STRING, ["n", 1])
        nodes += [
            _one_hot("city", "encoded", CITIES, 1),
            helper.make_node("Squeeze", ["encoded", "axis"], ["cities"]),
            helper.make_node("MatMul", ["cities", "v"], ["by_city"]),
            helper.make_node("Add", ["by_words", "by_city"], ["scores"]),
        ]
        weights |= {"axis": np.array([1]), "v": _signed(CITY_SCORES)}
    outputs = {"scores": (TensorProto.FLOAT, ["n", 2])}
    return assemble(nodes, inputs, outputs, weights, opset=20, domains=_ML)


def word_score(text: str) -> float:
    """The first score of :func:`words`, counted by hand."""
    found = text.split()
    pairs = sum(pair == ("not", "good") for pair in itertools.pairwise(found))
    return sum(WORD_SCORES[WORDS.index(word)] for word in found if word in WORDS) + PAIR_SCORE * pairs


def odd_encoders() -> onnx.ModelProto:
    """Text that is mapped, joined, and read as a number: ``size`` "S" is 1 and "L" 3, ``price`` a number in letters."""
    nodes = [
        helper.make_node(
            "CategoryMapper", ["size"], ["mapped"], name="map", domain="ai.onnx.ml", cats_strings=["S", "L"],
            cats_int64s=[1, 3], default_int64=0,
        ),
        helper.make_node("Cast", ["mapped"], ["by_size"], to=TensorProto.FLOAT),
        helper.make_node("StringConcat", ["nought", "price"], ["digits"], name="join"),
        helper.make_node("Cast", ["digits"], ["by_price"], name="read", to=TensorProto.FLOAT),
        helper.make_node("Add", ["by_size", "by_price"], ["sum"]),
        helper.make_node("Mul", ["sum", "signs"], ["scores"]),
    ]  # fmt: skip
    inputs = {"size": (TensorProto.STRING, ["n", 1]), "price": (TensorProto.STRING, ["n", 1])}
    made = assemble(
        nodes, inputs, {"scores": (TensorProto.FLOAT, ["n", 2])}, {"signs": np.array([[1, -1]], np.float32)}, opset=20,
        domains=_ML,
    )  # fmt: skip
    made.graph.initializer.append(numpy_helper.from_array(np.array(["0"], object), "nought"))
    return made
