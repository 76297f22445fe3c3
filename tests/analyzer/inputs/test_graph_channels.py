"""Which axis holds channels, by the first layer that an input meets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

import analyzer
from analyzer.inputs.graph_channels import channels_by_graph
from tests.common.models import Array, assemble


def _node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, list(inputs), [output], name=f"{op}_{output}", **attributes)


SERIES, PICTURE, VOLUME = ["b", "t", 5], ["b", 8, 8, 3], ["b", 3, 4, 8, 8]
CASES: dict[str, tuple[list[Any], list[NodeProto], int | None]] = {
    "recurrent, time first": (
        SERIES, [_node("Transpose", ["x"], "a", perm=[1, 0, 2]), _node("LSTM", ["a", "w", "r"], "y", hidden_size=4)], 2,
    ),
    "recurrent, batch first": (SERIES, [_node("GRU", ["x", "w", "r"], "y", hidden_size=4, layout=1)], 2),
    "a product with a weight": (SERIES, [_node("MatMul", ["x", "w"], "y")], 2),
    "no weight": (SERIES, [_node("MatMul", ["x", "x"], "y")], None),
    "standardised before": (
        SERIES, [_node("Sub", ["x", "m"], "a"), _node("Div", ["a", "s"], "b"), _node("MatMul", ["b", "w"], "y")], 2,
    ),
    "convolution": (SERIES, [_node("Conv", ["x", "w"], "y")], 1),
    "convolution over the last axis": (
        SERIES, [_node("Transpose", ["x"], "a", perm=[0, 2, 1]), _node("Conv", ["a", "w"], "y")], 2,
    ),
    "a convolution of pictures one pixel high": (
        SERIES,
        [
            _node("Transpose", ["x"], "a", perm=[0, 2, 1]), _node("Unsqueeze", ["a", "two"], "b"),
            _node("Conv", ["b", "w"], "y"),
        ],
        2,
    ),
    "a channel put in": (SERIES, [_node("Unsqueeze", ["x", "one"], "a"), _node("Conv", ["a", "w"], "y")], None),
    "pictures, channels last": (
        PICTURE, [_node("Transpose", ["x"], "a", perm=[0, 3, 1, 2]), _node("Conv", ["a", "w"], "y")], 3,
    ),
    "volume": (VOLUME, [_node("MaxPool", ["x"], "y", kernel_shape=[2, 2, 2])], 1),
    "reshaped before": (SERIES, [_node("Flatten", ["x"], "a"), _node("MatMul", ["a", "w"], "y")], None),
    "samples second": (SERIES, [_node("Transpose", ["x"], "a", perm=[1, 2, 0]), _node("MatMul", ["a", "w"], "y")], None),
    "columns": (["b", 5], [_node("MatMul", ["x", "w"], "y")], None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_first_layer_decides(name: str) -> None:
    shape, nodes, channels = CASES[name]
    weights: dict[str, Array] = {"w": np.zeros((1, 1), np.float32), "two": np.array([2], np.int64)}
    weights |= {"one": np.array([1], np.int64), "m": np.zeros(5, np.float32), "s": np.ones(5, np.float32)}
    model = assemble(nodes, {"x": (TensorProto.FLOAT, shape)}, {"y": (TensorProto.FLOAT, None)}, weights)
    assert channels_by_graph(model.graph) == ({} if channels is None else {"x": channels})


def recurrent() -> analyzer.Model:
    """An RNN over (batch, time, features) with a head on its last state."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.standard_normal((1, 6, 5)).astype(np.float32),
        "r": rng.standard_normal((1, 6, 6)).astype(np.float32) * 0.3,
        "v": rng.standard_normal((6, 3)).astype(np.float32),
        "front": np.array([0], np.int64),
    }
    nodes = [
        _node("Transpose", ["x"], "steps", perm=[1, 0, 2]),
        helper.make_node("RNN", ["steps", "w", "r"], ["", "last"], name="rnn", hidden_size=6),
        _node("Squeeze", ["last", "front"], "state"),
        _node("MatMul", ["state", "v"], "y"),
    ]
    shapes = {"x": (TensorProto.FLOAT, ["b", "t", 5])}
    return analyzer.load(assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["b", 3])}, weights))


@pytest.mark.parametrize("method", ["feature-ablation", "occlusion", "kernel-shap", "lime", "rise", "bubbles"])
def test_time_steps_are_what_is_perturbed(method: str) -> None:
    x = np.random.default_rng(2).standard_normal((2, 10, 5)).astype(np.float32)
    model = recurrent()
    found = model.explain(x, method, target=1).attribution
    assert found.shape[:2] == (2, 10)
    assert found.shape[2] == 1 or (found == found[:, :, :1]).all()
    if method in ("feature-ablation", "occlusion"):
        for step in range(10):
            copy = x.copy()
            copy[:, step] = 0
            drop = model.predict(x)["y"][:, 1] - model.predict(copy)["y"][:, 1]
            np.testing.assert_allclose(found[:, step, 0], drop, rtol=1e-4, atol=1e-5)
