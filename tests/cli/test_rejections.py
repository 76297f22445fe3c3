"""Bad input: one line that says what to do, the exit code, nothing written. Not here: the checks themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Call, files_in

EXPLAIN = ["-m", "occlusion"]


@pytest.fixture
def workspace(
    tmp_path: Path, pictures_model: Path, picture: Path, pair_model: Path, table_model: Path, rows: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:  # fmt: skip
    """A working folder with good and bad files."""
    complete = pictures_model.read_bytes()
    bad = {
        "empty.onnx": b"",
        "cut.onnx": complete[: len(complete) * 2 // 3],
        "photo.onnx": picture.read_bytes(),
        "page.onnx": b"<!DOCTYPE html><html>404</html>",
        "text.png": b"not a picture\n",
        "half.png": picture.read_bytes()[:60],
        "empty.png": b"",
        "words.csv": b"1,2,3,x\n",
        "narrow.csv": b"1,2,3\n4,5,6\n",
        "open.toml": b'layout = "NCHW\n',
        "key.toml": b'layot = "NCHW"\n',
        "file": b"",
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "nan.npy", np.full((1, 4), np.nan, np.float32))
    np.save(tmp_path / "a.npy", np.ones((1, 2), np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code", "message"),
    [
        # models
        (["no.onnx", "photo.png", *EXPLAIN], "model.not_found", 2, "no.onnx"),
        (["empty.onnx", "photo.png", *EXPLAIN], "model.empty", 3, "empty.onnx"),
        (["cut.onnx", "photo.png", *EXPLAIN], "model.truncated", 3, "cut.onnx"),
        (["photo.onnx", "photo.png", *EXPLAIN], "model.not_onnx", 3, "PNG"),
        (["page.onnx", "photo.png", *EXPLAIN], "model.not_onnx", 3, "HTML"),
        ([".", "photo.png", *EXPLAIN], "model.is_directory", 3, "folder"),
        # inputs
        (["pictures.onnx", "no.png", *EXPLAIN], "data.missing", 2, "no.png"),
        (["pictures.onnx", "text.png", *EXPLAIN], "data.image_unreadable", 3, "text.png"),
        (["pictures.onnx", "half.png", *EXPLAIN], "data.image_unreadable", 3, "half.png"),
        (["pictures.onnx", "empty.png", *EXPLAIN], "data.image_unreadable", 3, "empty.png"),
        (["pictures.onnx", ".", *EXPLAIN], "data.not_regular", 3, "folder"),
        (["pictures.onnx", "rows.csv", *EXPLAIN], "data.bad_shape", 3, "rows.csv"),
        (["pictures.onnx", "photo.png", "text.png", *EXPLAIN], "data.image_unreadable", 3, "text.png"),
        (["table.onnx", "words.csv", *EXPLAIN], "data.not_a_number", 3, "line 1, column 4"),
        (["table.onnx", "narrow.csv", *EXPLAIN], "data.bad_shape", 3, "narrow.csv"),
        (["table.onnx", "photo.png", *EXPLAIN], "data.bad_shape", 3, "photo.png is a picture"),
        (["table.onnx", "nan.npy", *EXPLAIN], "data.nonfinite", 3, "nan.npy"),
        (["table.onnx", "y=rows.csv", *EXPLAIN], "data.unknown_input", 2, "no input 'y'"),
        (["pair.onnx", "a.npy", *EXPLAIN], "data.inputs", 2, "2 inputs: a, b"),
        (["pair.onnx", "a=a.npy", *EXPLAIN], "data.missing_input", 3, "'b' is missing"),
        (["pair.onnx", "a=a.npy", "a=a.npy", *EXPLAIN], "data.inputs", 2, "given twice"),
        (["pair.onnx", "a=a.npy", "a.npy", *EXPLAIN], "data.inputs", 2, "NAME=FILE"),
        # methods and parameters
        (["pictures.onnx", "photo.png", "-m", "ocllusion"], "method.unknown", 2, "did you mean occlusion?"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "-p", "windw=3"], "params.unknown", 2, "did you mean window?"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "-p", "window"], "params.syntax", 2, "KEY=VALUE"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "-p", "=3"], "params.syntax", 2, "KEY=VALUE"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "-p", "window=abc"], "params.invalid", 2, "window='abc'"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "-p", "occlusion.x=1"], "params.unknown", 2, "no parameter 'x'"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "-p", "lime.samples=9"], "params.unknown", 2, "lime.samples"),
        (["pictures.onnx", "photo.png", "-m", "lime", "-p", "samples=1.5"], "params.invalid", 2, "samples=1.5"),
        (["pictures.onnx", "photo.png", "-m", "lime", "-p", "segments=no.npy"], "data.missing", 2, "no.npy"),
        (["pictures.onnx", "photo.png", "-m", "grad-cam", "-p", "layer=rely"], "layer.unknown", 2, "relu"),
        (["table.onnx", "rows.csv", "-m", "grad-cam"], "layer.none", 3, "convolution"),
        # targets, scores, preprocessing, labels, devices
        (["pictures.onnx", "photo.png", *EXPLAIN, "-t", "5000"], "target.out_of_range", 2, "0 to 2"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "-t", "bea"], "target.unknown_label", 2, "did you mean 'bee'"),
        (["table.onnx", "rows.csv", *EXPLAIN, "-t", "bee"], "target.unknown_label", 2, "--labels"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "-t", "out[:,1]"], "target.unknown_output", 2, "scores"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "-t", "scores[:,x]"], "target.syntax", 2, "[:,x]"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "--score", "odds"], "score.unknown", 2, "logit or probability"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "--preprocess", "open.toml"], "config.preprocess", 2, "open.toml"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "--preprocess", "key.toml"], "config.preprocess", 2, "'layout'"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "--preprocess", "imagent"], "config.preprocess", 2, "'imagenet'"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "--labels", "no.txt"], "data.missing", 2, "no.txt"),
        (["pictures.onnx", "photo.png", *EXPLAIN, "--device", "tpu"], "device.unknown", 2, "cpu, cuda or cuda:N"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(
    call: Call, workspace: Path, arguments: list[str], code: str, exit_code: int, message: str
) -> None:
    before = files_in(workspace)
    ran = call("explain", *arguments, "-o", "out")
    assert ran.code == exit_code, ran.err
    assert ran.out == ""
    assert ran.error.endswith(f"[{code}]")
    assert message in ran.error
    assert "Traceback" not in ran.error
    assert len(ran.error) < 600
    assert files_in(workspace) == before
    error = call("explain", *arguments, "-o", "out", "--json").json["error"]
    assert (error["code"], error["exit_code"]) == (code, exit_code)
    assert files_in(workspace) == before


@pytest.mark.parametrize(
    ("model", "code", "exit_code"),
    [
        ("no.onnx", "model.not_found", 2),
        ("photo.onnx", "model.not_onnx", 3),
        ("cut.onnx", "model.truncated", 3),
        ("file", "model.empty", 3),
    ],
)
def test_inspect_refuses_the_same(call: Call, workspace: Path, model: str, code: str, exit_code: int) -> None:
    ran = call("inspect", model, "--json")
    assert ran.code == exit_code
    assert ran.json["error"]["code"] == code
    assert ran.error.endswith(f"[{code}]")


def test_a_fault_of_the_second_input_leaves_the_first_unwritten(call: Call, workspace: Path) -> None:
    before = files_in(workspace)
    assert call("explain", "table.onnx", "rows.csv", "words.csv", *EXPLAIN, "-o", "out").code == 3
    assert files_in(workspace) == before
