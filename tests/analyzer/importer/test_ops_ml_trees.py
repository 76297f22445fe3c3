"""Tree ensembles against onnxruntime: every mode, aggregate and transform, and what libraries export."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from analyzer.errors import InputError
from tests.analyzer.importer import oracle

ML = "ai.onnx.ml"
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
FEATURES = 4


def random_forest(
    rng: np.random.Generator, trees: int, depth: int, modes: list[str], prefix: str, targets: list[int], positive: bool
) -> dict[str, Any]:
    """Attributes of an ensemble of random trees with thresholds among the inputs' values."""
    out: dict[str, list[Any]] = {
        key: []
        for key in (
            "nodes_treeids",
            "nodes_nodeids",
            "nodes_featureids",
            "nodes_values",
            "nodes_modes",
            "nodes_truenodeids",
            "nodes_falsenodeids",
            "nodes_missing_value_tracks_true",
            f"{prefix}_treeids",
            f"{prefix}_nodeids",
            f"{prefix}_ids",
            f"{prefix}_weights",
        )
    }

    def grow(tree: int, number: int, level: int) -> int:
        """Append a node and its subtree; gives the next free number."""
        leaf = level == depth or (level > 0 and rng.random() < 0.2)
        row = len(out["nodes_treeids"])
        out["nodes_treeids"].append(tree)
        out["nodes_nodeids"].append(number)
        out["nodes_featureids"].append(0 if leaf else int(rng.integers(FEATURES)))
        out["nodes_values"].append(0.0 if leaf else float(rng.integers(-2, 3)))
        out["nodes_modes"].append("LEAF" if leaf else str(rng.choice(modes)))
        out["nodes_missing_value_tracks_true"].append(int(rng.random() < 0.5))
        out["nodes_truenodeids"].append(0)
        out["nodes_falsenodeids"].append(0)
        if leaf:
            for target in targets:
                out[f"{prefix}_treeids"].append(tree)
                out[f"{prefix}_nodeids"].append(number)
                out[f"{prefix}_ids"].append(target)
                weight = abs(rng.normal()) / trees if positive else rng.normal()
                out[f"{prefix}_weights"].append(float(np.float32(weight)))
            return number + 1
        out["nodes_truenodeids"][row] = number + 1
        after = grow(tree, number + 1, level + 1)
        out["nodes_falsenodeids"][row] = after
        return grow(tree, after, level + 1)

    for tree in range(trees):
        grow(tree, 0, 0)
    return out


def inputs(rng: np.random.Generator, missing: bool, dtype: type = np.float32) -> np.ndarray:
    x = rng.integers(-3, 4, (9, FEATURES)).astype(dtype)
    x[::2] += rng.normal(size=x[::2].shape).astype(dtype) if np.dtype(dtype).kind == "f" else 0
    if missing:
        x[rng.random(x.shape) < 0.3] = np.nan
    return x


def check(op: str, x: np.ndarray, outputs: int = 1, since: int = 3, atol: float = 1e-5, **attributes: Any) -> None:
    model = oracle.node_model(op, {"x": x}, outputs, 17, ML, (), {ML: since}, **attributes)
    model.ir_version = 10
    oracle.check(model, {"x": x}, rtol=1e-4, atol=atol)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    modes=st.lists(st.sampled_from(MODES), min_size=1, max_size=3),
    missing=st.booleans(),
    targets=st.integers(1, 3),
    aggregate=st.sampled_from(["SUM", "AVERAGE", "MIN", "MAX"]),
    transform=st.sampled_from(["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]),
    based=st.booleans(),
    since=st.sampled_from([1, 3]),
)
def test_regressor(
    seed: int,
    modes: list[str],
    missing: bool,
    targets: int,
    aggregate: str,
    transform: str,
    based: bool,
    since: int,
) -> None:
    rng = np.random.default_rng(seed)
    forest = random_forest(rng, 3, 3, modes, "target", list(range(targets)), False)
    extra = {"base_values": rng.normal(size=targets).astype(np.float32).tolist()} if based else {}
    check(
        "TreeEnsembleRegressor",
        inputs(rng, missing),
        since=since,
        n_targets=targets,
        aggregate_function=aggregate,
        post_transform=transform,
        **forest,
        **extra,
    )


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    modes=st.lists(st.sampled_from(MODES), min_size=1, max_size=2),
    missing=st.booleans(),
    classes=st.integers(2, 4),
    kept=st.sampled_from(["all", "first", "second"]),
    positive=st.booleans(),
    transform=st.sampled_from(["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]),
    based=st.sampled_from([0, 1, 2]),
    trees=st.sampled_from([1, 3]),
)
def test_classifier(
    seed: int,
    modes: list[str],
    missing: bool,
    classes: int,
    kept: str,
    positive: bool,
    transform: str,
    based: int,
    trees: int,
) -> None:
    rng = np.random.default_rng(seed)
    targets = {"all": list(range(classes)), "first": [0], "second": [1]}[kept]
    forest = random_forest(rng, trees, 3, modes, "class", targets, positive)
    count = {0: 0, 1: 1 if classes == 2 else 0, 2: classes}[based]
    extra = {"base_values": rng.normal(size=count).astype(np.float32).tolist()} if count else {}
    check(
        "TreeEnsembleClassifier",
        inputs(rng, missing),
        2,
        since=1,
        classlabels_int64s=[7, 3, 5, 11][:classes],
        post_transform=transform,
        **forest,
        **extra,
    )


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32])
def test_other_input_types(dtype: type) -> None:
    rng = np.random.default_rng(0)
    forest = random_forest(rng, 3, 3, ["BRANCH_LEQ"], "class", [0, 1, 2], True)
    check("TreeEnsembleClassifier", inputs(rng, False, dtype), 2, since=1, classlabels_int64s=[0, 1, 2], **forest)


def test_doubles_compare_as_doubles() -> None:
    """A threshold that float32 can't hold decides in float64."""
    threshold = 0.1 + 1e-12
    tensors = {
        "nodes_values_as_tensor": numpy_helper.from_array(np.array([threshold, 0.0, 0.0])),
        "target_weights_as_tensor": numpy_helper.from_array(np.array([1.0, 2.0])),
    }
    x = np.array([[0.1], [0.1 + 2e-12]])
    model = oracle.node_model(
        "TreeEnsembleRegressor",
        {"x": x},
        1,
        17,
        ML,
        (),
        {ML: 3},
        n_targets=1,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        **tensors,
    )
    oracle.check(model, {"x": x})
    np.testing.assert_array_equal(oracle.table(model, {"x": x})[0][:, 0], [1.0, 2.0])


@pytest.mark.parametrize("aggregate", [0, 1, 2, 3])
@pytest.mark.parametrize("transform", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", range(7))
def test_trees_with_a_table_of_leaves(aggregate: int, transform: int, dtype: type, mode: int) -> None:
    rng = np.random.default_rng(mode)
    x = inputs(rng, False, dtype)
    x = np.round(x) if mode == 6 else x  # onnxruntime rounds a value towards zero before it looks into the set
    sets = {"membership_values": numpy_helper.from_array(np.array([1, 2, np.nan, -1, 3, 0, np.nan], dtype))}
    model = oracle.node_model(
        "TreeEnsemble",
        {"x": x},
        1,
        21,
        ML,
        (),
        {ML: 5},
        n_targets=2,
        aggregate_function=aggregate,
        post_transform=transform,
        tree_roots=[0, 2],
        nodes_modes=numpy_helper.from_array(np.array([mode, 0, mode], np.uint8)),
        nodes_featureids=[0, 2, 1],
        nodes_splits=numpy_helper.from_array(np.array([1.0, 0.0, 1.0] if mode < 6 else [0.0, 0.0, 0.0], dtype)),
        nodes_truenodeids=[1, 0, 2],
        nodes_trueleafs=[0, 1, 1],
        nodes_falsenodeids=[3, 1, 4],
        nodes_falseleafs=[1, 1, 1],
        leaf_targetids=[0, 1, 0, 1, 1],
        leaf_weights=numpy_helper.from_array(rng.normal(size=5).astype(dtype)),
        **(sets if mode == 6 else {}),
    )
    oracle.check(model, {"x": x}, rtol=1e-4, atol=1e-5)


def test_broken_trees_are_refused() -> None:
    rng = np.random.default_rng(0)
    forest = random_forest(rng, 1, 2, ["BRANCH_LEQ"], "target", [0], False)
    lost = dict(forest, nodes_truenodeids=[99, *forest["nodes_truenodeids"][1:]])
    endless = dict(forest, nodes_truenodeids=[1, 1, *forest["nodes_truenodeids"][2:]])
    endless["nodes_modes"] = ["BRANCH_LEQ", "BRANCH_LEQ", *forest["nodes_modes"][2:]]
    x = inputs(rng, False)
    for attributes in (lost, endless):
        model = oracle.node_model("TreeEnsembleRegressor", {"x": x}, 1, 17, ML, (), {ML: 3}, n_targets=1, **attributes)
        with pytest.raises(InputError) as refused:
            oracle.table(model, {"x": x})
        assert refused.value.code == "op.bad_attribute"


# --- what libraries export ----------------------------------------------------------------------------------


def estimators() -> dict[str, Any]:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        GradientBoostingClassifier,
        GradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler
    from sklearn.svm import SVC, SVR, LinearSVC
    from sklearn.tree import DecisionTreeClassifier

    seed = {"random_state": 0}
    mixed = ColumnTransformer([("number", StandardScaler(), [0, 1, 2]), ("category", OneHotEncoder(), [3])])
    return {
        "forest": RandomForestClassifier(12, **seed),
        "forest-regression": RandomForestRegressor(8, **seed),
        "extra-trees": ExtraTreesClassifier(6, **seed),
        "tree": DecisionTreeClassifier(max_depth=3, **seed),
        "boosting": GradientBoostingClassifier(n_estimators=8, **seed),
        "boosting-regression": GradientBoostingRegressor(n_estimators=8, **seed),
        "svc": SVC(**seed),
        "svc-linear": SVC(kernel="linear", **seed),
        "svr": SVR(),
        "linear-svc": LinearSVC(**seed),
        "logistic": LogisticRegression(max_iter=300),
        "mlp": MLPClassifier((7,), max_iter=60, **seed),
        "ridge": Ridge(),
        "pipeline": make_pipeline(mixed, LogisticRegression(max_iter=300)),
        "imputed": make_pipeline(SimpleImputer(), Normalizer(), RandomForestClassifier(5, **seed)),
    }


NAMES = ["forest", "forest-regression", "extra-trees", "tree", "boosting", "boosting-regression", "svc", "svc-linear"]
NAMES += ["svr", "linear-svc", "logistic", "mlp", "ridge", "pipeline", "imputed"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_scikit_learn_exports(name: str, classes: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 4)).astype(np.float32)
    x[:, 3] = rng.integers(0, 4, 80)
    y = np.digitize(x[:, 0] + x[:, 1] * x[:, 2], [-0.5, 0.5] if classes == 3 else [0.0])
    estimator = estimators()[name].fit(x, y)
    model = _export(estimator, x)
    feed = {model.graph.input[0].name: x[:20]}
    oracle.check(model, feed, rtol=1e-4, atol=1e-5)


def _export(estimator: Any, x: np.ndarray) -> onnx.ModelProto:
    skl2onnx = pytest.importorskip("skl2onnx")
    options = (
        {id(estimator): {"zipmap": False}}
        if hasattr(estimator, "classes_") and type(estimator).__name__ != "LinearSVC"
        else None
    )
    model: onnx.ModelProto = skl2onnx.to_onnx(estimator, x[:1], options=options, target_opset={"": 17, ML: 3})
    return model


@pytest.mark.filterwarnings("ignore")
def test_class_names_are_positions_in_exports() -> None:
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    y = np.array(["ant", "bee", "cow"])[np.digitize(x[:, 0], [-0.4, 0.4])]
    estimator = RandomForestClassifier(6, random_state=0).fit(x, y)
    model = _export(estimator, x)
    feed = {model.graph.input[0].name: x[:15]}
    names, probabilities = oracle.runtime(model, feed)
    label, mine = oracle.table(model, feed)
    np.testing.assert_array_equal(estimator.classes_[label], names)
    np.testing.assert_allclose(mine, probabilities, rtol=1e-4, atol=1e-5)


def test_real_ensembles(shared: Any) -> None:
    rng = np.random.default_rng(3)
    for name in ("sk_cancer_xgboost", "sk_digits_rf", "sk_wine_lightgbm", "sk_diabetes_gbr"):
        model = onnx.load(shared / "data" / "models" / f"{name}.onnx")
        (given,) = model.graph.input
        width = given.type.tensor_type.shape.dim[1].dim_value
        x = (rng.normal(size=(6, width)) * 3).astype(np.float32)
        expected, got = oracle.runtime(model, {given.name: x}), oracle.table(model, {given.name: x})
        for mine, theirs in zip(got, expected, strict=True):
            if isinstance(theirs, list):
                theirs = np.array([list(row.values()) for row in theirs], np.float32)
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)
