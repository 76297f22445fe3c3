"""Values that stand for one another in a float network and its quantised, half-precision and optimised forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from analyzer.evaluation.counterparts import Counterpart, counterparts
from analyzer.executor.cut_model import CutModel
from benchmarks.drift_networks import Builder, Network, plain
from tests.common.models import assemble

RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return Network.of("plain", tmp_path_factory.mktemp("plain"), 4)


def test_a_quantised_network_stands_for_the_float_one_value_by_value(network: Network, tmp_path: Path) -> None:
    first, second = onnx.load(network.path), onnx.load(network.quantised(tmp_path / "q.onnx"))
    found = counterparts(first.graph, second.graph)
    assert {pair.first for pair in found.pairs.values()} >= {f"conv{at}_out" for at in range(11)} | {"x", "scores"}
    # the ReLU is gone: its value is what the next layer reads, dequantised
    read = next(node for node in second.graph.node if node.name == "conv5").input[0]
    assert "relu4" not in found.b.nodes
    assert found.pairs[read] == Counterpart("relu4_out", read, "relu4_out", "relu4_out_scale")
    assert found.pairs["relu4_out"].first == "conv4_out"  # what is quantised to it


def test_nodes_that_were_fused_are_matched_by_what_they_give(network: Network, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "o.onnx"), 4
    onnxruntime.InferenceSession(str(network.path), options, providers=["CPUExecutionProvider"])
    fused = onnx.load(tmp_path / "o.onnx")
    assert "FusedConv" in {node.op_type for node in fused.graph.node}
    found = counterparts(onnx.load(network.path).graph, fused.graph)
    assert {f"relu{at}_out" for at in range(11)} <= {pair.first for pair in found.pairs.values()}


def test_inputs_and_outputs_of_other_names_are_matched_by_place() -> None:
    one, two = plain(), plain()
    for node in two.graph.node:
        for names in (node.input, node.output):
            names[:] = [{"x": "picture", "scores": "logits"}.get(name, name) for name in names]
    two.graph.input[0].name, two.graph.output[0].name = "picture", "logits"
    found = counterparts(one.graph, two.graph)
    assert (found.pairs["picture"].first, found.pairs["logits"].first) == ("x", "scores")


def test_values_that_only_share_a_place_in_other_operators_arent_matched() -> None:
    def net(op: str) -> onnx.ModelProto:
        b = Builder(0)
        return b.model(b.add("Relu", b.add(op, "x", name="act"), name="end"), (4,))

    one, two = net("Sigmoid"), net("Tanh")
    two.graph.node[0].output[0] = two.graph.node[1].input[0] = "other"
    assert {pair.first for pair in counterparts(one.graph, two.graph).pairs.values()} == {"x", "act_out", "scores"}
    two.graph.node[1].op_type = "Abs"
    assert {pair.first for pair in counterparts(one.graph, two.graph).pairs.values()} == {"x", "scores"}


def test_a_cut_model_gives_each_value_from_those_given_not_from_its_own() -> None:
    b = Builder(0)
    proto = b.model(b.add("Mul", b.add("Add", "x", "x", name="a"), b.constant("c", np.float32(10)), name="m"), (3,))
    x, a = np.ones((1, 3), np.float32), np.full((1, 3), 5, np.float32)
    single = np.dtype(np.float32)
    cut = CutModel(proto, dict.fromkeys(("x", "a_out", "scores"), (single, 2)))
    got = cut.run({"x": x, "a_out": a, "scores": a}, {"x": 100 * x})
    wider = cut.run(
        {name: np.concatenate([value] * 2) for name, value in (("x", x), ("a_out", a), ("scores", a))}, {"x": x}
    )
    np.testing.assert_array_equal(wider["a_out"], np.concatenate([2 * x] * 2))  # of any batch
    np.testing.assert_array_equal(got["a_out"], 2 * x)
    np.testing.assert_array_equal(got["scores"], 10 * a)
    assert [node.input[0] for node in proto.graph.node] == ["x", "a_out"]  # the model itself is as it was


def test_a_cut_model_leaves_out_what_is_no_array() -> None:
    from onnx import helper

    nodes = [
        helper.make_node("Identity", ["x"], ["y"], "i"), helper.make_node("SequenceConstruct", ["y", "y"], ["s"], "s"),
    ]  # fmt: skip
    proto = assemble(nodes, {"x": (TensorProto.FLOAT, ["n", 2])}, {"y": (TensorProto.FLOAT, ["n", 2])}, {})
    x = np.ones((1, 2), np.float32)
    cut = CutModel(proto, {name: (np.dtype(np.float32), 2) for name in "xys"})
    assert set(cut.run({"x": x, "y": x, "s": x}, {"x": x})) == {"y"}


def test_what_was_folded_into_a_layer_isnt_its_own_result(tmp_path: Path) -> None:
    """The optimised network's convolution gives what batch normalisation gave: a value of that name stands for it."""
    b = Builder(4)
    x = b.conv("x", "conv", 3, 4)
    parts = [b.constant(f"bn.{at}", RNG.random(4).astype(np.float32) + 0.5) for at in range(4)]
    x = b.add("Relu", b.add("BatchNormalization", x, *parts, name="bn"), name="relu")
    proto = b.model(b.conv(x, "end", 4, 2), (3, 8, 8))
    onnx.save(proto, tmp_path / "a.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "o.onnx"), 4
    onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), options, providers=["CPUExecutionProvider"])
    folded = onnx.load(tmp_path / "o.onnx")
    assert "BatchNormalization" not in {node.op_type for node in folded.graph.node}
    found = counterparts(proto.graph, folded.graph)
    assert {pair.first for pair in found.pairs.values()} == {"x", "bn_out", "relu_out", "scores"}
    assert found.pairs["bn_out"].first == "bn_out"
