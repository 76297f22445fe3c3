"""``onnxplain compile``: what it writes and says, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

import analyzer
from tests.cli.conftest import Call, files_in


def test_one_line_and_a_model(call: Call, pictures_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.onnx"
    ran = call("compile", pictures_model, "-m", "lrp", "-p", "epsilon=0.1", "-o", out)
    assert ran.code == 0, ran.err
    assert ran.out.count("\n") == 1
    assert "lrp of top1" in ran.out
    x = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    got = session.run(["relevance"], {"x": x})[0]
    want = analyzer.load(pictures_model, device="cpu").explain(x, method="lrp", epsilon=0.1).raw
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max() > 0


def test_json(call: Call, pictures_model: Path, tmp_path: Path) -> None:
    ran = call("compile", pictures_model, "-m", "gradient", "-t", "bee", "--json", "-o", tmp_path / "c.onnx")
    assert ran.code == 0, ran.err
    assert (ran.json["batch"], ran.json["relevance"]) == (None, {"x": "relevance"})
    assert ran.json["bytes"] == (tmp_path / "c.onnx").stat().st_size


def test_refuses_the_model_itself(call: Call, pictures_model: Path) -> None:
    ran = call("compile", pictures_model, "-m", "gradient", "-o", pictures_model)
    assert (ran.code, "[output.is_input]" in ran.error) == (2, True)


def test_refuses_other_methods(call: Call, pictures_model: Path, tmp_path: Path) -> None:
    ran = call("compile", pictures_model, "-m", "occlusion", "-o", tmp_path / "c.onnx")
    assert (ran.code, "[compile.method]" in ran.error) == (3, True)
    assert files_in(tmp_path) == {pictures_model.name}


def test_missing_folder(call: Call, pictures_model: Path, tmp_path: Path) -> None:
    ran = call("compile", pictures_model, "-m", "gradient", "-o", tmp_path / "none" / "c.onnx")
    assert (ran.code, "[output.unwritable]" in ran.error) == (2, True)
