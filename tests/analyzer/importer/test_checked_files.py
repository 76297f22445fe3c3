"""What was checked is what runs: a file that changed after it was loaded is refused, by every way to run it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import analyzer
from analyzer.errors import InputError
from analyzer.importer import checked_files, loading

X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
#: Layout of the file: small, with weights that stay in the file once it is read, with weights beside it.
KINDS = ["small", "lean", "external"]


def written(path: Path, kind: str, seed: int = 0) -> Path:
    """A convolutional network; seeds differ in weights, not in size."""
    rng = np.random.default_rng(seed)
    channels = 4 if kind == "small" else 256
    weights = {
        "k": rng.standard_normal((channels, 3, 3, 3)).astype(np.float32),
        "w": rng.standard_normal((channels, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "w"], ["y"], name="head"),
    ]
    infos = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", 3, 8, 8]), ("y", ["n", 3]))
    ]
    graph = helper.make_graph(
        nodes, "g", infos[:1], infos[1:], [numpy_helper.from_array(v, k) for k, v in weights.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if kind == "external":
        path.with_name("w.bin").unlink(missing_ok=True)
        onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    else:
        onnx.save(model, path)
    return path


def read_again(path: Path, kind: str) -> Path:
    """The file whose weights count."""
    return path.with_name("w.bin") if kind == "external" else path


def replaced(path: Path, kind: str) -> None:
    """Put another model's weights in the file's place."""
    (path.parent / "other").mkdir(exist_ok=True)
    read_again(written(path.parent / "other" / path.name, kind, 1), kind).replace(read_again(path, kind))


def overwritten(path: Path, kind: str) -> None:
    """Write another model's weights into the file itself; sizes and times stay as they were."""
    (path.parent / "other").mkdir(exist_ok=True)
    content = read_again(written(path.parent / "other" / path.name, kind, 1), kind).read_bytes()
    times = read_again(path, kind).stat()
    with read_again(path, kind).open("r+b") as stream:
        stream.write(content)
    os.utime(read_again(path, kind), ns=(times.st_atime_ns, times.st_mtime_ns))


USES: dict[str, Callable[[analyzer.Model], Any]] = {
    "predict": lambda model: model.predict(X),
    "torch": lambda model: model.explain(X, "gradient", backend="torch"),
    "compiled": lambda model: model.explain(X, "gradient", backend="onnxruntime"),
    "occlusion": lambda model: model.explain(X, "occlusion", window=2, stride=2),
    "lime": lambda model: model.explain(X, "lime", samples=20, segments="grid:4"),
    "rise": lambda model: model.explain(X, "rise", masks=10, grid=4),
    "score-cam": lambda model: model.explain(X, "score-cam"),
    "compile": lambda model: analyzer.compile(model, "gradient"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [replaced, overwritten])
def test_a_model_that_changed_after_it_was_loaded_is_refused(
    tmp_path: Path, use: str, kind: str, change: Callable[[Path, str], None]
) -> None:
    path = written(tmp_path / "m.onnx", kind)
    model = analyzer.load(path, "cpu", threads=1)
    change(path, kind)
    with pytest.raises(InputError) as caught:
        USES[use](model)
    assert caught.value.code == "model.changed"
    assert caught.value.exit_code == 3
    assert "changed since it was loaded" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_a_change_between_two_runs_is_noticed(tmp_path: Path, kind: str, method: str) -> None:
    path = written(tmp_path / "m.onnx", kind)
    model = analyzer.load(path, "cpu", threads=1)
    first = model.explain(X, method).attribution
    overwritten(path, kind)
    with pytest.raises(InputError, match=r"model\.changed"):
        model.explain(X, method)
    with pytest.raises(InputError, match=r"model\.changed"):
        model.predict(X)
    other = analyzer.load(path, "cpu", threads=1).explain(X, method).attribution
    assert not np.allclose(first, other)


def test_a_change_during_a_run_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "m.onnx", "lean")
    model = analyzer.load(path, "cpu", threads=1)
    calls = []

    def progress(done: int, total: int) -> None:
        if not calls:
            overwritten(path, "lean")
        calls.append(done)

    with pytest.raises(InputError, match=r"model\.changed"):
        model.explain(X, "lime", samples=20, segments="grid:4", progress=progress)
    assert calls


def test_what_is_put_there_while_a_session_is_opened_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    path = written(tmp_path / "m.onnx", "small")
    model = analyzer.load(path, "cpu", threads=1)
    opened = onnxruntime.InferenceSession

    def late(*arguments: Any, **options: Any) -> Any:
        replaced(path, "small")
        return opened(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", late)
    with pytest.raises(InputError, match=r"model\.changed"):
        model.predict(X)


def test_what_is_put_there_while_it_is_checked_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "m.onnx", "lean")
    validate = loading.validate

    def slow(*arguments: Any) -> Any:
        found = validate(*arguments)
        replaced(path, "lean")
        return found

    monkeypatch.setattr(loading, "validate", slow)
    with pytest.raises(InputError, match=r"model\.changed"):
        analyzer.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_gone_is_said(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / "m.onnx", kind)
    model = analyzer.load(path, "cpu", threads=1)
    read_again(path, kind).unlink()
    with pytest.raises(InputError, match=r"isn't there any more.*model\.changed"):
        model.explain(X, "occlusion")


@pytest.mark.parametrize("kind", ["small", "lean"])
def test_the_same_content_is_the_same_model(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / "m.onnx", kind)
    model = analyzer.load(path, "cpu", threads=1)
    expected = analyzer.load(path.read_bytes(), "cpu", threads=1).explain(X, "gradient").attribution
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    np.testing.assert_allclose(model.explain(X, "gradient").attribution, expected, rtol=1e-6)
    os.utime(path, (1, 1))
    assert np.isfinite(model.explain(X, "occlusion").attribution).all()


def test_a_model_that_runs_outlives_its_file(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", "small")
    model = analyzer.load(path, "cpu", threads=1)
    expected = model.predict(X)["y"]
    replaced(path, "small")
    np.testing.assert_array_equal(model.predict(X)["y"], expected)  # its session is of what was checked
    path.unlink()
    np.testing.assert_array_equal(model.predict(X)["y"], expected)


def test_the_digest_is_looked_at_only_where_the_stamp_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "m.onnx", "lean")
    model = analyzer.load(path, "cpu", threads=1)
    counted: list[Path] = []
    digest = checked_files._sha256
    monkeypatch.setattr(checked_files, "_sha256", lambda path, stamp: (counted.append(path), digest(path, stamp))[1])
    model.explain(X, "gradient")
    assert counted == []
    path.touch()
    model.clear()
    model.explain(X, "gradient")
    assert counted == [path]
