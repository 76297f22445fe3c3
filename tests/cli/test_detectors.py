"""``onnxplain explain`` with a detection as target."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.analyzer.targets.detection.nets import BOXES, detector, picture
from tests.cli.conftest import Call

SPEC = 'row = ["x0", "y0", "x1", "y1", "classes"]\n'


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Path]:
    """A detector's file and an input."""
    (tmp_path / "net.onnx").write_bytes(detector("rows").SerializeToString())
    np.save(tmp_path / "x.npy", picture())
    (tmp_path / "names.txt").write_text("ant\nbee\n")
    return tmp_path / "net.onnx", tmp_path / "x.npy"


def test_a_detection_is_explained(call: Call, given: tuple[Path, Path], tmp_path: Path) -> None:
    model, x = given
    (tmp_path / "mine.toml").write_text(SPEC)
    ran = call(
        "explain", model, x, "-m", "occlusion", "-t", "detection:bee:0", "--decode", tmp_path / "mine.toml", "--labels",
        tmp_path / "names.txt", "-o", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "0: ant (0)" in ran.out
    assert "bee (1) in 1, 9, 8, 15" in ran.out
    assert "names for" not in ran.err
    record = json.loads((tmp_path / "out" / "x.occlusion.json").read_text())
    assert record["detection"][0]["box"] == BOXES[1].tolist()
    assert record["detection"][0]["label"] == "bee"
    assert record["decode"] == {"row": ["x0", "y0", "x1", "y1", "classes"]}
    assert "--decode" in (tmp_path / "out" / "report.html").read_text()


def test_the_spec_beside_the_model_is_found(call: Call, given: tuple[Path, Path], tmp_path: Path) -> None:
    model, x = given
    model.with_name("net.decode.toml").write_text(SPEC)
    ran = call("explain", model, x, "-m", "occlusion", "-t", "detection:1", "--json", "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert ran.json["explanations"][0]["detection"][0]["class"] == 1


@pytest.mark.parametrize(
    ("target", "decode", "says"),
    [
        ("detection:0", None, "nothing says how this model's outputs are read as detections"),
        ("detection:0", "yolo1", "no decode spec is called 'yolo1'"),
        ("detection:0", "detr", "names output 'pred_boxes', which isn't there"),
        ("detection:0", "yolov5", "threshold"),
        ("detection:3", SPEC, "detection 3 doesn't exist: 2 score at least 0.25"),
        ("detection:1,2", SPEC, "no labels are known"),
        ("detection:0", "threshold = 2\n" + SPEC, "threshold = 2 should be less than or equal to 1"),
    ],
)
def test_faults_are_one_line(
    call: Call, given: tuple[Path, Path], tmp_path: Path, target: str, decode: str | None, says: str
) -> None:
    model, x = given
    options = []
    if decode is not None:
        if "\n" in decode:
            (tmp_path / "mine.toml").write_text(decode)
            decode = str(tmp_path / "mine.toml")
        options = ["--decode", decode]
    ran = call("explain", model, x, "-m", "occlusion", "-t", target, "-o", tmp_path / "out", *options)
    assert ran.code == 2
    assert says in ran.error
    assert not (tmp_path / "out").exists()


def test_inspect_knows_a_detector(call: Call, given: tuple[Path, Path]) -> None:
    model, _ = given
    assert not call("inspect", "--no-methods", "--json", model).json["detector"]  # rows of 6 numbers might be anything
    model.with_name("net.decode.toml").write_text(SPEC)
    ran = call("inspect", "--no-methods", model)
    assert "-t detection:0 explains a detection; there is a decode spec" in ran.out
    assert call("inspect", "--no-methods", "--json", model).json["decode"] == {
        "row": ["x0", "y0", "x1", "y1", "classes"]
    }
    model.with_name("net.decode.toml").unlink()
    model.write_bytes(detector("split").SerializeToString())
    assert "give a decode spec" in call("inspect", "--no-methods", model).out


def test_a_single_detection_is_called_by_its_name(call: Call, given: tuple[Path, Path], tmp_path: Path) -> None:
    model, x = given
    (tmp_path / "mine.toml").write_text("threshold = 0.9\n" + SPEC)
    ran = call(
        "explain",
        model,
        x,
        "-m",
        "occlusion",
        "-t",
        "detection:0",
        "--decode",
        tmp_path / "mine.toml",
        "-o",
        tmp_path / "out",
    )
    assert ran.code == 0, ran.err
    assert "0: class 0 0.924" in ran.out
    assert "1: class 1" not in ran.out
