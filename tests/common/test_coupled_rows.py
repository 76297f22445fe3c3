"""Rows that depend on each other, found out by running them: one at a time, or all as one sample, and said so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import analyzer
from analyzer.methods import registry
from tests.common.models import assemble

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT
METHODS = [
    name for name, info in registry.methods().items() if info.needs == "runtime" and name not in ("bubbles", "rise")
]
X = np.random.default_rng(3).standard_normal((4, 5)).astype(np.float32)
ALONE, ONE = "run one at a time", "all of them are one sample"


def weights(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def centred() -> analyzer.Model:
    """Each row less the mean of all rows of the batch: no operator is known for it."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["rest"]),
        helper.make_node("Add", ["rest", "x"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w"], ["h"]),
        helper.make_node("Tanh", ["h"], ["y"]),
    ]
    return analyzer.load(
        assemble(nodes, {"x": (FLOAT, ["n", 5])}, {"y": (FLOAT, ["n", 2])}, {"w": weights(1, 5, 2)}), "cpu", threads=1
    )


def graph(nodes_fixed: bool = False) -> analyzer.Model:
    """A layer over the nodes of a graph, which an adjacency matrix mixes."""
    steps = [
        helper.make_node("MatMul", ["adjacency", "x"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "w"], ["h"]),
        helper.make_node("Tanh", ["h"], ["bent"]),
        helper.make_node("MatMul", ["adjacency", "bent"], ["again"]),
        helper.make_node("MatMul", ["again", "v"], ["y"]),
    ]
    count: Any = 4 if nodes_fixed else "nodes"
    inputs = {"x": (FLOAT, [count, 5]), "adjacency": (FLOAT, [count, count])}
    constants = {"w": weights(2, 5, 6), "v": weights(3, 6, 2)}
    return analyzer.load(assemble(steps, inputs, {"y": (FLOAT, [count, 2])}, constants), "cpu", threads=1)


ADJACENCY = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]], np.float32) / 2


def quick(method: str) -> dict[str, Any]:
    return dict(registry.get(method).quick)


@pytest.mark.parametrize("method", METHODS)
def test_copies_are_run_alone_where_rows_change_each_other(method: str) -> None:
    whole = centred().explain(X, method, target=1, **quick(method))
    assert any(ALONE in note for note in whole.record["notes"])
    for row in range(len(X)):
        alone = centred().explain(X[row : row + 1], method, target=1, **quick(method))
        assert any(ALONE in note for note in alone.record["notes"])
        np.testing.assert_allclose(whole.attribution[row], alone.attribution[0], atol=1e-6)
        np.testing.assert_allclose(whole.score[row], centred().predict(X[row : row + 1])["y"][0, 1], atol=1e-6)


def test_the_drop_is_that_of_a_copy_alone() -> None:
    model = centred()
    e = model.explain(X[:1], "occlusion", target=1, window=1, stride=1)
    for column in range(5):
        copy = X[:1].copy()
        copy[0, column] = 0
        want = model.predict(X[:1])["y"][0, 1] - model.predict(copy)["y"][0, 1]
        np.testing.assert_allclose(e.attribution[0, column], want, atol=1e-6)


def test_integrated_gradients_of_coupled_rows_take_every_point_alone() -> None:
    model = centred()
    e = model.explain(X[:1], "integrated-gradients", target=1, steps=64)
    assert e.completeness is not None
    np.testing.assert_allclose(e.completeness.total, e.completeness.expected, atol=1e-3)


@pytest.mark.parametrize("fixed", [False, True], ids=["free", "fixed"])
@pytest.mark.parametrize("target", ["1", "y[2,1]"])
def test_the_nodes_of_a_graph_are_one_sample(target: str, fixed: bool) -> None:
    model = graph(fixed)
    feed: dict[str, Array] = {"x": X, "adjacency": ADJACENCY}
    e = model.explain(feed, "feature-ablation", target=target, inputs="x")
    assert any(ONE in note for note in e.record["notes"])

    def score(x: Array) -> float:
        y = model.predict({"x": x, "adjacency": ADJACENCY})["y"]
        return float(y[2, 1] if "[" in target else y[:, 1].sum())

    assert e.attribution.shape == (4, 1)
    for node in range(4):
        hidden = X.copy()
        hidden[node] = 0
        np.testing.assert_allclose(e.attribution[node], score(X) - score(hidden), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_a_graph_for_one_sample(method: str) -> None:
    e = graph().explain({"x": X, "adjacency": ADJACENCY}, method, target="y[2,1]", **quick(method))
    assert set(e.attributions) == {"x", "adjacency"}
    for name, value in e.attributions.items():
        assert np.isfinite(value).all() and value.shape[0] == 4, name
    if method == "kernel-shap":
        total = sum(value.mean(axis=1).sum() for value in e.attributions.values())
        assert np.isfinite(total)


def test_rows_that_don_t_depend_on_each_other_are_run_together() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    model = analyzer.load(
        assemble(nodes, {"x": (FLOAT, ["n", 5])}, {"y": (FLOAT, ["n", 2])}, {"w": weights(1, 5, 2)}), "cpu"
    )
    for x in (X, X[:1]):
        assert model.coupling(model.feed(x), len(x)).kind == "none"
        assert model.explain(x, "occlusion", target=1).record["notes"] == []


def test_how_much_a_random_score_varies_is_said() -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"], scale=0.5),
        helper.make_node("Add", ["x", "noise"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w"], ["y"]),
    ]
    model = analyzer.load(
        assemble(nodes, {"x": (FLOAT, ["n", 5])}, {"y": (FLOAT, ["n", 2])}, {"w": weights(1, 5, 2)}), "cpu"
    )
    notes = model.explain(X, "occlusion", target=1).record["notes"]
    assert any(note.startswith("RandomNormalLike draws random numbers: the same input scored from") for note in notes)


def test_gradients_of_coupled_rows_are_those_of_each_row_alone() -> None:
    whole = centred().explain(X, "gradient", target=1)
    assert any(ALONE in note for note in whole.record["notes"])
    for row in range(len(X)):
        np.testing.assert_allclose(
            whole.attribution[row], centred().explain(X[row : row + 1], "gradient", target=1).attribution[0], atol=1e-6
        )


@pytest.mark.parametrize("method", ["lime", "deeplift", "integrated-gradients"])
def test_one_node_of_a_graph_is_drawn_and_summed_up(method: str, tmp_path: Any) -> None:
    e = graph().explain({"x": X, "adjacency": ADJACENCY}, method, target="y[2,1]", inputs="x")
    assert any(ONE in note for note in e.record["notes"])
    assert not any("miss" in note for note in e.record["notes"])
    e.save(tmp_path / "e.html")
    if e.completeness is not None:
        assert len(e.completeness.total) == 1
        np.testing.assert_allclose(e.completeness.total, e.completeness.expected, atol=1e-2)


def test_a_map_of_zeros_is_said() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Sign", ["h"], ["y"])]
    model = analyzer.load(
        assemble(nodes, {"x": (FLOAT, ["n", 5])}, {"y": (FLOAT, ["n", 2])}, {"w": weights(1, 5, 2)}), "cpu"
    )
    notes = model.explain(X, "gradient", target=1).record["notes"]
    assert any(note.startswith("the map is zero everywhere") for note in notes)
