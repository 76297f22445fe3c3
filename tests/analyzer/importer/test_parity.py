"""Parity: a wrong operator is caught, its node named, and nothing is explained with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import analyzer
from analyzer.importer import table
from analyzer.importer.graph import build
from analyzer.importer.parity import TOLERANCE, TOLERANCE_QUANTIZED, Parity, compare, relative_error, tolerance_of
from tests.common.checks import explain, load, registered
from tests.common.models import assemble, cases, cnn

CASES = {case.name: case for case in cases()}


def break_operator(patch: pytest.MonkeyPatch, op_type: str, wrong: Any) -> None:
    """Replace the table's function for an operator."""
    table.lookup("", op_type, 17)
    key = ("", op_type)
    patch.setitem(table._TABLE, key, [(since, wrong) for since, _ in table._TABLE[key]])


def slightly_wrong_relu(node: Any, x: torch.Tensor) -> torch.Tensor:
    """A ReLU that lets a little of the negative side through."""
    return torch.nn.functional.leaky_relu(x, 0.01)


@pytest.mark.parametrize("name", list(CASES))
def test_right_traces_agree(name: str) -> None:
    case = CASES[name]
    parity = load(case.proto).verify(case.feed)
    assert parity.ok
    assert parity.error < (1e-2 if name == "half" else 1e-5)
    assert parity.first_difference is None
    assert list(parity.outputs) == ["scores"]


def test_a_wrong_operator_is_caught_and_its_first_node_named(monkeypatch: pytest.MonkeyPatch) -> None:
    break_operator(monkeypatch, "Relu", slightly_wrong_relu)
    model = load(cnn())
    parity = model.verify(CASES["cnn"].x)
    assert not parity.ok
    assert parity.error > TOLERANCE["float32"]
    assert parity.first_difference == "Relu node 'relu1' (output 'a1')"
    assert parity.to_dict()["ok"] is False


def test_a_fault_late_in_the_graph_is_found_there(monkeypatch: pytest.MonkeyPatch) -> None:
    break_operator(monkeypatch, "GlobalAveragePool", lambda node, x: x.amax(dim=(2, 3), keepdim=True))
    assert load(cnn()).verify(CASES["cnn"].x).first_difference == "GlobalAveragePool node 'pool' (output 'pooled')"


def test_a_fault_beyond_the_first_hundred_nodes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    break_operator(monkeypatch, "Neg", lambda node, x: -x * 1.01)
    nodes = [helper.make_node("Relu", [f"v{i}" if i else "x"], [f"v{i + 1}"], name=f"r{i}") for i in range(100)]
    nodes.append(helper.make_node("Neg", ["v100"], ["scores"], name="culprit"))
    shapes = {"x": (TensorProto.FLOAT, ["n", 3])}
    proto = assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, ["n", 3])}, {})
    assert load(proto).verify(np.ones((1, 3), np.float32)).first_difference == "Neg node 'culprit' (output 'scores')"


@pytest.mark.parametrize("method", [n for n, info in registered().items() if info.needs == "trace"])
def test_nothing_white_box_is_explained_with_a_wrong_trace(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_operator(monkeypatch, "Relu", slightly_wrong_relu)
    with pytest.raises(analyzer.ParityError, match="relu1") as caught:
        explain(load(cnn()), CASES["cnn"].x, method)
    assert caught.value.code == "parity.mismatch"
    assert caught.value.exit_code == 3
    assert "occlusion" in caught.value.hint


@pytest.mark.parametrize("method", [n for n, info in registered().items() if info.needs == "runtime"])
def test_perturbation_methods_do_not_mind(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = explain(load(cnn()), CASES["cnn"].x, method).attribution
    break_operator(monkeypatch, "Relu", slightly_wrong_relu)
    np.testing.assert_array_equal(explain(load(cnn()), CASES["cnn"].x, method).attribution, expected)


def test_parity_is_held_on_the_input_that_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ReLU that is wrong on negative values only passes where there are none."""
    break_operator(monkeypatch, "Relu", slightly_wrong_relu)
    nodes = [helper.make_node("Relu", ["x"], ["scores"], name="relu")]
    shapes = {"x": (TensorProto.FLOAT, ["n", 3])}
    model = load(assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, ["n", 3])}, {}))
    assert model.verify(np.ones((1, 3), np.float32)).ok
    assert not model.verify(-np.ones((1, 3), np.float32)).ok


def test_every_output_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    break_operator(monkeypatch, "Neg", lambda node, x: x)
    nodes = [helper.make_node("Relu", ["x"], ["scores"]), helper.make_node("Neg", ["x"], ["side"], name="culprit")]
    shapes = {"x": (TensorProto.FLOAT, ["n", 3])}
    outputs = {"scores": (TensorProto.FLOAT, ["n", 3]), "side": (TensorProto.FLOAT, ["n", 3])}
    parity = load(assemble(nodes, shapes, outputs, {})).verify(np.ones((1, 3), np.float32))
    assert not parity.ok
    assert parity.outputs["scores"] == 0
    assert parity.outputs["side"] == 2
    assert parity.first_difference == "Neg node 'culprit' (output 'side')"


# --- the measure ----------------------------------------------------------------------------------------------------


def test_the_error_is_relative_to_the_largest_value() -> None:
    expected = np.array([1.0, -4.0])
    assert relative_error(np.array([1.0, -4.0]), expected) == 0
    assert relative_error(np.array([1.0, -3.0]), expected) == 0.25
    assert relative_error(np.array([1.4, -4.0]), expected) == pytest.approx(0.1)


def test_shapes_and_non_finite_places_must_match() -> None:
    inf = float("inf")
    assert relative_error(np.zeros((2, 1)), np.zeros(2)) == inf
    assert relative_error(np.array([1.0, np.nan]), np.array([1.0, 2.0])) == inf
    assert relative_error(np.array([1.0, 2.0]), np.array([1.0, np.nan])) == inf
    assert relative_error(np.array([1.0, np.inf]), np.array([1.0, -np.inf])) == inf
    assert relative_error(np.array([1.0, np.inf]), np.array([1.0, np.inf])) == 0
    assert relative_error(np.array([np.nan]), np.array([np.nan])) == 0
    assert relative_error(np.zeros((0, 3)), np.zeros((0, 3))) == 0
    assert relative_error(np.zeros(2), np.zeros(2)) == 0


def test_whole_numbers_are_compared_too() -> None:
    assert relative_error(np.array([3]), np.array([3])) == 0
    assert relative_error(np.array([3]), np.array([4])) == 0.25
    assert relative_error(np.array([200], np.uint8), np.array([100], np.uint8)) == 1
    assert relative_error(np.array([True]), np.array([False])) == 1


def test_tolerance_follows_the_coarsest_numbers() -> None:
    def graph(dtype: Any, op: str = "Add") -> Any:
        nodes = [helper.make_node(op, ["x", "w"], ["scores"])]
        shapes = {"x": (TensorProto.FLOAT, ["n", 3])}
        weights = {"w": np.ones(3, dtype)}
        return build(assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, None)}, weights), numpy_helper.to_array)

    assert tolerance_of(graph(np.float32)) == TOLERANCE["float32"]
    assert tolerance_of(graph(np.float16)) == TOLERANCE["float16"]
    assert tolerance_of(graph(np.float32, "QuantizeLinear")) == TOLERANCE_QUANTIZED


def test_compare_takes_the_worst_output() -> None:
    got = {"a": np.array([1.0]), "b": np.array([2.0]), "unasked": np.array([9.0])}
    parity = compare(got, {"a": np.array([1.0]), "b": np.array([4.0])}, 1e-3)
    assert (parity.error, parity.ok, dict(parity.outputs)) == (0.5, False, {"a": 0.0, "b": 0.5})
    assert compare({}, {}, 1e-3).ok
    assert Parity(1e-3, 1e-3).ok
    assert not Parity(float("nan"), 1e-3).ok
