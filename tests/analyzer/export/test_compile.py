"""Compiled explanations against the torch backend, and by themselves in onnxruntime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import analyzer

CASES: dict[str, dict[str, Any]] = {
    "gradient": {}, "saliency": {}, "sensitivity": {}, "gradient-x-input": {}, "guided-backprop": {}, "deconvnet": {},
    "lrp": {"composite": "epsilon-gamma-box", "low": -1.0, "high": 1.0}, "deep-taylor": {"low": -1.0, "high": 1.0},
    "cam": {}, "grad-cam": {}, "integrated-gradients": {"steps": 5}, "smoothgrad": {"samples": 3}, "grad-cam++": {},
    "layer-cam": {}, "hires-cam": {}, "xgrad-cam": {"relu": False}, "guided-grad-cam": {}, "deeplift": {"baseline": 0.2},
    "gradient-shap": {"samples": 4, "noise": 0.1, "baselines": 0.1},
}  # fmt: skip
COMPOSITES = ("epsilon", "epsilon-plus", "epsilon-alpha2-beta1", "gamma", "flat", "w2")


def small(path: Path, batch: int | str = "n") -> Path:
    """Convolutions of stride 1 and 2, grouped, overlapping max pooling, global average pooling, five classes."""
    rng = np.random.default_rng(0)
    weights = {
        "k": rng.standard_normal((6, 3, 3, 3)), "kb": rng.standard_normal(6), "g": rng.standard_normal((6, 2, 3, 3)),
        "s": rng.standard_normal((4, 6, 2, 3)), "w": rng.standard_normal((4, 5)), "b": rng.standard_normal(5),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "g"], ["c2"], group=3, pads=[0, 1, 0, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["m"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["m", "s"], ["c3"], strides=[2, 1]),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("GlobalAveragePool", ["r3"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 12, 13])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 5])],
        [onnx.numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> analyzer.Model:
    return analyzer.load(small(tmp_path_factory.mktemp("compiled") / "small.onnx"), device="cpu", threads=1)


def picture(count: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(-1, 1, (count, 3, 12, 13)).astype(np.float32)


def run(compiled: analyzer.Compiled, **feed: np.ndarray) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(compiled.proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))


def close(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == np.float32
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max() > 0


def test_every_compilable_method_has_a_case() -> None:
    assert set(CASES) == {name for name, info in analyzer.methods().items() if info.compilable}


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("count", [1, 3])
def test_equal_to_torch(model: analyzer.Model, method: str, count: int) -> None:
    x = picture(count)
    compiled = analyzer.compile(model, method, **CASES[method])
    assert compiled.batch is None
    close(run(compiled, x=x)["relevance"], model.explain(x, method=method, **CASES[method]).raw)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_composites(model: analyzer.Model, composite: str) -> None:
    x = picture(2)
    compiled = analyzer.compile(model, "lrp", composite=composite)
    close(run(compiled, x=x)["relevance"], model.explain(x, method="lrp", composite=composite).raw)


def test_own_outputs_are_kept(model: analyzer.Model) -> None:
    x = picture(2)
    np.testing.assert_allclose(run(analyzer.compile(model), x=x)["scores"], model.predict(x)["scores"], rtol=1e-5)


@pytest.mark.parametrize("target", [3, "top2", "contrast:1,top1", "scores[:,4]"])
def test_targets(model: analyzer.Model, target: Any) -> None:
    x = picture(2)
    close(run(analyzer.compile(model, target=target), x=x)["relevance"], model.explain(x, target=target).raw)


def test_target_as_an_input(model: analyzer.Model) -> None:
    x, classes = picture(3), [4, 0, 2]
    compiled = analyzer.compile(model, "lrp", target="input")
    got = run(compiled, x=x, target=np.array(classes, np.int64))
    close(got["relevance"], model.explain(x, method="lrp", target=classes).raw)


def test_fixed_batch_is_stated(tmp_path: Path) -> None:
    fixed = analyzer.load(small(tmp_path / "two.onnx", 2), device="cpu", threads=1)
    compiled = analyzer.compile(fixed, "lrp")
    assert compiled.batch == 2
    assert {p.key: p.value for p in compiled.proto.metadata_props}["onnxplain.batch"] == "2"
    close(run(compiled, x=picture(2))["relevance"], fixed.explain(picture(2), method="lrp").raw)


def test_weights_are_stored_once(model: analyzer.Model) -> None:
    compiled = analyzer.compile(model)
    contents = [t.raw_data for t in compiled.proto.graph.initializer if len(t.raw_data) > 100]
    assert len(contents) == len(set(contents)) == 3  # k, g, s


def test_standard_operators_only(model: analyzer.Model) -> None:
    proto = analyzer.compile(model, "lrp").proto
    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 18)]
    assert {node.domain for node in proto.graph.node} == {""}


def test_metadata_says_what_it_is(model: analyzer.Model) -> None:
    metadata = {p.key: p.value for p in analyzer.compile(model, "lrp", epsilon=0.5).proto.metadata_props}
    assert metadata["onnxplain.method"] == "lrp"
    assert '"epsilon": 0.5' in metadata["onnxplain.params"]
    assert metadata["onnxplain.source_sha256"] == model.sha256
    assert (metadata["onnxplain.target"], metadata["onnxplain.batch"]) == ("top1", "dynamic")


def test_runs_where_torch_is_absent(model: analyzer.Model, tmp_path: Path) -> None:
    analyzer.compile(model, "lrp", output=tmp_path / "c.onnx")
    np.save(tmp_path / "x.npy", picture(2))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, onnxruntime as ort\n"
        "s = ort.InferenceSession('c.onnx', providers=['CPUExecutionProvider'])\n"
        "np.save('r.npy', s.run(['relevance'], {'x': np.load('x.npy')})[0])\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    close(np.load(tmp_path / "r.npy"), model.explain(picture(2), method="lrp").raw)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.onnx", "r.npy", "x.npy"]


def test_other_methods_are_refused_by_name(model: analyzer.Model) -> None:
    with pytest.raises(analyzer.UnsupportedError, match=r"occlusion can't be compiled.*grad-cam") as caught:
        analyzer.compile(model, "occlusion")
    assert caught.value.code == "compile.method"


def test_never_over_the_model_itself(model: analyzer.Model) -> None:
    before = model.path.read_bytes() if model.path else b""
    with pytest.raises(analyzer.UsageError) as caught:
        analyzer.compile(model, output=model.path)
    assert caught.value.code == "output.is_input"
    assert model.path is not None
    assert model.path.read_bytes() == before


def test_real_models(shared: Path) -> None:
    for name in ("cifar10_resnet20_with_bn", "mnist_cntk", "dianna_season", "shufflenet_v2_int8"):
        real = analyzer.load(shared / "data" / "models" / f"{name}.onnx", device="cpu", threads=1)
        compiled = analyzer.compile(real, "lrp")
        (key, spec), *_ = real.inputs.items()
        x = np.random.default_rng(3).random([1, *spec.shape[1:]]).astype(np.float32)  # type: ignore[list-item]
        close(run(compiled, **{key: x})["relevance"], real.explain(x, method="lrp").raw)


def test_outputs_beside_the_explained_one(tmp_path: Path) -> None:
    w = np.arange(8, dtype=np.float32).reshape(4, 2)
    nodes = [
        helper.make_node("Abs", ["x"], ["other"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Neg", ["y"], ["after"]),
    ]
    names = {"y": 2, "other": 4, "after": 2}
    graph = helper.make_graph(
        nodes,
        "outputs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, ["n", v]) for k, v in names.items()],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "o.onnx")
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    got = run(analyzer.compile(tmp_path / "o.onnx", target=1), x=x)
    np.testing.assert_allclose(got["relevance"], np.broadcast_to(w[:, 1], (3, 4)))
    np.testing.assert_allclose(got["other"], np.abs(x))
    np.testing.assert_allclose(got["after"], -(x @ w), rtol=1e-5)
