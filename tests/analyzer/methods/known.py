"""Models whose Shapley values are known, and Shapley values by their definition. Not here: what is checked on them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

import analyzer
from tests.analyzer.methods.linear import Array
from tests.common.models import assemble


@dataclass(frozen=True)
class Game:
    """A model of a row of features.

    Attributes
    ----------
    truth
        Shapley values at ``x`` against a baseline of zeros.
    """

    name: str
    model: analyzer.Model
    x: Array
    truth: Array

    def score(self, rows: Array) -> Array:
        """The model's score of many rows."""
        return next(iter(self.model.predict(rows.astype(np.float32)).values())).reshape(len(rows)).astype(np.float64)

    def coalitions(self, kept: Array) -> Array:
        """Scores with only some features there; (n, features) bool."""
        return self.score(np.where(kept, self.x, 0))


def row_model(nodes: list[onnx.NodeProto], count: int, weights: Mapping[str, Array]) -> analyzer.Model:
    """A model from ``x`` (n, count) to ``y`` (n, 1)."""
    shapes = {"x": (TensorProto.FLOAT, ["n", count])}
    given = {name: np.asarray(value) for name, value in weights.items()}
    proto = assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["n", 1])}, given)
    return analyzer.load(proto, "cpu", threads=1)


def products(terms: Mapping[tuple[int, ...], float], x: Array) -> Game:
    """``sum over terms of weight * product of its features``: each feature of a term gets an equal share of it."""
    nodes, truth = [], np.zeros(x.shape[1])
    weights: dict[str, Array] = {}
    for at, (members, weight) in enumerate(terms.items()):
        weights |= {f"i{at}": np.array(members, np.int64), f"w{at}": np.array([weight], np.float32)}
        nodes += [
            helper.make_node("Gather", ["x", f"i{at}"], [f"g{at}"], axis=1),
            helper.make_node("ReduceProd", [f"g{at}"], [f"p{at}"], axes=[1], keepdims=1),
            helper.make_node("Mul", [f"p{at}", f"w{at}"], [f"t{at}"]),
        ]
        truth[list(members)] += weight * x[0, list(members)].astype(np.float64).prod() / len(members)
    nodes.append(helper.make_node("Sum", [f"t{at}" for at in range(len(terms))], ["y"]))
    return Game("products", row_model(nodes, x.shape[1], weights), x, truth)


def largest(x: Array) -> Game:
    """``max(x, 0)``, the airport game: each step up is shared by the features that reach it."""
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("ReduceMax", ["positive"], ["y"], axes=[1], keepdims=1),
    ]
    values = np.maximum(x[0].astype(np.float64), 0)
    order, truth, shared, below = np.argsort(values), np.zeros(len(values)), 0.0, 0.0
    for at, feature in enumerate(order):
        shared += (values[feature] - below) / (len(values) - at)
        below, truth[feature] = values[feature], shared
    return Game("largest", row_model(nodes, x.shape[1], {}), x, truth)


def network(kind: str, x: Array, seed: int) -> Game:
    """A layer of 16 units; Shapley values by their definition."""
    rng = np.random.default_rng(seed)
    count = x.shape[1]
    weights = {
        "a": rng.standard_normal((count, 16)).astype(np.float32),
        "b": rng.standard_normal(16).astype(np.float32),
        "c": rng.standard_normal((16, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["z"]),
        helper.make_node(kind, ["z"], ["r"]),
        helper.make_node("MatMul", ["r", "c"], ["y"]),
    ]
    return by_definition(kind.lower(), row_model(nodes, count, weights), x)


def forest(x: Array, seed: int) -> Game:
    """Boosted trees of scikit-learn, through skl2onnx; Shapley values by their definition."""
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingRegressor

    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((300, x.shape[1])).astype(np.float32)
    goal = rows[:, 0] * rows[:, 1] + np.abs(rows[:, 2]) + rows[:, 3:] @ rng.standard_normal(x.shape[1] - 3)
    trees = GradientBoostingRegressor(n_estimators=40, max_depth=3, random_state=0).fit(rows, goal)
    proto = to_onnx(trees, rows[:1], target_opset=15)
    return by_definition("forest", analyzer.load(proto.SerializeToString(), "cpu", threads=1), x)


def by_definition(name: str, model: analyzer.Model, x: Array) -> Game:
    """A game whose truth is found from all coalitions."""
    game = Game(name, model, x, np.zeros(x.shape[1]))
    return Game(name, model, x, shapley(game.coalitions, x.shape[1]))


def shapley(value: Callable[[Array], Array], count: int) -> Array:
    """Shapley values: over all coalitions without a feature, what it adds, weighted by how many orders begin so."""
    subsets = [s for size in range(count + 1) for s in itertools.combinations(range(count), size)]
    kept = np.zeros((len(subsets), count), bool)
    for row, subset in zip(kept, subsets, strict=True):
        row[list(subset)] = True
    worth = dict(zip(subsets, value(kept), strict=True))
    found = np.zeros(count)
    for subset in subsets:
        orders = math.factorial(len(subset)) * math.factorial(count - len(subset) - 1) if len(subset) < count else 0
        for feature in set(range(count)) - set(subset):
            joined = tuple(sorted((*subset, feature)))
            found[feature] += orders / math.factorial(count) * (worth[joined] - worth[subset])
    return found


def row(count: int, seed: int = 1) -> Array:
    """One row of features away from zero."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(0.5, 1.5, (1, count)) * rng.choice([-1, 1], (1, count))).astype(np.float32)


def five() -> list[Game]:
    """Games of twelve features with interactions."""
    rng = np.random.default_rng(5)
    members = [(i,) for i in range(12)] + [tuple(rng.choice(12, n, replace=False)) for n in (2, 2, 2, 3, 3, 4, 5)]
    terms = {tuple(int(i) for i in m): float(rng.standard_normal()) for m in members}
    return [
        products(terms, row(12)), largest(np.abs(row(12, 2)) * np.linspace(0.5, 2, 12, dtype=np.float32)),
        network("Tanh", row(12, 3), 3), network("Relu", row(12, 4), 4), forest(row(12, 5), 5),
    ]  # fmt: skip
