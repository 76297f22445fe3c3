"""Compiled sweeps whose batch can't be free, or that hold for one input's values only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from analyzer.errors import AnalyzerError
from analyzer.executor.row_coupling import NO_COUPLING
from analyzer.onnx_model import OnnxModel
from tests.analyzer.explain.test_backends import CASES, backend, close, load
from tests.common.models import assemble, tokens

pytestmark = pytest.mark.usefixtures("folder")


def doubling() -> onnx.GraphProto:
    """The body of a loop that doubles a value."""
    return helper.make_graph(
        [helper.make_node("Identity", ["go"], ["going"]), helper.make_node("Add", ["h", "h"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )


def counts() -> onnx.ModelProto:
    """Scores doubled as often as there are samples: a number of operators that follows the batch."""
    body = doubling()
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="linear"),
        helper.make_node("Mul", ["z", "z"], ["zz"], name="square"),
        helper.make_node("Shape", ["x"], ["sizes"], name="sizes"),
        helper.make_node("Gather", ["sizes", "first"], ["times"], name="times"),
        helper.make_node("Loop", ["times", "", "zz"], ["scores"], name="turns", body=body),
    ]
    w = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    float_ = TensorProto.FLOAT
    weights = {"w": w, "first": np.array(0, np.int64)}
    return assemble(nodes, {"x": (float_, ["n", 4])}, {"scores": (float_, ["n", 3])}, weights)


def averaged() -> onnx.ModelProto:
    """Scores times their mean over the batch: derivatives are divided by the number of samples."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="linear"),
        helper.make_node("ReduceMean", ["z"], ["m"], name="over", axes=[0], keepdims=1),
        helper.make_node("Mul", ["z", "m"], ["scores"], name="mixed"),
    ]
    w = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    float_ = TensorProto.FLOAT
    return assemble(nodes, {"x": (float_, ["n", 4])}, {"scores": (float_, ["n", 3])}, {"w": w})


def test_the_number_of_samples_may_be_a_factor(folder: Path) -> None:
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    model = load(averaged())
    for rows in (x, x[:1]):
        got = model.explain(rows, target=1, backend="onnxruntime")
        close(got, load(averaged()).explain(rows, target=1, backend="torch"))
    assert len(list(folder.iterdir())) == 1


def test_a_batch_that_cant_be_free_is_part_of_the_question(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxModel, "coupling", lambda *_: NO_COUPLING)  # its rows would be explained one at a time
    x = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    model = load(counts())
    for rows in (x, x[:2]):
        got = model.explain(rows, target=1, backend="onnxruntime")
        assert got.record["backend"] == "onnxruntime"
        close(got, load(counts()).explain(rows, target=1, backend="torch"))
    assert len(list(folder.iterdir())) == 2
    path = model.explain(x[:1], method="integrated-gradients", steps=5, target=1, backend="onnxruntime")
    assert path.completeness is not None  # several points of the path would be another batch, and other scores
    np.testing.assert_allclose(path.completeness.total, path.completeness.expected, rtol=1e-5)


def test_tokens_by_their_embeddings() -> None:
    ids = CASES["tokens"].feed["ids"]
    for method in ("gradient", "integrated-gradients", "lrp", "deeplift"):
        got = load(tokens()).explain(ids, method=method, backend="onnxruntime")
        want = load(tokens()).explain(ids, method=method, backend="torch")
        assert got.raw.shape == (3, 7, 4)
        close(got, want)
        np.testing.assert_allclose(got.attribution, got.raw.sum(-1), rtol=1e-5)


def branching() -> onnx.ModelProto:
    """A loop that runs as often as the first number of the input says."""
    body = doubling()
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["times"], to=TensorProto.INT64),
        helper.make_node("Loop", ["times", "", "x"], ["scores"], name="turns", body=body),
    ]
    float_ = TensorProto.FLOAT
    return assemble(nodes, {"x": (float_, ["n", 3])}, {"scores": (float_, ["n", 3])}, {})


def test_what_depends_on_the_inputs_values_is_refused_and_remembered(folder: Path) -> None:
    x = np.array([[1.0, 2.5, 0.5]], np.float32)
    model = load(branching())
    with pytest.raises(AnalyzerError) as caught:
        model.explain(x, backend="onnxruntime")
    assert caught.value.code == "compile.data_dependent"
    assert "turns" in caught.value.message
    assert backend(model, x) == "torch"
    model.backends.sweeps.compile_pending()
    assert model.backends.sweeps.diagnostics == []  # known by now: not tried again
    assert {path.suffix for path in folder.iterdir()} == {".refused"}
