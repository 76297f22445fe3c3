"""How far text goes in a graph: what moves it and what makes numbers of it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.importer.text import text_ends
from tests.common.models import assemble
from tests.common.text_models import categories, columns, odd_encoders, words


@pytest.mark.parametrize(
    ("proto", "texts", "ends"),
    [
        (categories(), ["x"], ["encode_cities", "encode_jobs"]),
        (columns(), ["city"], ["encode_encoded"]),
        (words(), ["text"], ["split"]),
        (odd_encoders(), ["size"], ["map"]),
        (odd_encoders(), ["price"], ["read"]),
        (odd_encoders(), ["size", "price"], ["map", "read"]),
    ],
)
def test_the_nodes_that_make_something_else_of_text(proto: onnx.ModelProto, texts: list[str], ends: list[str]) -> None:
    nodes = proto.graph.node
    found = [nodes[at].name or nodes[at].output[0] for at in text_ends(nodes, texts)]
    assert found == ends


def text_into(kind: str, **attributes: int) -> onnx.ModelProto:
    node = helper.make_node(kind, ["x"], ["y"], name="odd", **attributes)
    outputs = {"y": (TensorProto.FLOAT, ["n"])}
    return assemble([node], {"x": (TensorProto.STRING, ["n"])}, outputs, {}, domains={"com.microsoft": 1})


def test_text_where_the_standard_takes_none_is_refused_at_once() -> None:
    with pytest.raises(analyzer.InputError, match="'x' holds text, which node 'odd' \\(Relu\\) doesn't take") as caught:
        analyzer.load(text_into("Relu"), "cpu")
    assert caught.value.code == "input.unsupported_type"
    assert analyzer.load(text_into("Cast", to=TensorProto.FLOAT), "cpu").predict(np.array(["2.5"]))["y"].tolist() == [
        2.5
    ]


def test_functions_of_a_models_own_may_take_text() -> None:
    proto = text_into("Cast", to=TensorProto.FLOAT)
    inner = helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT)
    opsets = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("mine", "Read", ["a"], ["b"], [inner], opsets))
    del proto.graph.node[0].attribute[:]
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "Read", "mine"
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    assert analyzer.load(proto, "cpu").predict(np.array(["2.5"]))["y"].tolist() == [2.5]
