"""DeepLIFT on models: it sums to the score difference whatever the model is made of, and equals captum's where that is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import UnsupportedError, UsageError
from tests.analyzer.methods.linear import linear, weights_of
from tests.common.models import assemble

EXPORTED = (
    "hf_bert__dynamo_opdef", "hf_bert__ts_op17", "hf_vit__ts_op17", "lstm_cls__ts_op17", "gru_cls__ts_op17",
    "mobilenet_v3_small__ts_op17", "torch_transformer__ts_op17", "keras_cnn__tf2onnx_op17",
    "keras_lstm_gru__tf2onnx_op17", "keras_mobilenetv2__tf2onnx_op17", "keras_mlp__tf2onnx_op17",
    "paddle_cnn__paddle2onnx_op17", "paddle_mobilenetv2__paddle2onnx_op17", "cnn1d__ts_op17", "cnn3d__ts_op17",
    "act_hardswish__ts_op17", "act_gelu__ts_op17", "layer_instancenorm__ts_op17", "layer_layernorm__ts_op17",
    "layer_maxpool_pad__ts_op17", "layer_reflpad__ts_op17",
)  # fmt: skip


def assert_complete(done: analyzer.Explanation) -> None:
    """Within 1e-4 of the difference, or of a thousandth of the score where the difference is smaller."""
    assert done.completeness is not None
    expected = done.completeness.expected
    allowed = 1e-4 * np.maximum(np.abs(expected), 1e-3 * np.abs(done.score))
    assert (np.abs(done.completeness.delta) <= allowed).all(), (done.completeness.total, expected)


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_models_are_complete(shared: Path, name: str) -> None:
    arrays = np.load(shared / "exported" / f"{name.split('__')[0]}.npz")
    model = analyzer.load(shared / "exported" / f"{name}.onnx", "cpu", threads=1)
    feed = {value: arrays[f"in{i}"] for i, value in enumerate(model.inputs)}
    assert_complete(model.explain(feed, method="deeplift"))


@pytest.mark.parametrize("variant", ["rescale", "reveal-cancel"])
@pytest.mark.parametrize("net", ["transformer", "mobilenet", "vgg", "textcnn"])
def test_reference_networks_are_complete(shared: Path, net: str, variant: str) -> None:
    folder = shared / "golden" / net
    model = analyzer.load(folder / "model_opset17_legacy.onnx", "cpu", threads=1)
    x = np.load(folder / "io.npz")["input"]
    assert_complete(model.explain(x, method="deeplift", variant=variant, pooling="exact"))


@pytest.mark.parametrize("net", ["vgg", "textcnn"])
def test_what_pooling_by_the_gradient_loses_is_said(shared: Path, net: str) -> None:
    model = analyzer.load(shared / "golden" / net / "model_opset17_legacy.onnx", "cpu", threads=1)
    done = model.explain(np.load(shared / "golden" / net / "io.npz")["input"], method="deeplift")
    assert done.completeness is not None
    assert np.abs(done.completeness.delta).max() > 1e-3
    assert any("pooling=exact" in note for note in done.record["notes"])


def test_a_linear_model_gives_weights_times_difference() -> None:
    w, x = weights_of(2, 3), weights_of(2, 2, 3, seed=1)
    model = linear(w)
    done = model.explain(x, method="deeplift", target=0, baseline=0.5)
    np.testing.assert_allclose(done.attribution, w * (x - 0.5), rtol=1e-5, atol=1e-6)
    slopes = model.explain(x, method="deeplift", target=0, multiply_by_inputs=False)
    np.testing.assert_allclose(slopes.attribution, np.broadcast_to(w, x.shape), rtol=1e-5)
    assert slopes.completeness is None


def shortfall() -> analyzer.Model:
    """The smaller of two inputs as x1 - max(0, x1 - x2): the AND example of the paper."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Relu", ["z"], ["a"]),
        helper.make_node("MatMul", ["x", "pick"], ["first"]),
        helper.make_node("Sub", ["first", "a"], ["y"]),
    ]
    weights: dict[str, Any] = {"w": np.array([[1.0], [-1.0]], np.float32), "pick": np.array([[1.0], [0.0]], np.float32)}
    return analyzer.load(
        assemble(nodes, {"x": (TensorProto.FLOAT, ["n", 2])}, {"y": (TensorProto.FLOAT, ["n", 1])}, weights), "cpu"
    )


def test_reveal_cancel_splits_an_and_evenly_where_rescale_gives_one_input_all() -> None:
    x = np.array([[3.0, 2.0], [1.0, 4.0], [2.0, 2.0]], np.float32)
    rescaled = shortfall().explain(x, method="deeplift", target=0)
    np.testing.assert_allclose(rescaled.attribution[:2], [[0, 2], [1, 0]], atol=1e-6)
    revealed = shortfall().explain(x, method="deeplift", target=0, variant="reveal-cancel")
    np.testing.assert_allclose(revealed.attribution, [[1, 1], [0.5, 0.5], [1, 1]], atol=1e-5)


def test_a_baseline_of_another_shape_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        linear(weights_of(3)).explain(weights_of(2, 3), method="deeplift", target=0, baseline=[1.0, 2.0])
    assert caught.value.code == "params.invalid"


def test_an_operator_without_a_rule_is_named() -> None:
    nodes = [helper.make_node("GridSample", ["x", "grid"], ["y"], name="sample"),
             helper.make_node("Flatten", ["y"], ["z"])]  # fmt: skip
    shapes = {"x": (TensorProto.FLOAT, [1, 1, 4, 4]), "grid": (TensorProto.FLOAT, [1, 2, 2, 2])}
    model = analyzer.load(assemble(nodes, shapes, {"z": (TensorProto.FLOAT, [1, 4])}, {}, opset=16), "cpu")
    feed = {"x": weights_of(1, 1, 4, 4), "grid": np.clip(weights_of(1, 2, 2, 2, seed=1), -0.9, 0.9)}
    with pytest.raises(UnsupportedError, match="sample"):
        model.explain(feed, method="deeplift", target=0)
