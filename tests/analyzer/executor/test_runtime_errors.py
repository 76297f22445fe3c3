"""onnxruntime's messages: the useful end stays, its source's place goes, and the hint blames what is at fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from analyzer.errors import InputError
from analyzer.executor.runtime_errors import run_error
from analyzer.executor.session import Session
from tests.common.models import assemble

FLOAT = np.float32


def failing(op: str, x: Any, *weights: Any, **attributes: Any) -> InputError:
    """The error of a model of one node called ``here``, of whose input nothing but the type is declared."""
    names = [f"w{at}" for at in range(len(weights))]
    node = helper.make_node(op, ["x", *names], ["y"], name="here", **attributes)
    x = np.asarray(x)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    proto = assemble(
        [node], {"x": (kind, [None] * x.ndim)}, {"y": (TensorProto.FLOAT, None)}, dict(zip(names, weights, strict=True))
    )
    with pytest.raises(InputError) as caught:
        Session(proto.SerializeToString(), optimize=False).run({"x": x})
    return caught.value


@pytest.mark.parametrize(
    ("op", "x", "weights", "end"),
    [
        ("MatMul", np.ones((2, 5), FLOAT), (np.ones((4, 3), FLOAT),), "dimension mismatch"),
        ("Gemm", np.ones((2, 5), FLOAT), (np.ones((4, 3), FLOAT),), "K: 5 N:3"),
        ("Conv", np.ones((1, 4, 8, 8), FLOAT), (np.ones((4, 3, 3, 3), FLOAT),), "C: 4 kernel channels: 3 group: 1"),
        ("Add", np.ones((2, 5), FLOAT), (np.ones(4, FLOAT),), "4 by 5"),
        ("Reshape", np.ones((2, 5), FLOAT), (np.array([2, 4]),), "Input shape:{2,5}, requested shape:{2,4}"),
        ("Squeeze", np.ones((2, 4), FLOAT), (np.array([1]),), "shape={2,4}"),
    ],
)
def test_a_shape_at_fault_is_said_to_be(op: str, x: Any, weights: Any, end: str) -> None:
    error = failing(op, x, *weights)
    assert f"{op} node 'here': " in error.message
    assert error.message.endswith(end)
    assert "inspect" in error.hint
    for noise in ("onnxruntime_src", ".h:", "Status Message", "was false", "Non-zero"):
        assert noise not in error.message


@pytest.mark.parametrize(
    ("op", "x", "weights"),
    [
        ("Gather", np.ones((5, 3), FLOAT), (np.array([[7]]),)),
        ("GatherElements", np.ones((1, 3), FLOAT), (np.array([[7]]),)),
    ],
)
def test_an_index_at_fault_is_said_to_be(op: str, x: Any, weights: Any) -> None:
    error = failing(op, x, *weights)
    assert error.code == "runtime.op_failed"
    assert "beyond what the model knows" in error.hint


def test_a_long_message_is_cut_behind_its_useful_part() -> None:
    place = (
        "/onnxruntime_src/onnxruntime/core/"
        + "very_long_folder/" * 40
        + "file.cc:12 onnxruntime::Status f(int, bool) const "
    )
    error = run_error(
        RuntimeError(f"Non-zero status code returned while running Odd node. Name:'n' Status Message: {place}why")
    )
    assert error.message == "onnxruntime failed: Odd node 'n': why"
    assert len(run_error(RuntimeError("word " * 500)).message) < 450


def test_a_wrong_type_is_no_wrong_shape() -> None:
    proto = assemble([helper.make_node("Relu", ["x"], ["y"])], {"x": (TensorProto.FLOAT, ["n"])},
                     {"y": (TensorProto.FLOAT, ["n"])}, {})  # fmt: skip
    session = Session(proto.SerializeToString())
    with pytest.raises(InputError) as caught:
        session.run({"x": np.ones(2)})
    assert caught.value.code == "data.bad_type"
    with pytest.raises(InputError) as caught:
        session.run({"x": np.ones((2, 2), FLOAT)})
    assert caught.value.code == "data.bad_shape"
