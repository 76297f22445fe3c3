"""The walk itself: arrays to tensors, faults with the node's name, freeing, precision, observing."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from analyzer.errors import InputError, UnsupportedError
from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import Graph, build
from analyzer.importer.interpreter import Interpreter, missing, run_graph, unsupported


def graph_of(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",), **weights: np.ndarray) -> Graph:
    """A graph with input ``x``."""
    proto = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("made.up", 2)]
    return build(helper.make_model(proto, opset_imports=imports), numpy_helper.to_array)


@pytest.mark.parametrize(
    "dtype",
    ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"],
)
def test_arrays_share_their_memory_with_tensors(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    array.flags.writeable = False
    tensor = as_tensor(array)
    assert tensor.data_ptr() == array.ctypes.data
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_arrays_of_other_layouts_and_types_keep_their_values() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    for odd in (array.T, array[::-1], array[:, ::2], np.asfortranarray(array), np.float32(3), np.zeros((0, 3))):
        np.testing.assert_array_equal(as_tensor(odd).numpy(), odd)
    values = [1.5, -0.25, 240.0]
    for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        narrow = np.array(values).astype(kind)
        np.testing.assert_array_equal(as_tensor(narrow).float().numpy(), narrow.astype(np.float32))
    small = np.array([-8, 7]).astype(ml_dtypes.int4)
    np.testing.assert_array_equal(as_tensor(small).numpy(), [-8, 7])


@pytest.mark.parametrize("text", [np.array(["a"]), np.array(["a"], object), np.array([b"a"])])
def test_text_has_no_tensor(text: np.ndarray) -> None:
    with pytest.raises(UnsupportedError) as caught:
        as_tensor(text)
    assert caught.value.code == "op.unsupported"


def test_what_the_table_lacks_is_named_wherever_it_is() -> None:
    branch = helper.make_graph(
        [helper.make_node("Inner", ["x"], ["z"], name="deep", domain="made.up")],
        "b",
        [],
        [onnx.ValueInfoProto(name="z")],
    )
    graph = graph_of(
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Outer", ["a"], ["b"], name="shallow", domain="made.up"),
        helper.make_node("If", ["on"], ["y"], then_branch=branch, else_branch=branch),
        on=np.array(True),
    )
    lacking = missing(graph)
    assert [node.name for node in lacking] == ["shallow", "deep", "deep"]
    problem = unsupported(lacking[:2])
    assert "made.up::Outer node 'shallow' (opset 2), made.up::Inner node 'deep' (opset 2)" in problem.message
    assert "and 3 more" in unsupported(lacking[:1] * 8).message
    with pytest.raises(UnsupportedError, match="'shallow'"):
        run_graph(graph, {"x": torch.ones(2)}, Interpreter())


def test_a_fault_inside_an_operator_names_the_node() -> None:
    graph = graph_of(helper.make_node("MatMul", ["x", "w"], ["y"], name="product"), w=np.ones((5, 2), np.float32))
    with pytest.raises(InputError, match="MatMul node 'product' failed") as caught:
        run_graph(graph, {"x": torch.ones(2, 3)}, Interpreter())
    assert caught.value.code == "op.failed"
    assert "\n" not in str(caught.value)


def test_a_value_that_nobody_makes_is_named() -> None:
    graph = graph_of(helper.make_node("Add", ["x", "ghost"], ["y"]))
    with pytest.raises(InputError, match="'ghost'") as caught:
        run_graph(graph, {"x": torch.ones(2)}, Interpreter())
    assert caught.value.code == "graph.dangling"


def test_every_value_is_observed_in_order_with_its_numbers() -> None:
    graph = graph_of(
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Split", ["a"], ["b", "c"], axis=0),
        helper.make_node("Add", ["b", "c"], ["y"]),
    )
    seen: dict[str, Any] = {}
    x = torch.tensor([-1.0, 2.0, 3.0, -4.0])
    run_graph(graph, {"x": x}, Interpreter(observe=lambda name, value: seen.update({name: value})))
    assert list(seen) == ["a", "b", "c", "y"]
    assert seen["c"].tolist() == [3.0, 0.0]
    assert seen["y"].tolist() == [3.0, 2.0]


def test_values_are_freed_as_soon_as_nobody_needs_them() -> None:
    nodes = [helper.make_node("Neg", [f"v{i}" if i else "x"], [f"v{i + 1}" if i < 9 else "y"]) for i in range(10)]
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def observe(name: str, value: torch.Tensor) -> None:
        nonlocal most
        alive.append(weakref.ref(value))
        gc.collect()
        most = max(most, sum(ref() is not None for ref in alive))

    run_graph(graph_of(*nodes), {"x": torch.ones(3)}, Interpreter(observe=observe))
    assert most <= 3


def test_double_precision_reaches_weights_and_casts() -> None:
    graph = graph_of(
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["b", "half"], ["y"]),
        w=np.array([1 / 3], np.float32),
        half=np.array([0.5], np.float32),
    )
    x = torch.tensor([1.0], dtype=torch.float64)
    out = run_graph(graph, {"x": x}, Interpreter(precision=torch.float64))["y"]
    assert out.dtype == torch.float64
    assert out.item() == float(np.float32(1 / 3)) + 0.5


def test_outputs_may_be_inputs_and_initializers() -> None:
    graph = graph_of(helper.make_node("Relu", ["x"], ["y"]), outputs=("y", "x", "w"), w=np.array([7.0], np.float32))
    x = torch.tensor([-1.0])
    found = run_graph(graph, {"x": x}, Interpreter())
    assert {k: v.tolist() for k, v in found.items()} == {"y": [0.0], "x": [-1.0], "w": [7.0]}


def test_initializers_are_never_changed() -> None:
    w = np.array([1.0, -2.0], np.float32)
    graph = graph_of(
        helper.make_node("Relu", ["w"], ["a"]),
        helper.make_node("Add", ["a", "x"], ["b"]),
        helper.make_node("Clip", ["w", "zero"], ["c"]),
        helper.make_node("Mul", ["b", "c"], ["y"]),
        w=w,
        zero=np.array(0.0, np.float32),
    )
    held = graph.initializers["w"]()
    for _ in range(2):
        run_graph(graph, {"x": torch.ones(2)}, Interpreter())
    np.testing.assert_array_equal(held, w)
