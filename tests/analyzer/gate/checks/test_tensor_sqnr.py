"""A quantised model passes, one whose scale is wrong fails and its tensor is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.analyzer.gate.linear import SIDE, given, linear
from tests.analyzer.gate.quantised import with_wrong_scale
from tests.analyzer.gate.scenes import MODELS, judged, policy, scenes, write

CHECK = {"kind": "tensor_sqnr"}
REFERENCE = {"reference": {"path": str(MODELS / "shapes_cnn.onnx")}}


def test_a_quantised_model_passes_and_one_with_a_wrong_scale_fails(tmp_path: Path, int8: Path) -> None:
    images, _, labels = scenes(60)
    data = write(tmp_path, images, labels)
    good = judged(policy(int8, data, CHECK, **REFERENCE))
    assert good.status == "pass", good.message
    wrong, value = with_wrong_scale(int8, tmp_path / "wrong.onnx", 32)
    bad = judged(policy(wrong, data, CHECK, **REFERENCE))
    assert bad.status == "fail"
    assert bad.outcome.details["worst"][0]["tensor"] == value
    assert f"{value!r} is the noisiest" in bad.message


def test_figures_are_those_of_the_definition(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(0, 1, (SIDE * SIDE, 3))
    after = before + rng.normal(0, 0.05, before.shape)
    x = rng.normal(0, 1, (70, 1, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=x)
    model, reference = linear(tmp_path / "b.onnx", after), linear(tmp_path / "a.onnx", before)
    found = judged(given(model, tmp_path / "data.npz", CHECK, reference={"path": str(reference)}))
    flat = x.reshape(len(x), -1).astype(np.float64)
    one, other = flat @ before, flat @ after
    expected = 10 * np.log10((one**2).sum(axis=1) / ((one - other) ** 2).sum(axis=1))
    np.testing.assert_allclose(found.outcome.values["lowest signal to noise, dB"], expected, atol=1e-3)


def test_equal_models_have_no_noise(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(0, 1, (70, 1, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=x)
    model = linear(tmp_path / "a.onnx", np.ones((SIDE * SIDE, 2)))
    found = judged(given(model, tmp_path / "data.npz", CHECK, reference={"path": str(model)}))
    assert found.status == "pass"


@pytest.mark.parametrize("rows", [1, 3])
def test_figures_dont_depend_on_how_many_inputs_are_looked_at_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    from analyzer.gate.checks import tensor_sqnr

    rng = np.random.default_rng(1)
    weights = rng.normal(0, 1, (2, SIDE * SIDE, 3))
    np.savez(tmp_path / "data.npz", image=rng.normal(0, 1, (62, 1, SIDE, SIDE)).astype(np.float32))
    model, reference = linear(tmp_path / "b.onnx", weights[0]), linear(tmp_path / "a.onnx", weights[1])
    wanted = given(model, tmp_path / "data.npz", CHECK, reference={"path": str(reference)})
    whole = judged(wanted).outcome.values["lowest signal to noise, dB"]
    monkeypatch.setattr(tensor_sqnr, "_BYTES", 2 * 4 * (64 + 64 + 3) * rows)
    cut = judged(wanted).outcome.values["lowest signal to noise, dB"]
    np.testing.assert_allclose(cut, whole, atol=1e-3)
