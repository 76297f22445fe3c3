"""Which nodes read a value, and which values depend on an input."""

from __future__ import annotations

from onnx import TensorProto, helper

from analyzer.inputs.graph_readers import GraphReaders


def test_what_is_left_out_depends_on_nothing() -> None:
    """Outputs and inputs that are left out share the empty name."""
    nodes = [
        helper.make_node("GRU", ["x", "w", "r"], ["", "last"], hidden_size=3),
        helper.make_node("Clip", ["table", "", "most"], ["clipped"]),
        helper.make_node("Gather", ["clipped", "ids"], ["rows"]),
    ]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "ids", "most")]
    weights = [helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0]) for name in ("w", "r", "table", "most")]
    reading = GraphReaders.of(helper.make_graph(nodes, "g", given, [], weights))
    assert reading.computed == {"x", "ids", "last", "rows"}
    assert [node.op_type for node in reading.of_value("clipped")] == ["Gather"]
    assert set(reading.constants) == {"w", "r", "table", "most"}
