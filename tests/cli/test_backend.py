"""``explain --backend``: what the second run needs, and what the flag refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Call

BLOCKED = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnx2torch", "sklearn", "skimage"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
from cli.main import run

codes = [run(arguments) for arguments in json.loads(sys.argv[1])]
sys.exit(max(codes))
"""
RUNS = {
    "all": "-m gradient -m lrp -m grad-cam -m cam -m integrated-gradients -m smoothgrad -m guided-grad-cam -m deeplift "
    "-p steps=9 -p samples=4",
    "gamma": "-m lrp -p composite=epsilon-gamma-box",
    "alpha": "-m lrp -p composite=epsilon-alpha2-beta1 -p initial=one",
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXPLAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_second_run_imports_no_torch(call: Call, tmp_path: Path, sample_models: Path, cache: Path) -> None:
    model, picture = sample_models / "shapes_cnn.onnx", sample_models / "samples" / "shapes_star.png"
    common = ["explain", str(model), str(picture), "--threads", "1"]
    again, notes = [], ""
    for name, words in RUNS.items():
        ran = call(*common, *words.split(), "-o", tmp_path / "first" / name)
        assert ran.code == 0
        notes += ran.err
        again.append([*common, *words.split(), "-o", str(tmp_path / "second" / name)])
    second = subprocess.run(
        [sys.executable, "-c", BLOCKED, json.dumps(again)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ},
    )
    assert (second.returncode, second.stderr) == (0, notes)
    made = sorted((tmp_path / "first").rglob("*.npz"))
    assert len(made) == 10
    for path in made:
        other = tmp_path / "second" / path.relative_to(tmp_path / "first")
        with np.load(path) as before, np.load(other) as after:
            assert before.keys() == after.keys()
            for key in before:
                np.testing.assert_allclose(after[key], before[key], rtol=0, atol=1e-5 * np.abs(before[key]).max())
        one, two = (json.loads(each.with_suffix(".json").read_text()) for each in (path, other))
        assert (one["backend"], two["backend"]) == ("torch", "onnxruntime")
        assert one.keys() == two.keys()
        for key in ("params", "target", "prediction", "notes", "model", "layer", "completeness"):
            alike(two.get(key), one.get(key))


def alike(got: object, want: object) -> None:
    """The same, numbers up to rounding."""
    if isinstance(want, dict):
        assert isinstance(got, dict)
        assert got.keys() == want.keys()
        for key in want:
            alike(got[key], want[key])
    elif isinstance(want, list):
        assert isinstance(got, list)
        for each, other in zip(got, want, strict=True):
            alike(each, other)
    elif isinstance(want, float):
        assert got == pytest.approx(want, rel=1e-4, abs=1e-4)
    else:
        assert got == want


def test_the_flag_chooses(call: Call, tmp_path: Path, table_model: Path, rows: Path, cache: Path) -> None:
    for name, expected in (("torch", "torch"), ("onnxruntime", "onnxruntime"), ("auto", "onnxruntime")):
        ran = call("explain", table_model, rows, "-m", "gradient", "--backend", name, "--json", "-o", tmp_path / name)
        assert ran.code == 0
        (found,) = ran.json["explanations"]
        assert found["backend"] == expected
    assert len(list(cache.glob("*.onnx"))) == 1


def test_nothing_is_kept_where_torch_was_asked_for(
    call: Call, tmp_path: Path, table_model: Path, rows: Path, cache: Path
) -> None:
    assert call("explain", table_model, rows, "-m", "lrp", "--backend", "torch", "-o", tmp_path / "out").code == 0
    assert not list(cache.glob("*.onnx"))


@pytest.mark.parametrize("verbose", [False, True])
def test_an_unwritable_cache_is_a_remark(
    call: Call, tmp_path: Path, table_model: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, verbose: bool
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONNXPLAIN_CACHE", str(tmp_path / "file" / "cache"))
    ran = call("explain", table_model, rows, "-m", "gradient", "-o", tmp_path / "out", *(["-v"] if verbose else []))
    assert ran.code == 0
    assert ("can't be used" in ran.err) == verbose
    assert ran.err.count("\n") == int(verbose)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-m", "gradient", "--backend", "jax"], 2, "backend.unknown"),
        (["-m", "ablation-cam", "--backend", "onnxruntime"], 3, "backend.onnxruntime"),
    ],
)
def test_refusals_are_one_line(
    call: Call, tmp_path: Path, sample_models: Path, words: list[str], code: int, message: str
) -> None:
    picture = sample_models / "samples" / "shapes_star.png"
    ran = call("explain", sample_models / "shapes_cnn.onnx", picture, *words, "-o", tmp_path / "out")
    assert ran.code == code
    assert message in ran.error
    assert not (tmp_path / "out").exists()


def test_the_report_repeats_the_flag(call: Call, tmp_path: Path, table_model: Path, rows: Path, cache: Path) -> None:
    out = tmp_path / "out"
    assert call("explain", table_model, rows, "-m", "gradient", "--backend", "onnxruntime", "-o", out).code == 0
    assert "--backend onnxruntime" in (out / "report.html").read_text()


def test_exchanged_and_blocked_files_of_the_cache_change_nothing(
    call: Call, tmp_path: Path, table_model: Path, rows: Path, cache: Path
) -> None:
    def maps(out: str) -> list[np.ndarray]:
        words = ["-m", "gradient", "-m", "lrp", "-p", "lrp.composite=epsilon", "-o", tmp_path / out]
        ran = call("explain", table_model, rows, *words, "-v")
        assert ran.code == 0
        notes.append(ran.err)
        return [np.load(tmp_path / out / f"rows.{method}.npz")["attribution"] for method in ("gradient", "lrp")]

    notes: list[str] = []
    expected = maps("first")
    one, two = sorted(cache.glob("*.onnx"))
    contents = one.read_bytes(), two.read_bytes()
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    np.testing.assert_allclose(maps("exchanged"), expected, rtol=1e-5)
    assert (one.read_bytes(), two.read_bytes()) == contents  # made anew
    if hasattr(os, "mkfifo"):
        one.unlink()
        os.mkfifo(one, 0o600)
        np.testing.assert_allclose(maps("a pipe"), expected, rtol=1e-5)
        cache.chmod(0o777)
        np.testing.assert_allclose(maps("a shared folder"), expected, rtol=1e-5)
        assert notes[-1].count("the cache isn't used: ") == 1
        assert "others can write to" in notes[-1]
