"""Fills, budgets and standard errors as they are written on the command line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Call

W = np.array([1, 2, 0, -3], np.float64)  # the first class' weights in ``table_model``


def record(folder: Path, name: str) -> tuple[Any, Any]:
    """An explanation's record and map."""
    with np.load(folder / f"{name}.npz") as arrays:
        return json.loads((folder / f"{name}.json").read_text()), arrays["attribution"]


@pytest.mark.parametrize("suffix", ["csv", "npy"])
def test_samples_of_a_table(call: Call, table_model: Path, rows: Path, tmp_path: Path, suffix: str) -> None:
    background = np.random.default_rng(0).standard_normal((6, 4)).round(3).astype(np.float32)
    train = tmp_path / f"Train.{suffix}"
    if suffix == "csv":
        np.savetxt(train, background, delimiter=",")
    else:
        np.save(train, background)
    out = tmp_path / "o"
    words = [
        "explain",
        table_model,
        rows,
        "-t",
        "0",
        "-m",
        "kernel-shap",
        "-m",
        "feature-ablation",
        "-o",
        out,
        "--force",
    ]
    ran = call(*words, "-p", f"baseline=samples:{train}", "-p", f"fill=samples:{train}")
    assert ran.code == 0, ran.err
    x = np.array([[1, 2, 3, 4], [1, 0, 0, 0], [0, 0, 1, -1]])
    for method in ("kernel-shap", "feature-ablation"):
        found, attribution = record(out, f"rows.{method}")
        np.testing.assert_allclose(attribution, W * (x - background.mean(axis=0)), atol=1e-4)
        assert found["fills"][0]["sha256"] == hashlib.sha256(train.read_bytes()).hexdigest()
    ran = call(*words, "-p", f"baseline=samples:{train}", "-p", "background=2", "-q")
    assert ran.code == 0, ran.err
    found, _ = record(out, "rows.kernel-shap")
    assert found["evaluations"] == 3 * 2 * 2**4
    assert any("2 of 6" in note for note in found["notes"])


def test_another_image(call: Call, pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "Other.png", tmp_path / "o"
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (20, 30, 3), np.uint8)).save(other)
    words = ["explain", pictures_model, picture, "-m", "occlusion", "-p", "window=4", "-o", out, "--force"]
    assert call(*words, "-p", f"fill=image:{other}").code == 0
    _, by_name = record(out, "photo.occlusion")
    assert call(*words, "-p", f"fill=image:{picture}").code == 0
    np.testing.assert_allclose(record(out, "photo.occlusion")[1], 0, atol=1e-6)
    assert np.abs(by_name).max() > 1e-3


def test_limits(call: Call, pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    words = [
        "explain",
        pictures_model,
        picture,
        "-m",
        "rise",
        "-m",
        "occlusion",
        "-o",
        out,
        "-p",
        "occlusion.fill=inpaint",
    ]
    ran = call(*words, "-p", "standard_error=0.2", "-p", "occlusion.budget=9")
    assert ran.code == 0, ran.err
    assert "stride" in ran.err
    assert "budget" in ran.err
    found, _ = record(out, "photo.rise")
    assert found["stopped"] == ["standard error"]
    assert found["relative_error"][0] <= 0.2
    assert record(out, "photo.occlusion")[0]["evaluations"] <= 9


@pytest.mark.parametrize(
    ("params", "word"),
    [
        (["fill=image:nowhere.png"], "nowhere.png"),
        (["fill=samples:rows.csv"], "rows.csv"),
        (["fill=inpainted"], "inpaint"),
        (["fill=image:"], "image:FILE"),
        (["budget=0"], "budget"),
        (["budget=many"], "budget"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    call: Call,
    pictures_model: Path,
    picture: Path,
    rows: Path,
    tmp_path: Path,
    monkeypatch: Any,
    params: Any,
    word: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [text for param in params for text in ("-p", param)]
    ran = call("explain", pictures_model, picture, "-m", "occlusion", *options)
    assert ran.code in (2, 3)
    assert word in ran.error
    assert not (tmp_path / "onnxplain-out").exists()
