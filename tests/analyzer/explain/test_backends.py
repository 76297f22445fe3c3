"""Choosing between torch and compiled sweeps: what is found, what is made, what happens where neither fits."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import analyzer
from analyzer.compiler import cache
from analyzer.compiler.engine import CompiledEngine
from analyzer.compiler.sweep_cache import SweepCache
from analyzer.errors import AnalyzerError, ParityError, UnsupportedError
from analyzer.methods import registry
from tests.common.models import cases, cnn, mlp

CASES = {case.name: case for case in cases()}


pytestmark = pytest.mark.usefixtures("folder")


def load(proto: onnx.ModelProto | Path) -> analyzer.Model:
    return analyzer.load(proto, "cpu", labels=("ant", "bee", "cat"), threads=1)


def backend(model: analyzer.Model, x: Any, **options: Any) -> str:
    return str(model.explain(x, **options).record["backend"])


def close(got: analyzer.Explanation, want: analyzer.Explanation) -> None:
    np.testing.assert_allclose(got.raw, want.raw, rtol=0, atol=1e-5 * np.abs(want.raw).max())


def test_auto_uses_what_is_there() -> None:
    case = CASES["cnn"]
    first = load(case.proto)
    assert backend(first, case.x, method="lrp") == "torch"
    assert backend(first, case.x, method="lrp") == "torch"
    first.backends.sweeps.compile_pending()
    assert first.backends.sweeps.diagnostics == []
    assert backend(first, case.x, method="lrp") == "onnxruntime"
    later = load(case.proto)
    assert backend(later, case.x, method="lrp") == "onnxruntime"
    assert backend(later, case.x, method="lrp", epsilon=0.5) == "torch"
    assert backend(later, case.x, method="lrp", backend="torch") == "torch"
    assert backend(later, case.x, method="lrp", precision="float64") == "torch"
    close(later.explain(case.x, method="lrp"), load(case.proto).explain(case.x, method="lrp", backend="torch"))


def test_several_targets_share_what_is_compiled(folder: Path) -> None:
    case = CASES["cnn"]
    model = load(case.proto)
    first = model.explain_targets(case.x, [0, "top2"], method="lrp")
    assert [found.record["backend"] for found in first] == ["torch", "torch"]
    model.backends.sweeps.compile_pending()
    assert len(list(folder.iterdir())) == 1
    again = load(case.proto).explain_targets(case.x, [0, "top2"], method="lrp")
    assert [found.record["backend"] for found in again] == ["onnxruntime", "onnxruntime"]
    for got, want in zip(again, first, strict=True):
        close(got, want)


def test_one_compiled_sweep_serves_all_targets_batches_and_methods_of_its_kind(folder: Path) -> None:
    case = CASES["cnn"]
    model = load(case.proto)
    model.explain(case.x, backend="onnxruntime")
    later, reference = load(case.proto), load(case.proto)
    for target in (0, "bee", "top2", [2, 0, 1], ["top1", "cat", 1], "contrast:ant,top1", "scores[:,1]"):
        got = later.explain(case.x, target=target)
        assert got.record["backend"] == "onnxruntime"
        close(got, reference.explain(case.x, target=target, backend="torch"))
    for count in (1, 2, 7):
        x = np.random.default_rng(count).standard_normal((count, *case.x.shape[1:])).astype(np.float32)
        got = later.explain(x)
        assert got.record["backend"] == "onnxruntime"
        close(got, reference.explain(x, backend="torch"))
    for method, params in {"integrated-gradients": {"steps": 9}, "smoothgrad": {"samples": 5}, "saliency": {}}.items():
        got = later.explain(case.x, method=method, seed=4, **params)
        assert got.record["backend"] == "onnxruntime"
        close(got, reference.explain(case.x, method=method, seed=4, backend="torch", **params))
    assert len(list(folder.iterdir())) == 1


def test_the_explained_score_is_part_of_the_question(folder: Path) -> None:
    proto = cnn(end="Softmax")
    x = CASES["cnn"].x
    for score in ("logit", "probability"):
        got = load(proto).explain(x, score=score, backend="onnxruntime")
        close(got, load(proto).explain(x, score=score, backend="torch"))
    assert len(list(folder.iterdir())) == 2


def test_other_weights_are_another_model(folder: Path) -> None:
    x = CASES["mlp"].x
    one, other = mlp(), mlp()
    tensor = next(t for t in other.graph.initializer if t.data_type == TensorProto.FLOAT)
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 2, tensor.name))
    load(one).explain(x, backend="onnxruntime")
    assert backend(load(other), x) == "torch"


def test_external_data_is_part_of_the_model(tmp_path: Path) -> None:
    x = CASES["mlp"].x
    for name, scale in (("one", 1.0), ("two", 2.0)):
        (tmp_path / name).mkdir()
        proto = mlp()
        for tensor in proto.graph.initializer:
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(scale), tensor.name)
            )
        onnx.save(proto, tmp_path / name / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    one, two = (load(tmp_path / name / "m.onnx") for name in ("one", "two"))
    assert one.sha256 == two.sha256
    one.explain(x, backend="onnxruntime")
    assert backend(two, x) == "torch"
    close(two.explain(x, backend="onnxruntime"), two.explain(x, backend="torch"))


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b"", lambda b: b[:99] + bytes([b[99] ^ 8]) + b[100:]])
def test_damaged_files_are_made_anew(folder: Path, damage: Any) -> None:
    case = CASES["cnn"]
    load(case.proto).explain(case.x, backend="onnxruntime")
    (path,) = folder.iterdir()
    complete = path.read_bytes()
    path.write_bytes(damage(complete))
    model = load(case.proto)
    assert backend(model, case.x) == "torch"
    model.backends.sweeps.compile_pending()
    assert path.read_bytes() == complete
    assert backend(load(case.proto), case.x) == "onnxruntime"


def test_a_sealed_file_of_something_else_is_ignored(folder: Path) -> None:
    case = CASES["cnn"]
    load(case.proto).explain(case.x, backend="onnxruntime")
    (path,) = folder.iterdir()
    question = cache._question_of(path.read_bytes())
    assert question is not None
    assert cache.write(question, case.proto.SerializeToString()) == ""
    assert backend(load(case.proto), case.x) == "torch"


def test_a_compiled_model_that_disagrees_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["cnn"]
    load(case.proto).explain(case.x, backend="onnxruntime")
    model = load(case.proto)
    run = model.values

    def off(feed: Any, names: Any) -> Any:
        got = run(feed, names)
        return {name: value * np.float32(1.1) if names == ["scores"] else value for name, value in got.items()}

    with monkeypatch.context() as patch:
        patch.setattr(model, "values", off)
        with pytest.raises(ParityError) as caught:
            model.explain(case.x, target=0, backend="onnxruntime")
        assert caught.value.code == "parity.compiled"
        with pytest.raises(ParityError) as caught:  # torch disagrees as well
            model.explain(case.x, target=0, backend="auto")
        assert caught.value.code == "parity.mismatch"
    assert backend(model, case.x, target=0) == "onnxruntime"


def fails_from(turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled sweeps fail from their n-th run on."""
    run, runs = CompiledEngine._run, itertools.count(1)

    def failing(self: CompiledEngine, *arguments: Any) -> Any:
        if next(runs) >= turn:
            raise UnsupportedError("runtime.op_failed", "out of luck")
        return run(self, *arguments)

    monkeypatch.setattr(CompiledEngine, "_run", failing)


@pytest.mark.parametrize("turn", [1, 2, 3, 4])
def test_a_method_never_runs_twice(monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    """Where a compiled sweep fails half way, torch answers from there on; the method isn't begun again."""
    case, options = CASES["cnn"], {"method": "smoothgrad", "samples": 40, "target": 1}
    load(case.proto).explain(case.x, backend="onnxruntime")
    model, calls = load(case.proto), 0
    info = registry.get("smoothgrad")

    def counted(*given: Any, **params: Any) -> Any:
        nonlocal calls
        calls += 1
        return info.function(*given, **params)

    monkeypatch.setitem(registry._METHODS, "smoothgrad", dataclasses.replace(info, function=counted))
    want = load(case.proto).explain(case.x, backend="torch", **options)
    calls = 0
    fails_from(turn, monkeypatch)
    done: list[int] = []
    got = model.explain(case.x, progress=lambda now, _: done.append(now), **options)
    assert calls == 1
    assert done == sorted(done)
    assert got.record["backend"] == (
        "torch" if turn <= 2 else "onnxruntime and torch"
    )  # the second run proves the first
    assert got.record["parity"]["ok"]
    close(got, want)


def test_a_file_is_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["mlp"]
    np.save(tmp_path / "other.npy", np.full((1, 6), 0.5, np.float32))
    options = {"method": "meaningful-perturbation", "steps": 4, "fill": f"image:{tmp_path / 'other.npy'}", "target": 1}
    load(case.proto).explain(case.x, backend="onnxruntime")
    fails_from(3, monkeypatch)
    got = load(case.proto).explain(case.x, **options)
    assert "torch" in got.record["backend"]
    assert [fill["path"] for fill in got.record["fills"]] == [str(tmp_path / "other.npy")]


def test_without_a_cache_the_runtime_is_still_used_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXPLAIN_CACHE", "off")
    case = CASES["cnn"]
    model = load(case.proto)
    assert backend(model, case.x, backend="onnxruntime") == "onnxruntime"
    assert "off" in model.backends.sweeps.diagnostics[0]
    assert backend(model, case.x) == "onnxruntime"  # in memory
    assert backend(load(case.proto), case.x) == "torch"


def test_a_fixed_batch_is_run_in_pieces() -> None:
    x = CASES["cnn"].x
    four = np.concatenate([x, x[:1]])
    model = load(cnn(batch=2))
    got = model.explain(four, method="lrp", target=[0, 1, 2, 0], backend="onnxruntime")
    assert got.record["backend"] == "onnxruntime"
    close(got, load(cnn(batch=2)).explain(four, method="lrp", target=[0, 1, 2, 0], backend="torch"))
    smooth = model.explain(four, method="smoothgrad", samples=4, backend="onnxruntime")
    close(smooth, load(cnn(batch=2)).explain(four, method="smoothgrad", samples=4, backend="torch"))


def test_errors_are_the_same_with_and_without_a_cache() -> None:
    case = CASES["cnn"]
    load(case.proto).explain(case.x, method="lrp", backend="onnxruntime")
    for options in ({"composite": "nonsense"}, {"composite": "epsilon-gamma-box"}, {"rules": {"nowhere": "gamma"}}):
        messages = []
        for name in ("torch", "auto", "onnxruntime"):
            with pytest.raises(AnalyzerError) as caught:
                load(case.proto).explain(case.x, method="lrp", backend=name, **options)
            messages.append((caught.value.code, caught.value.message))
        assert len(set(messages)) == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"backend": "tensorflow"}, "backend.unknown"),
        ({"backend": "onnxruntime", "precision": "float64"}, "backend.precision"),
        ({"backend": "onnxruntime", "at": "relu1"}, "backend.onnxruntime"),
    ],
)
def test_what_cant_be_is_said_in_a_line(options: dict[str, Any], code: str) -> None:
    case = CASES["cnn"]
    with pytest.raises(AnalyzerError) as caught:
        load(case.proto).explain(case.x, **options)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("largest", [300, 2000])
def test_large_graphs_are_only_kept_where_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    case = CASES["cnn"]
    monkeypatch.setattr(cache, "LARGEST", largest)
    model = load(case.proto)
    model.explain(case.x)
    model.backends.sweeps.compile_pending()
    assert len(model.backends.sweeps.diagnostics) == 1
    assert not folder.exists()
    assert backend(load(case.proto), case.x) == "torch"
    assert backend(model, case.x, backend="onnxruntime") == "onnxruntime"
    assert backend(load(case.proto), case.x, backend="onnxruntime") == "onnxruntime"
    assert len(list(folder.iterdir())) == 1


def test_half_precision_is_compiled_for_later_runs_too(folder: Path) -> None:
    case = CASES["half"]
    model = load(case.proto)
    model.explain(case.x)
    model.backends.sweeps.compile_pending()
    assert not model.backends.sweeps.diagnostics
    assert len(list(folder.iterdir())) == 1
    assert backend(load(case.proto), case.x) == "onnxruntime"


def test_open_sessions_are_bounded() -> None:
    case = CASES["cnn"]
    model = load(case.proto)
    for turn in range(10):
        model.explain(case.x, method="lrp", epsilon=0.01 * (turn + 1), backend="onnxruntime")
    sweeps = model.backends.sweeps
    assert isinstance(sweeps, SweepCache)
    assert len(sweeps._open) == 8


def test_gradients_are_those_of_captum(sample_models: Path) -> None:
    captum = pytest.importorskip("captum.attr")
    torch = pytest.importorskip("torch")
    x = CASES["mlp"].x
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in mlp().graph.initializer}
    order = [n for n in mlp().graph.node if n.op_type in ("MatMul", "Gemm", "Add", "Relu")]

    def network(value: Any) -> Any:
        values = {"x": value, **{k: torch.from_numpy(np.array(v)) for k, v in weights.items()}}
        for node in order:
            a = [values[name] for name in node.input]
            made = {"MatMul": lambda a=a: a[0] @ a[1], "Add": lambda a=a: a[0] + a[1], "Relu": lambda a=a: a[0].relu(),
                    "Gemm": lambda a=a: a[0] @ a[1] + a[2]}[node.op_type]()  # fmt: skip
            values[node.output[0]] = made
        return made

    want = captum.IntegratedGradients(network).attribute(torch.from_numpy(x), target=1, n_steps=20).numpy()
    got = load(mlp()).explain(x, method="integrated-gradients", steps=20, target=1, backend="onnxruntime")
    np.testing.assert_allclose(got.attribution, want, atol=1e-5 * np.abs(want).max())
