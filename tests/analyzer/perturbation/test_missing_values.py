"""Rows with missing values, of models that are made for them: what replaces a hole is put there, never multiplied by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import analyzer
from tests.analyzer.methods.linear import linear, weights_of
from tests.common.models import assemble

ROWS = np.array([[np.nan, 2.0, 3.0], [1.0, np.nan, -3.0]], np.float32)
WEIGHTS = np.array([[1.0], [10.0], [100.0]], np.float32)
MEANS = (4.0, 5.0, 6.0)


def imputed() -> onnx.ModelProto:
    """A linear model behind an imputer of means."""
    nodes = [
        helper.make_node(
            "Imputer",
            ["x"],
            ["filled"],
            domain="ai.onnx.ml",
            imputed_value_floats=MEANS,
            replaced_value_float=float("nan"),
        ),
        helper.make_node("MatMul", ["filled", "w"], ["y"]),
    ]
    shape = {"x": (TensorProto.FLOAT, ["n", 3])}
    return assemble(nodes, shape, {"y": (TensorProto.FLOAT, ["n", 1])}, {"w": WEIGHTS}, domains={"ai.onnx.ml": 3})


def tree() -> onnx.ModelProto:
    """One split of the first feature at 0.5: 1 at or below it and where it is missing, else 7."""
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
        nodes_missing_value_tracks_true=[1, 0, 0], target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0],
        target_weights=[1.0, 7.0],
    )  # fmt: skip
    shape = {"x": (TensorProto.FLOAT, ["n", 3])}
    return assemble([node], shape, {"y": (TensorProto.FLOAT, ["n", 1])}, {}, domains={"ai.onnx.ml": 3})


@pytest.mark.parametrize("fill", [0.0, 2.5])
@pytest.mark.parametrize("method", ["feature-ablation", "occlusion"])
@pytest.mark.parametrize("made", [imputed, tree])
def test_a_hole_is_replaced_as_by_hand(made: Any, method: str, fill: float) -> None:
    proto = made()
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = analyzer.load(proto, "cpu").explain(ROWS, method, fill=fill)
    for sample, column in np.ndindex(ROWS.shape):
        changed = ROWS[[sample]].copy()
        changed[0, column] = fill
        before, after = (float(session.run(None, {"x": x})[0][0, 0]) for x in (ROWS[[sample]], changed))
        assert found.attribution[sample, column] == pytest.approx(before - after, abs=1e-4)


def test_kernel_shap_and_lime_of_a_linear_model_behind_an_imputer() -> None:
    model = analyzer.load(imputed(), "cpu")
    filled = np.where(np.isnan(ROWS), MEANS, ROWS)
    found = model.explain(ROWS, "kernel-shap", baseline=1.0)
    np.testing.assert_allclose(found.attribution, (filled - 1) * WEIGHTS[:, 0], atol=1e-3)
    weights = model.explain(ROWS, "lime", fill=1.0, alpha=0.0, samples=50)
    np.testing.assert_allclose(weights.attribution, (filled - 1) * WEIGHTS[:, 0], atol=1e-2)


def test_background_rows_may_have_holes_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("1,,3\n,2,5\n")
    found = analyzer.load(imputed(), "cpu").explain(ROWS, "kernel-shap", baseline=f"samples:{path}")
    filled, means = np.where(np.isnan(ROWS), MEANS, ROWS), np.array([(1 + 4) / 2, (5 + 2) / 2, 4.0])
    np.testing.assert_allclose(found.attribution, (filled - means) * WEIGHTS[:, 0], atol=1e-3)


@pytest.mark.parametrize(
    ("method", "params", "code", "said"),
    [
        ("rise", {}, "input.not_blendable", "missing values of input 'x'"),
        ("feature-ablation", {"fill": "mean"}, "fill.nonfinite", "missing values"),
    ],
)
def test_what_can_not_be_made_of_a_hole_is_refused(method: str, params: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(analyzer.AnalyzerError) as caught:
        analyzer.load(imputed(), "cpu").explain(ROWS, method, **params)
    assert caught.value.code == code and said in caught.value.message


def test_models_that_are_not_made_for_missing_values_refuse_them() -> None:
    with pytest.raises(analyzer.InputError, match="NaN") as caught:
        linear(weights_of(3)).explain(ROWS, "feature-ablation")
    assert caught.value.code == "data.nonfinite"
    infinite = np.array([[np.inf, 1, 2]], np.float32)
    with pytest.raises(analyzer.InputError, match="infinite"):
        analyzer.load(imputed(), "cpu").explain(infinite, "feature-ablation")
