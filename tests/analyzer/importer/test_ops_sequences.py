"""Sequences of tensors against onnxruntime; what they leave in the trace is tensors only."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

import analyzer
from analyzer.errors import InputError
from tests.analyzer.importer.oracle import runtime, table

X = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
HEAD = '<ir_version: 8, opset_import: ["" : 17]>\ng (float[2, 7, 3] x) => ({kind} y)\n<{constants}>\n{{ {body} }}'
AT = "y = SequenceAt (s, at)"
CASES = {
    "single, kept": ("", "s = SplitToSequence <axis = 1> (x) at = Constant <value_int = 3> () " + AT),
    "single, dropped": (
        "",
        "s = SplitToSequence <axis = -2, keepdims = 0> (x) at = Constant <value_int = -1> () " + AT,
    ),
    "equal": ("int64 n = {3}", "s = SplitToSequence <axis = 1> (x, n) at = Constant <value_int = 2> () " + AT),
    "sizes": (
        "int64[3] n = {1, 4, 2}",
        "s = SplitToSequence <axis = 1> (x, n) y = ConcatFromSequence <axis = 1> (s)",
    ),
    "stacked": (
        "",
        "a = Relu (x) b = Neg (x) s = SequenceConstruct (a, b, x) y = ConcatFromSequence <axis = -1, new_axis = 1> (s)",
    ),
    "inserted": (
        "int64 one = {1}",
        "a = Relu (x) b = Neg (x) e = SequenceEmpty () s1 = SequenceInsert (e, a) s2 = SequenceInsert (s1, b) "
        "s3 = SequenceInsert (s2, x, one) y = ConcatFromSequence <axis = 0> (s3)",
    ),
    "erased": (
        "int64 first = {0}",
        "a = Relu (x) b = Neg (x) s = SequenceConstruct (a, b, x, x) s1 = SequenceErase (s, first) "
        "s2 = SequenceErase (s1) y = ConcatFromSequence <axis = 2> (s2)",
    ),
    "length": ("", "s = SplitToSequence <axis = 1> (x) y = SequenceLength (s)"),
    "mapped": (
        "",
        "s = SplitToSequence <axis = 1> (x) m = SequenceMap (s, x) <body = b (float[2, 1, 3] u, float[2, 7, 3] w) => "
        "(float[2, 7, 3] v) { v = Mul (u, w) }> y = ConcatFromSequence <axis = 1> (m)",
    ),
}


def model(constants: str, body: str, kind: str = "float[]") -> onnx.ModelProto:
    return parser.parse_model(HEAD.format(constants=constants, body=body, kind=kind))


def case(name: str) -> onnx.ModelProto:
    proto = model(*CASES[name], kind="int64" if name == "length" else "float")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return proto


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("record", [False, True], ids=["run", "recorded"])
def test_against_onnxruntime(name: str, record: bool) -> None:
    (expected,) = runtime(case(name), {"x": X})
    (found,) = table(case(name), {"x": X}, record)
    np.testing.assert_array_equal(found, expected)


def test_gradients_pass_through() -> None:
    proto = model(*CASES["sizes"])
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    found = analyzer.load(proto).explain(X, target="y[:,2,1]").attribution
    expected = np.zeros_like(X)
    expected[:, 2, 1] = 1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("position", [7, -8])
def test_a_position_outside_is_refused(position: int) -> None:
    body = f"s = SplitToSequence <axis = 1> (x) at = Constant <value_int = {position}> () {AT}"
    with pytest.raises(InputError, match=f"position {position} in a sequence of 7"):
        table(model("", body), {"x": X}, True)
