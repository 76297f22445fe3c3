"""A quantised model passes, one whose scale is wrong fails; figures are those of scipy and scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score

from analyzer.errors import ParityError
from analyzer.model import Model
from tests.analyzer.gate.linear import SIDE, given, linear
from tests.analyzer.gate.quantised import with_wrong_scale
from tests.analyzer.gate.scenes import MODELS, judged, policy, scenes, write

CHECK = {"kind": "explanation_drift"}
REFERENCE = {"reference": {"path": str(MODELS / "shapes_cnn.onnx")}}


def test_a_quantised_model_passes_and_one_with_a_wrong_scale_fails(tmp_path: Path, int8: Path) -> None:
    images, _, labels = scenes(60)
    data = write(tmp_path, images, labels)
    good = judged(policy(int8, data, CHECK, **REFERENCE))
    assert good.status == "pass", good.message
    assert good.outcome.tests[0].estimate < 1  # it isn't the same model
    wrong, _ = with_wrong_scale(int8, tmp_path / "wrong.onnx", 96)
    bad = judged(policy(wrong, data, CHECK, **REFERENCE))
    assert bad.status == "fail"
    shown = bad.outcome.exhibits
    correlation = bad.outcome.values["rank correlation"]
    assert shown[0].id == f"data.npz[{int(np.nanargmin(correlation))}]"
    assert shown[0].other is not None
    assert shown[0].other[0] == "the reference"


def test_inputs_that_cant_be_traced_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).normal(0, 1, (70, 1, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=x)
    model = linear(tmp_path / "a.onnx", np.random.default_rng(2).normal(0, 1, (SIDE * SIDE, 2)))
    own = Model.explain

    def refused(self: Model, feed: Any, *args: Any, **options: Any) -> Any:
        if any((row == x[7]).all() for row in feed["image"]):
            raise ParityError("parity.mismatch", "the trace disagrees with onnxruntime")
        return own(self, feed, *args, **options)

    monkeypatch.setattr(Model, "explain", refused)
    found = judged(given(model, tmp_path / "data.npz", CHECK, reference={"path": str(model)}))
    assert found.status == "pass"
    assert np.flatnonzero(np.isnan(found.outcome.values["nDCG"])).tolist() == [7]
    assert found.outcome.left_out == {"the model can't be traced as onnxruntime runs it": 1}


def test_the_same_model_agrees_in_everything(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", image=np.random.default_rng(1).normal(0, 1, (60, 1, SIDE, SIDE)).astype(np.float32))
    model = linear(tmp_path / "a.onnx", np.random.default_rng(2).normal(0, 1, (SIDE * SIDE, 2)))
    found = judged(given(model, tmp_path / "data.npz", CHECK, reference={"path": str(model)}))
    assert found.status == "pass"
    for values in found.outcome.values.values():
        np.testing.assert_allclose(values, 1.0, rtol=1e-12)


def test_figures_of_inputs_whose_class_is_unchanged(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(0, 1, (SIDE * SIDE, 3))
    after = before + rng.normal(0, 0.3, before.shape)
    x = rng.normal(0, 1, (90, 1, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=x)
    model, reference = linear(tmp_path / "b.onnx", after), linear(tmp_path / "a.onnx", before)
    found = judged(given(model, tmp_path / "data.npz", CHECK, reference={"path": str(reference)}))
    flat = x.reshape(len(x), -1).astype(np.float64)
    classes = [(flat @ weights).argmax(axis=1) for weights in (before, after)]
    changed = classes[0] != classes[1]
    assert 0 < changed.sum() < 40
    assert found.outcome.left_out == {"the class changed": int(changed.sum())}
    for at in range(len(x)):
        values = [found.outcome.values[name][at] for name in ("rank correlation", "top-k overlap", "nDCG")]
        if changed[at]:
            assert np.isnan(values).all()
            continue
        theirs, own = (flat[at] * weights[:, classes[1][at]] for weights in (before, after))
        top = [set(np.argsort(-np.abs(each))[:6]) for each in (theirs, own)]  # 10 % of 64
        expected = [
            spearmanr(theirs, own).statistic, len(top[0] & top[1]) / 6,
            ndcg_score(np.abs(theirs)[None], np.abs(own)[None]),
        ]  # fmt: skip
        np.testing.assert_allclose(values, expected, rtol=1e-4)


def test_a_reference_may_call_its_input_otherwise(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 1, (SIDE * SIDE, 3))
    np.savez(tmp_path / "data.npz", image=rng.normal(0, 1, (60, 1, SIDE, SIDE)).astype(np.float32))
    model, reference = linear(tmp_path / "b.onnx", weights), linear(tmp_path / "a.onnx", weights, name="picture")
    for kind in ("explanation_drift", "tensor_sqnr"):
        found = judged(given(model, tmp_path / "data.npz", {"kind": kind}, reference={"path": str(reference)}))
        assert found.status == "pass", found.message


def test_a_map_that_ranks_nothing_beside_one_that_does_agrees_in_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(0, 1, (SIDE * SIDE, 2))
    x = np.abs(rng.normal(0, 1, (60, 1, SIDE, SIDE))).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=x)
    before[:, 0] = np.abs(before[:, 0])  # class 0 always
    before[:, 1] = -np.abs(before[:, 1])
    blind = np.zeros_like(before)  # also class 0, by the order alone
    model, reference = linear(tmp_path / "b.onnx", blind), linear(tmp_path / "a.onnx", before)
    found = judged(given(model, tmp_path / "data.npz", CHECK, reference={"path": str(reference)}))
    assert found.status == "fail"
    assert not found.outcome.values["rank correlation"].any()
    other = judged(given(reference, tmp_path / "data.npz", CHECK, reference={"path": str(model)}))
    assert other.status == "inconclusive"
    assert other.outcome.left_out == {"the reference's map ranks nothing": 60}
