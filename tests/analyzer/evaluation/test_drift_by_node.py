"""Nodes to blame: errors in closed form, planted faults, and what keeping the proposed nodes does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import analyzer
from analyzer.evaluation.comparison import compare
from analyzer.evaluation.drift_by_node import DriftMeter
from analyzer.evaluation.node_drift import tensor_sqnr
from analyzer.explain.request import Request
from benchmarks.drift_networks import FAULTS, Builder, Fault, Network, plant

RNG = np.random.default_rng(3)


def three_layers() -> onnx.ModelProto:
    """x W1 -> W2 -> W3, nothing between: every derivative is a product of matrices."""
    b, x = Builder(8), "x"
    for at, (rows, columns) in enumerate(((4, 6), (6, 5), (5, 3))):
        x = b.add("MatMul", x, b.weight(f"w{at}", rows, columns, fan=rows), name=f"layer{at}")
    return b.model(x, (4,))


def changed(proto: onnx.ModelProto, **weights: Any) -> onnx.ModelProto:
    """The model with other weights."""
    other = onnx.ModelProto()
    other.CopyFrom(proto)
    for tensor in other.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(weights[tensor.name], np.float32), tensor.name))
    return other


def weights_of(proto: onnx.ModelProto) -> list[Any]:
    return [numpy_helper.to_array(tensor).astype(np.float64) for tensor in proto.graph.initializer]


def metered(first: onnx.ModelProto, second: onnx.ModelProto, x: Any, target: Any) -> Any:
    meter = DriftMeter(analyzer.load(first, "cpu"), analyzer.load(second, "cpu"))
    for part in np.array_split(x, 2):  # added up over batches
        meter.add({"x": part}, {"x": part}, Request.of("gradient", target=target))
    return meter.result()


def test_effects_are_the_closed_form() -> None:
    proto = three_layers()
    w = weights_of(proto)
    off = [RNG.normal(size=each.shape) * 0.01 for each in w[:2]]
    x = RNG.normal(size=(6, 4)).astype(np.float32)
    found = metered(proto, changed(proto, w0=w[0] + off[0], w1=w[1] + off[1]), x, 1)
    x64 = x.astype(np.float64)
    down = [w[1] @ w[2][:, 1], w[2][:, 1]]  # the score's derivative by what each layer gives
    errors = [x64 @ off[0], x64 @ w[0] @ off[1]]  # the second on the first model's values
    by_name = {each.node: each for each in found.nodes}
    for at in (0, 1):
        moved = errors[at] * down[at]
        assert by_name[f"layer{at}"].relevance == pytest.approx(np.abs(moved).sum(1).mean(), rel=1e-4)
        assert by_name[f"layer{at}"].score == pytest.approx(np.abs(moved.sum(1)).mean(), rel=1e-4)
    assert by_name["layer2"].relevance < 1e-4 * by_name["layer1"].relevance  # its weights are the same
    assert sum(each.share for each in found.nodes) == pytest.approx(1)
    signal = x64 @ w[0] @ w[1]
    whole = x64 @ (w[0] + off[0]) @ (w[1] + off[1])
    assert found.sqnr["layer1_out"] == pytest.approx(tensor_sqnr(signal, whole), abs=1e-3)
    assert by_name["layer1"].sites[0].sqnr == pytest.approx(tensor_sqnr(signal, signal + errors[1]), abs=1e-3)


def test_the_sum_of_first_order_effects_is_the_scores_change() -> None:
    proto = three_layers()
    w = weights_of(proto)
    off = RNG.normal(size=w[1].shape) * 1e-2
    x = np.abs(RNG.normal(size=(1, 4))).astype(np.float32)
    found = metered(proto, changed(proto, w1=w[1] + off), np.concatenate([x, x]), 0)
    change = (x.astype(np.float64) @ w[0] @ off @ w[2])[0, 0]
    assert found.nodes[0].score == pytest.approx(abs(change), rel=1e-3)


def test_an_error_where_the_score_doesnt_look_counts_for_nothing() -> None:
    """Signal to noise names the branch that is multiplied by nearly zero; the derivative doesn't."""
    b = Builder(9)
    loud = b.add("MatMul", "x", b.weight("wa", 4, 4, fan=4), name="ignored")
    heard = b.add("MatMul", "x", b.weight("wb", 4, 4, fan=4), name="heard")
    faint = b.add("Mul", loud, b.constant("faint", np.float32(1e-6)), name="faintly")
    end = b.add("MatMul", b.add("Add", faint, heard, name="both"), b.weight("wc", 4, 3, fan=4), name="end")
    proto = b.model(end, (4,))
    weights = dict(zip((t.name for t in proto.graph.initializer), weights_of(proto), strict=True))
    bad = changed(proto, wa=-weights["wa"], wb=weights["wb"] * 1.1)
    found = metered(proto, bad, RNG.normal(size=(4, 4)).astype(np.float32), "top1")
    assert (found.nodes[0].node, found.named_by_sqnr) in {("heard", "ignored"), ("heard", "faintly")}
    assert found.nodes[0].share > 0.99


def test_nothing_is_proposed_where_nothing_but_rounding_differs() -> None:
    proto = three_layers()
    w = weights_of(proto)
    close = changed(proto, w1=np.nextafter(w[1].astype(np.float32), np.float32(9)))
    for other in (proto, close):
        found = metered(proto, other, RNG.normal(size=(4, 4)).astype(np.float32), 0)
        assert found.nodes_to_exclude == ()
        assert "rounding" in found.notes[0]


def test_sqnr_in_closed_form_and_at_its_ends() -> None:
    v = np.array([3.0, 4.0])
    assert tensor_sqnr(v, 0.9 * v) == pytest.approx(20)
    assert tensor_sqnr(v, v) == np.inf
    assert np.isnan(tensor_sqnr(np.zeros(2), v))


#: A weight in a sample model, a result that is clipped with the ReLU before it dropped, a sum that is kept too narrowly.
_CHOSEN = {("digits_cnn", "/layers/layers.2/Conv"), ("plain", "conv4"), ("depthwise", "skip3")}
QUICK = [fault for fault in FAULTS if (fault.network, fault.node) in _CHOSEN]


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.network)
def test_a_planted_scale_is_named_and_keeping_its_nodes_mends_the_maps(fault: Fault, tmp_path: Path) -> None:
    network = Network.of(fault.network, tmp_path, 6)
    first = analyzer.load(network.path, "cpu")
    faulty = network.quantised(tmp_path / "faulty.onnx")
    assert plant(faulty, fault)
    found = compare(first, analyzer.load(faulty, "cpu"), network.held_out, fault.method, nodes=True)
    assert found.nodes is not None
    assert found.nodes.nodes[0].node == fault.node
    assert len(found.nodes.nodes_to_exclude) <= 0.1 * len(first.proto.graph.node)
    kept = network.quantised(tmp_path / "kept.onnx", found.nodes.nodes_to_exclude)
    plant(kept, fault)  # wherever the scale is still there
    then = compare(first, analyzer.load(kept, "cpu"), network.held_out, fault.method)
    assert np.mean([row.similarity["spearman"] for row in found.rows]) < 0.95
    assert np.mean([row.similarity["spearman"] for row in then.rows]) >= 0.95


def test_a_fault_that_takes_more_nodes_than_allowed_says_so(tmp_path: Path) -> None:
    network = Network.of("transformer", tmp_path, 4)
    faulty = network.quantised(tmp_path / "faulty.onnx")
    assert plant(faulty, Fault("transformer", "norm1a", ("norm1a_out_scale",), 0.05))
    first, second = analyzer.load(network.path, "cpu"), analyzer.load(faulty, "cpu")
    found = compare(first, second, network.held_out, "gradient-x-input", nodes=True).nodes
    assert found is not None and found.nodes[0].node == "norm1a"
    assert any("norm1a, q1, k1, v1 all stay" in note for note in found.notes)
    wider = compare(first, second, network.held_out, "gradient-x-input", nodes=True, share=0.15).nodes
    assert wider is not None and {"norm1a", "q1", "k1", "v1"} <= set(wider.nodes_to_exclude)


def test_nodes_without_names_are_told_of() -> None:
    proto = three_layers()
    for node in proto.graph.node:
        node.name = ""
    found = metered(proto, changed(proto, w1=2 * weights_of(proto)[1]), RNG.normal(size=(4, 4)).astype(np.float32), 0)
    assert found.nodes[0].node == "layer1_out" and found.nodes_to_exclude == ()
    assert "no names" in found.notes[0]


def test_a_model_whose_inner_values_are_other_ones_proposes_nothing() -> None:
    """The product of all three matrices as one node: what it is off by can't be laid to any of them."""
    proto = three_layers()
    w = weights_of(proto)
    b = Builder(1)
    b.weights["all"] = (w[0] @ w[1] @ w[2] * 1.5).astype(np.float32)
    other = b.model(b.add("MatMul", "x", "all", name="together"), (4,))
    found = metered(proto, other, RNG.normal(size=(4, 4)).astype(np.float32), 0)
    assert found.matched == pytest.approx(1 / 3)
    assert found.nodes[0].node == "layer2" and found.nodes_to_exclude == ()
    assert "33% of the nodes that the score depends on" in found.notes[0]
