"""The model as the interpreter walks it: attributes, functions, subgraphs, initializers; values against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import analyzer
from analyzer.errors import InputError
from analyzer.importer.graph import Graph, build
from tests.analyzer.importer.oracle import runtime, table

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], np.float32)


def built(proto: onnx.ModelProto) -> Graph:
    """The main graph."""
    return build(proto, numpy_helper.to_array)


def check(proto: onnx.ModelProto, feed: dict[str, np.ndarray]) -> None:
    """Assert that interpreter and replayed trace equal onnxruntime."""
    expected = runtime(proto, feed)
    for record in (False, True):
        for mine, theirs in zip(table(proto, feed, record), expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def model(nodes: list[onnx.NodeProto], functions: list[onnx.FunctionProto] = [], **parts: Any) -> onnx.ModelProto:  # noqa: B006
    """A model from ``x`` (n, 3) to ``y``."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [onnx.ValueInfoProto(name="y")],
        **parts,
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, functions=functions, opset_imports=imports, ir_version=10)


# --- nodes and attributes -------------------------------------------------------------------------------------------


def test_attributes_become_plain_values() -> None:
    tensor = numpy_helper.from_array(np.array([1, 2], np.int64), "t")
    node = helper.make_node(
        "Strange",
        ["x"],
        ["y"],
        domain="local",
        i=3,
        f=0.5,
        s="text",
        ints=[1, 2],
        floats=[0.5],
        strings=["a", "b"],
        t=tensor,
    )
    (found,) = built(model([node])).nodes
    assert {k: v for k, v in found.attributes.items() if k != "t"} == {
        "i": 3, "f": 0.5, "s": "text", "ints": [1, 2], "floats": [0.5], "strings": ["a", "b"],
    }  # fmt: skip
    np.testing.assert_array_equal(found.attr("t"), [1, 2])
    assert found.attr("absent") is None
    assert found.attr("absent", 7) == 7
    assert (found.domain, found.version, found.inputs, found.outputs) == ("local", 1, ("x",), ("y",))
    assert str(found) == "local::Strange node 'Strange_0'"
    with pytest.raises(InputError, match="'axis' is missing") as caught:
        found.required("axis")
    assert caught.value.code == "op.bad_attribute"


def test_nodes_get_unique_names() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"], name="same"),
        helper.make_node("Relu", ["b"], ["c"], name="same"),
        helper.make_node("Relu", ["c"], ["y"], name="Relu_0"),
    ]
    names = [node.name for node in built(model(nodes)).nodes]
    assert len(set(names)) == 4
    assert names[0] == "Relu_0"
    assert names[1] == "same"


def test_the_standard_domain_has_one_spelling() -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")])
    proto.opset_import[0].domain = "ai.onnx"
    (node,) = built(proto).nodes
    assert (node.domain, node.version, str(node)) == ("", 17, "Relu node 'Relu_0'")


def test_values_are_forgotten_after_their_last_use() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    graph = built(model(nodes))
    assert {k: set(v) for k, v in graph.last_use.items()} == {0: {"x"}, 2: {"a", "b"}}


# --- functions ------------------------------------------------------------------------------------------------------

FUNCTIONS = """
<ir_version: 10, opset_import: ["": 17, "local": 1]>
agraph (float[n, 3] x) => (float[n, 3] y) {
    a = local.Leaky <slope = 0.25> (x)
    b = local.Leaky (a)
    y = local.Twice <slope = -0.5> (b)
}
<domain: "local", opset_import: ["": 17]>
Leaky <slope: float = 0.1> (v) => (w) {
    w = LeakyRelu <alpha: float = @slope> (v)
}
<domain: "local", opset_import: ["": 17, "local": 1]>
Twice <slope> (v) => (w) {
    once = local.Leaky <slope: float = @slope> (v)
    w = local.Leaky <slope: float = @slope> (once)
}
"""


def test_function_attributes_are_bound_defaulted_and_handed_on() -> None:
    proto = parser.parse_model(FUNCTIONS)
    check(proto, {"x": X})
    first, second, third = built(proto).nodes
    assert first.body is not None
    assert second.body is not None
    assert third.body is not None
    assert first.body.nodes[0].attr("alpha") == 0.25
    assert second.body.nodes[0].attr("alpha") == pytest.approx(0.1)
    inner = third.body.nodes[1]
    assert inner.body is not None
    assert inner.body.nodes[0].attr("alpha") == -0.5
    assert [n.op_type for n in built(proto).walk()].count("LeakyRelu") == 4


def test_a_reference_to_an_attribute_that_is_not_given_is_left_out() -> None:
    proto = parser.parse_model(FUNCTIONS.replace("<slope: float = 0.1>", "<slope>"))
    check(proto, {"x": X})
    body = built(proto).nodes[1].body
    assert body is not None
    assert "alpha" not in body.nodes[0].attributes


def test_function_provenance_is_the_path_of_calls() -> None:
    model = analyzer.load(parser.parse_model(FUNCTIONS), "cpu")
    trace = model.trace({"x": X})
    names = [node.meta["onnx"] for node in trace.module.graph.nodes if node.op == "call_function"]
    assert {n.split("/")[0] for n in names} == {"Leaky_0", "Leaky_1", "Twice_2"}
    assert "Twice_2/Leaky_1/LeakyRelu_0" in names
    assert model.verify(X).ok


def test_overloads_of_a_function_are_told_apart() -> None:
    def function(overload: str, op: str) -> onnx.FunctionProto:
        body = [helper.make_node(op, ["v"], ["w"])]
        return helper.make_function("local", "F", ["v"], ["w"], body, [helper.make_opsetid("", 17)], overload=overload)

    nodes = [
        helper.make_node("F", ["x"], ["a"], domain="local", overload="up"),
        helper.make_node("F", ["a"], ["y"], domain="local", overload="down"),
    ]
    proto = model(nodes, [function("up", "Exp"), function("down", "Neg")])
    for record in (False, True):
        np.testing.assert_allclose(table(proto, {"x": X}, record)[0], -np.exp(X), rtol=1e-6)


def test_a_function_with_an_omitted_optional_input() -> None:
    body = [helper.make_node("Clip", ["v", "", "top"], ["w"])]
    function = helper.make_function("local", "Cap", ["v", "top"], ["w"], body, [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("Cap", ["x", "two"], ["a"], domain="local"), helper.make_node("Relu", ["a"], ["y"])]
    proto = model(nodes, [function], initializer=[numpy_helper.from_array(np.float32(2), "two")])
    check(proto, {"x": X})


def test_a_standard_operator_without_a_function_of_its_own_is_expanded() -> None:
    """Whatever the table lacks and the standard defines by other operators comes out right."""
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"], axes=[1])
    check(model([node]), {"x": X})


# --- subgraphs ------------------------------------------------------------------------------------------------------


def branch(name: str, *nodes: onnx.NodeProto, **parts: Any) -> onnx.GraphProto:
    """A branch without inputs whose output is ``out_<name>``."""
    return helper.make_graph(list(nodes), name, [], [onnx.ValueInfoProto(name=f"out_{name}")], **parts)


def test_nested_subgraphs_see_the_scopes_around_them() -> None:
    inner_yes = branch("inner_yes", helper.make_node("Mul", ["doubled", "shift"], ["out_inner_yes"]))
    inner_no = branch("inner_no", helper.make_node("Neg", ["x"], ["out_inner_no"]))
    outer_yes = branch(
        "outer_yes",
        helper.make_node("Add", ["x", "x"], ["doubled"]),
        helper.make_node("If", ["second"], ["out_outer_yes"], then_branch=inner_yes, else_branch=inner_no),
    )
    outer_no = branch("outer_no", helper.make_node("Identity", ["shift"], ["out_outer_no"]))
    nodes = [
        helper.make_node("Add", ["x", "one"], ["shift"]),
        helper.make_node("If", ["first"], ["chosen"], then_branch=outer_yes, else_branch=outer_no),
        helper.make_node("Relu", ["chosen"], ["y"]),
    ]
    for first in (True, False):
        for second in (True, False):
            weights = {"one": np.float32(1), "first": np.array(first), "second": np.array(second)}
            proto = model(nodes, initializer=[numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()])
            check(proto, {"x": X})
    graph = built(proto)
    chooser = graph.nodes[1]
    then = chooser.attr("then_branch")
    assert then.captured == {"x", "shift", "second"}
    assert then.nodes[1].attr("then_branch").captured == {"doubled", "shift"}
    assert {"x", "shift"} <= set(graph.last_use[1]), "kept until the node whose branches read them"


def test_an_inner_name_hides_the_outer_one() -> None:
    """Subgraph initializers and values belong to the subgraph."""
    weights = [numpy_helper.from_array(np.array([10.0], np.float32), "inner")]
    yes = branch("yes", helper.make_node("Add", ["x", "inner"], ["out_yes"]), initializer=weights)
    no = branch("no", helper.make_node("Identity", ["x"], ["out_no"]))
    proto = model(
        [helper.make_node("If", ["on"], ["y"], then_branch=yes, else_branch=no)],
        initializer=[numpy_helper.from_array(np.array(True), "on")],
    )
    check(proto, {"x": X})
    assert built(proto).nodes[0].attr("then_branch").captured == {"x"}


def test_loop_bodies_capture_too() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_in"], ["go_out"]),
            helper.make_node("Mul", ["state", "x"], ["scaled"]),
            helper.make_node("Add", ["scaled", "step"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    nodes = [helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)]
    weights = {"count": np.array(3, np.int64), "step": np.array([0.5], np.float32)}
    proto = model(nodes, initializer=[numpy_helper.from_array(v, k) for k, v in weights.items()])
    check(proto, {"x": X})
    assert built(proto).nodes[0].attr("body").captured == {"x", "step"}


# --- initializers ---------------------------------------------------------------------------------------------------


def listed() -> onnx.ModelProto:
    """y = x * w + 1 with the initializer w also listed as an input."""
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("Mul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "one"], ["y"])],
            "g",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3]),
                helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]),
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
            [
                numpy_helper.from_array(np.array([1.0, 2.0, 3.0], np.float32), "w"),
                numpy_helper.from_array(np.float32(1), "one"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def test_initializers_listed_as_inputs_need_not_be_given() -> None:
    graph = built(listed())
    assert graph.inputs == ("x",)
    model = analyzer.load(listed(), "cpu")
    assert list(model.inputs) == ["x"]
    expected = X * np.array([1, 2, 3]) + 1
    for backend in ("onnxruntime", "torch"):
        np.testing.assert_allclose(model.predict(X, backend)["y"], expected)


def test_initializers_listed_as_inputs_can_be_overridden_everywhere() -> None:
    model = analyzer.load(listed(), "cpu")
    feed = {"x": X, "w": np.array([-1.0, 0.0, 5.0], np.float32)}
    for backend in ("onnxruntime", "torch"):
        np.testing.assert_allclose(model.predict(feed, backend)["y"], X * feed["w"] + 1)
        np.testing.assert_allclose(model.predict(X, backend)["y"], X * np.array([1, 2, 3]) + 1)
    assert model.verify(feed).ok
    for method in ("gradient", "occlusion"):
        found = model.explain(feed, method=method, target=2)
        expected = np.zeros((2, 3))
        expected[:, 2] = 5.0 if method == "gradient" else 5.0 * X[:, 2]
        np.testing.assert_allclose(found.attributions["x"], expected, atol=1e-6)


@pytest.mark.parametrize("linear", [False, True])
def test_sparse_initializers_are_dense_arrays(linear: bool) -> None:
    dense = np.array([[0, 0, 2.0], [0, -1.0, 0], [0, 0, 0]], np.float32)
    places = np.argwhere(dense)
    indices = np.ravel_multi_index(tuple(places.T), dense.shape) if linear else places
    sparse = onnx.SparseTensorProto(dims=dense.shape)
    sparse.values.CopyFrom(numpy_helper.from_array(dense[dense != 0], "w"))
    sparse.indices.CopyFrom(numpy_helper.from_array(indices.astype(np.int64), ""))
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], sparse_initializer=[sparse])
    np.testing.assert_array_equal(built(proto).initializers["w"](), dense)
    for record in (False, True):
        np.testing.assert_allclose(table(proto, {"x": X}, record)[0], X @ dense)
    check(proto, {"x": X})


def test_an_initializer_is_read_when_first_needed_and_once() -> None:
    reads: list[str] = []

    def read(tensor: TensorProto) -> np.ndarray:
        reads.append(tensor.name)
        return numpy_helper.to_array(tensor)

    graph = build(listed(), read)
    assert reads == []
    graph.initializers["w"]()
    assert graph.initializers["w"]() is graph.initializers["w"]()
    assert reads == ["w"]
