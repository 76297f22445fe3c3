"""Every perturbation method on models whose answer is known: pictures, series, tables, words; trees and products too."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.methods.context import Context
from tests.analyzer.methods.known import by_definition, forest, network, products, row, row_model
from tests.analyzer.methods.linear import Array, linear, weights_of
from tests.common.models import assemble, cases, tokens

#: Parameters with which a method tells the segments of the models below apart.
PARAMS: dict[str, dict[str, Any]] = {
    "occlusion": {},
    "feature-ablation": {},
    "lime": {"samples": 400, "fill": 0.0, "alpha": 1e-3},
    "kernel-shap": {"samples": 400},
    "rise": {"masks": 2000},
    "bubbles": {"samples": 1500, "count": 4},
    "meaningful-perturbation": {"fill": 0.0, "steps": 120, "tv": 0.0},
}
TABLES = [name for name in PARAMS if name != "bubbles"]
EXACT = ["occlusion", "feature-ablation", "lime", "kernel-shap"]


def run(model: analyzer.Model, x: Array, method: str, **more: Any) -> Array:
    """The attribution with parameters that suit the method."""
    return model.explain(x, method=method, **{**PARAMS[method], **more}).attribution


def segmented(method: str, grid: Any, window: int) -> dict[str, Any]:
    """Parameters that make a method cut an input into the given blocks."""
    if method in ("feature-ablation", "lime", "kernel-shap"):
        return {"segments": grid}
    return {"window": window, "stride": window} if method == "occlusion" else {}


# --- where the evidence is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", PARAMS)
@pytest.mark.parametrize("bump", ["Identity", "Tanh", "Sigmoid"])
def test_the_block_of_a_picture_that_counts(method: str, bump: str) -> None:
    """One of sixteen blocks holds the evidence: the map is largest in it, and small in all blocks that don't touch it."""
    w = np.zeros((3, 32, 32), np.float32)
    w[:, 8:16, 16:24] = 0.01
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["z"]),
        helper.make_node(bump, ["z"], ["e"]),
        helper.make_node("Mul", ["e", "two"], ["y"]),
    ]
    weights = {"w": w.reshape(-1, 1), "two": np.full(1, 2, np.float32)}
    proto = assemble(nodes, {"x": (1, ["n", 3, 32, 32])}, {"y": (1, ["n", 1])}, weights)
    x = np.ones((1, 3, 32, 32), np.float32)
    found = run(analyzer.load(proto, "cpu"), x, method, **segmented(method, "grid:8", 8))[0]
    blocks = np.broadcast_to(found, (found.shape[0], 32, 32)).sum(axis=0).reshape(4, 8, 4, 8).mean(axis=(1, 3))
    assert np.unravel_index(blocks.argmax(), (4, 4)) == (1, 2)
    apart = np.array([[max(abs(i - 1), abs(j - 2)) > 1 for j in range(4)] for i in range(4)])
    assert np.abs(blocks[apart]).max() < 0.35 * blocks[1, 2]


@pytest.mark.parametrize("method", PARAMS)
def test_the_piece_of_a_series_that_counts(method: str) -> None:
    w = np.zeros((2, 64), np.float32)
    w[:, 24:32] = 0.1
    x = np.ones((2, 2, 64), np.float32)
    found = run(linear(w), x, method, **segmented(method, 8, 8))
    pieces = found.sum(axis=1).reshape(2, 8, 8).mean(axis=2)
    assert (pieces.argmax(axis=1) == 3).all()
    assert (np.abs(pieces[:, [0, 1, 5, 6, 7]]).max(axis=1) < 0.35 * pieces[:, 3]).all()


@pytest.mark.parametrize("method", TABLES)
def test_the_columns_that_count(method: str) -> None:
    w = np.zeros(10, np.float32)
    w[[2, 7]] = 2.0
    found = run(linear(w), np.ones((2, 10), np.float32), method)
    order = np.argsort(-found, axis=1)[:, :2]
    np.testing.assert_array_equal(np.sort(order, axis=1), [[2, 7], [2, 7]])
    np.testing.assert_allclose(found[:, w == 0], 0, atol=0.25 * found.max())


@pytest.mark.parametrize("method", [m for m in TABLES if m != "meaningful-perturbation"])
def test_the_words_that_count(method: str) -> None:
    w = np.zeros(9, np.float32)
    w[[1, 5]] = 1.0, -1.0
    ids = np.full((2, 9), 4)
    found = run(linear(w, dtype=TensorProto.INT64), ids, method)
    assert (found.argmax(axis=1) == 1).all()
    assert (found.argmin(axis=1) == 5).all()
    np.testing.assert_allclose(found[:, w == 0], 0, atol=0.25 * found.max())


# --- how much it counts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EXACT)
def test_an_additive_score_gives_each_column_its_own_part(method: str) -> None:
    """sum of g_i(x_i): every segment's part is g_i(x_i) - g_i(0), whatever the rest is."""
    count = 8
    rng = np.random.default_rng(2)
    a, c = rng.standard_normal((2, count)).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["x", "a"], ["ax"]), helper.make_node("Tanh", ["ax"], ["t"]),
        helper.make_node("MatMul", ["t", "c"], ["y"]),
    ]  # fmt: skip
    model, x = row_model(nodes, count, {"a": a, "c": c[:, None]}), row(count)
    found = run(model, x, method, **({"alpha": 1e-9} if method == "lime" else {}))
    np.testing.assert_allclose(found, c * np.tanh(a * x), rtol=1e-3, atol=1e-4)


def test_products_by_definition() -> None:
    """Ablation gives the whole product to each factor, Shapley values share it equally, LIME lies between."""
    game = products({(0, 1): 2.0, (2, 3, 4): -1.5, (5,): 1.0}, row(6))
    worth = [float(weight * game.x[0, list(members)].prod()) for members, weight in
             {(0, 1): 2.0, (2, 3, 4): -1.5, (5,): 1.0}.items()]  # fmt: skip
    whole = np.repeat(worth, [2, 3, 1])
    for method in ("occlusion", "feature-ablation"):
        np.testing.assert_allclose(run(game.model, game.x, method)[0], whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        run(game.model, game.x, "kernel-shap")[0], whole / [2, 2, 3, 3, 3, 1], rtol=1e-4, atol=1e-5
    )
    lime = run(game.model, game.x, "lime", samples=4000, kernel_width=100.0)[0]
    expected = whole * [0.5, 0.5, 0.25, 0.25, 0.25, 1.0]  # the mean over coalitions in which the rest comes and goes
    np.testing.assert_allclose(lime, expected, atol=0.1 * np.abs(whole).max())


def test_columns_that_trees_never_ask_count_nothing() -> None:
    game = forest(row(6, 5), 3)
    for method in ("occlusion", "feature-ablation", "kernel-shap"):
        found = run(game.model, game.x, method)[0]
        alone = [game.score(np.where(np.arange(6) == i, 0, game.x))[0] for i in range(6)]
        expected = game.truth if method == "kernel-shap" else game.score(game.x)[0] - alone
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max() + 1e-6)


@pytest.mark.parametrize("method", ["feature-ablation", "lime", "kernel-shap", "occlusion"])
def test_trees_that_ask_two_columns(method: str) -> None:
    """A forest grown on a target of two of eight columns: nothing is given to columns that no tree splits on."""
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, (400, 8)).astype(np.float32)
    seen = rows.copy()
    seen[:, [0, 2, 3, 5, 6, 7]] = 0  # constant columns can't be split on
    trees = RandomForestRegressor(20, max_depth=4, random_state=0).fit(seen, 3 * (rows[:, 1] > 0) + (rows[:, 4] > 0))
    proto = to_onnx(trees, rows[:1], target_opset=15)
    model = analyzer.load(proto.SerializeToString(), "cpu", threads=1)
    x = np.full((1, 8), 0.9, np.float32)
    found = run(model, x, method, **({"baseline": -0.9} if method == "kernel-shap" else {"fill": -0.9}))[0]
    np.testing.assert_allclose(found[[1, 4]], [3, 1], rtol=0.1)
    np.testing.assert_allclose(found[[0, 2, 3, 5, 6, 7]], 0, atol=0.05)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_definition_agrees_with_orders(count: int) -> None:
    """Shapley values are the mean over all orders of what a feature adds; the tests' own formula against that."""
    game = network("Tanh", row(min(count, 5), 1), 2)
    size = game.x.shape[1]
    total, orders = np.zeros(size), list(itertools.permutations(range(size)))
    for order in orders:
        kept = np.zeros((size + 1, size), bool)
        for at, feature in enumerate(order):
            kept[at + 1 :, feature] = True
        total[list(order)] += np.diff(game.coalitions(kept))
    np.testing.assert_allclose(by_definition("same", game.model, game.x).truth, total / len(orders), atol=1e-6)


@pytest.mark.parametrize(("count", "windows"), [(10, 10), (33, 33), (128, 128), (129, 16)])
def test_columns_and_words_are_occluded_one_by_one(count: int, windows: int) -> None:
    """Neighbouring columns have nothing in common; only rows too long for a table are cut into windows."""
    x, w = row(count), weights_of(count)
    done = linear(w).explain(x, method="occlusion")
    assert done.record["windows"] == windows
    if windows == count:
        np.testing.assert_allclose(done.attribution, x * w, rtol=1e-3, atol=1e-4)
    ids = np.full((1, count), 3)
    assert linear(w, dtype=TensorProto.INT64).explain(ids, method="occlusion").record["windows"] == windows


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("method", ["feature-ablation", "lime", "kernel-shap"])
def test_columns_that_are_inputs_of_their_own_are_one_table(method: str, flat: bool) -> None:
    """2 a + 3 b * c, with a whole number among them and a truth value that stays as it is."""
    side = ["n"] if flat else ["n", 1]
    nodes = [
        helper.make_node("Cast", ["a"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "two"], ["a2"]),
        helper.make_node("Mul", ["b", "c"], ["bc"]),
        helper.make_node("Mul", ["bc", "three"], ["bc3"]),
        helper.make_node("Add", ["a2", "bc3"], ["s"]),
        helper.make_node("Cast", ["flag"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["s", "number"], ["y"]),
    ]
    types = {"flag": TensorProto.BOOL, "a": TensorProto.INT64, "b": TensorProto.FLOAT, "c": TensorProto.FLOAT}
    weights = {"two": np.float32([2]), "three": np.float32([3])}
    proto = assemble(nodes, {k: (t, side) for k, t in types.items()}, {"y": (1, side)}, weights)
    shape = (2,) if flat else (2, 1)
    x = {
        "flag": np.array([True, False]).reshape(shape), "a": np.array([4, -1]).reshape(shape),
        "b": np.float32([0.5, 2]).reshape(shape), "c": np.float32([2, -1]).reshape(shape),
    }  # fmt: skip
    more = {"kernel_width": 100.0, "samples": 4000, "alpha": 1e-6} if method == "lime" else {}
    done = analyzer.load(proto, "cpu").explain(x, method=method, **{**PARAMS[method], **more})
    assert list(done.attributions) == ["a", "b", "c"]
    np.testing.assert_allclose(done.attributions["a"], 2.0 * x["a"], atol=0.3 if method == "lime" else 1e-5)
    share = 1.0 if method == "feature-ablation" else 0.5
    for name in ("b", "c"):
        expected = share * 3 * x["b"] * x["c"]
        np.testing.assert_allclose(done.attributions[name], expected, atol=0.3 if method == "lime" else 1e-5)


@pytest.mark.parametrize("method", [m for m in PARAMS if m != "meaningful-perturbation"])
def test_inputs_that_stay_as_they_are_are_named(method: str) -> None:
    case = next(case for case in cases(2) if case.name == "two")
    model = analyzer.load(case.proto, "cpu", threads=1)
    done = model.explain(case.feed, method=method, inputs="picture", **QUICK.get(method, {}))
    assert "held fixed: row" in done.record["notes"]


# --- embeddings -----------------------------------------------------------------------------------------------------


def embedded(rows: Array, kept: Array) -> Array:
    """Class scores of the model of ``tokens`` with parts of the embedding set to zero; (n, 7, 4) bool."""
    from onnx import numpy_helper

    weights = {w.name: numpy_helper.to_array(w) for w in tokens().graph.initializer}
    hidden = np.maximum((weights["table"][rows] * kept) @ weights["w1"], 0)
    return (hidden.mean(axis=-2) @ weights["w2"]).astype(np.float64)


@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_a_mask_of_the_embeddings_shape_cuts_the_embedding(batch: int | str) -> None:
    """Ablation, Shapley values and LIME of blocks of the embedding, against the network written out."""
    ids = np.random.default_rng(6).integers(0, 11, (3, 7))
    mask = np.arange(7)[:, None] // 3 * 2 + np.arange(4)[None] // 2  # 3 pieces of words by 2 halves
    model = analyzer.load(tokens(batch), "cpu", threads=1)
    count = int(mask.max()) + 1
    for sample, target in enumerate((0, 1, 2)):
        kept = np.array(list(itertools.product([False, True], repeat=count)))
        worth = dict(zip(map(tuple, kept), embedded(ids[sample], kept[:, mask])[:, target], strict=True))
        full = (True,) * count
        drops = [worth[full] - worth[tuple(i != s for i in range(count))] for s in range(count)]
        done = model.explain(ids, method="feature-ablation", segments=mask, target=[0, 1, 2])
        np.testing.assert_allclose(done.raw[sample], np.array(drops)[mask], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(done.attribution[sample], np.array(drops)[mask].sum(axis=1), rtol=1e-4, atol=1e-5)
        assert done.attribution.shape == ids.shape
        assert done.raw.shape == (3, 7, 4)
        shap = model.explain(ids, method="kernel-shap", segments=mask[None], target=[0, 1, 2], samples=64)
        summed = sum(shap.raw[sample][mask == s][0] for s in range(count))
        assert summed == pytest.approx(worth[full] - worth[(False,) * count], rel=1e-4, abs=1e-5)
        assert shap.record["parity"]["error"] < 1e-4
    lime = model.explain(ids, method="lime", segments=mask, target=[0, 1, 2], samples=60)
    assert lime.raw.shape == (3, 7, 4)


# --- seeds, batches -------------------------------------------------------------------------------------------------

CASES = {
    "image": (linear(weights_of(3, 12, 12)), np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype("f4")),
    "series": (linear(weights_of(2, 40)), np.random.default_rng(1).standard_normal((2, 2, 40)).astype("f4")),
    "table": (network("Tanh", row(14), 3).model, np.random.default_rng(2).standard_normal((2, 14)).astype("f4")),
    "tokens": (analyzer.load(tokens(), "cpu", threads=1), np.random.default_rng(3).integers(0, 11, (2, 7))),
}  # fmt: skip
QUICK = {"rise": {"masks": 150}, "bubbles": {"samples": 150}, "lime": {"samples": 150}, "kernel-shap": {"samples": 90},
         "meaningful-perturbation": {"steps": 15}}  # fmt: skip
EVERY = [(m, k) for m in PARAMS for k in CASES if not (m == "bubbles" and k in ("table", "tokens"))]


@pytest.mark.parametrize(("method", "kind"), EVERY)
def test_one_seed_one_result_in_batches_of_any_size(method: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit in batches of one size; otherwise to rounding, since the size is found by measuring."""
    model, x = CASES[kind]
    first = model.explain(x, method=method, seed=5, target=0, **QUICK.get(method, {}))
    assert first.record["evaluations"] > 0
    near = 1e-6 * max(float(np.abs(first.attribution).max()), 1)
    for size in (1, 7):
        monkeypatch.setattr(Context, "batch_size", lambda _, size=size: size)
        once, again = (model.explain(x, method=method, seed=5, target=0, **QUICK.get(method, {})) for _ in range(2))
        np.testing.assert_allclose(once.attribution, first.attribution, rtol=0, atol=near)
        np.testing.assert_array_equal(again.attribution, once.attribution)
        assert once.record["evaluations"] == again.record["evaluations"] == first.record["evaluations"]
