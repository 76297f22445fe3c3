"""Models that are valid and odd: each command gives an answer, or refuses in one line with the right exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.cli.conftest import Call
from tests.common.models import assemble

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
Node = helper.make_node
W = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
ROWS = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)
LINEAR = Node("MatMul", ["x", "w"], ["y"])
IN, OUT = {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 3])}
UNKNOWN: Any = (FLOAT, None)
TYPES = [TensorProto.INT64, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.BOOL, TensorProto.INT8, UINT8, FLOAT]


def typed() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Seven columns, each an input of a type of its own."""
    names = [f"c{at}" for at in range(len(TYPES))]
    nodes = [Node("Cast", [name], [f"f{name}"], to=FLOAT) for name in names]
    nodes += [Node("Concat", [f"f{name}" for name in names], ["row"], axis=1), Node("MatMul", ["row", "v"], ["y"])]
    inputs = {name: (kind, ["n", 1]) for name, kind in zip(names, TYPES, strict=True)}
    feed = {n: np.ones((2, 1), helper.tensor_dtype_to_np_dtype(kind)) for n, (kind, _) in inputs.items()}
    return assemble(nodes, inputs, OUT, {"v": np.ones((7, 3), np.float32)}), feed


def loose(op: str, **attributes: Any) -> onnx.ModelProto:
    """An operator on an input of unknown rank."""
    if op == "Einsum":
        return assemble([Node(op, ["x", "w"], ["y"], **attributes)], {"x": UNKNOWN}, {"y": UNKNOWN}, {"w": W})
    nodes = [Node("QuantizeLinear", ["x", "s", "z"], ["q"]), Node(op, ["q", "s", "z", "k", "s", "z", "s", "z"], ["p"]),
             Node("DequantizeLinear", ["p", "s", "z"], ["y"])]  # fmt: skip
    weights = {"s": np.array(1, np.float32), "z": np.array(0, np.uint8), "k": np.ones((1, 1, 3, 3), np.uint8)}
    return assemble(nodes, {"x": UNKNOWN}, {"y": UNKNOWN}, weights)


def reference_outside() -> onnx.ModelProto:
    """A node of the main graph whose attribute is a function's."""
    proto = assemble([Node("Softmax", ["x"], ["y"])], IN, {"y": (FLOAT, ["n", 4])}, {})
    proto.graph.node[0].attribute.add(name="axis", type=onnx.AttributeProto.INT, ref_attr_name="of")
    return proto


PLAIN = assemble([LINEAR], IN, OUT, {"w": W})
#: Model, inputs, and the exit codes of inspect, explain (occlusion, gradient) and compile.
CASES: dict[str, tuple[Any, dict[str, Any], tuple[int, int, int, int]]] = {
    "seven types": (*typed(), (0, 0, 0, 0)),
    "unknown rank": (loose("Einsum", equation="ij,jk->ik"), {"x": ROWS}, (0, 0, 0, 2)),
    "unknown rank, one number": (loose("Einsum", equation="ij,jk->ik"), {"x": np.float32(1)}, (0, 3, 3, 2)),
    "unknown rank, quantised": (loose("QLinearConv"), {"x": np.float32(1)}, (0, 3, 3, 2)),
    "rank 1": (assemble([Node("Mul", ["x", "x"], ["y"])], {"x": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])}, {}),
               {"x": ROWS[0]}, (0, 0, 0, 0)),
    "no batch axis in the second input": (
        assemble([Node("MatMul", ["x", "v"], ["y"])], {"x": (FLOAT, ["n", 4]), "v": (FLOAT, [4, 3])}, OUT, {}),
        {"x": ROWS, "v": W}, (0, 0, 0, 0),
    ),
    "an output is an input": (assemble([LINEAR], IN, {"x": (FLOAT, ["n", 4]), **OUT}, {"w": W}), {"x": ROWS}, (0, 0, 0, 3)),
    "the output is the input": (assemble([], IN, {"x": (FLOAT, ["n", 4])}, {}), {"x": ROWS}, (0, 0, 0, 3)),
    "no inputs": (assemble([Node("Relu", ["w"], ["y"])], {}, {"y": (FLOAT, [4, 3])}, {"w": W}), {"x": ROWS}, (0, 3, 3, 3)),
    "inputs with defaults only": (
        assemble([LINEAR], {"x": (FLOAT, [2, 4])}, {"y": (FLOAT, [2, 3])}, {"w": W, "x": ROWS}), {"x": ROWS}, (0, 3, 3, 3)
    ),
    "an empty shape": (PLAIN, {"x": np.float32(1)}, (0, 3, 3, 0)),
    "no samples": (PLAIN, {"x": ROWS[:0]}, (0, 3, 3, 0)),
    "an attribute of no function": (reference_outside(), {"x": ROWS}, (3, 3, 3, 3)),
    "text inside": (
        assemble([LINEAR, Node("Cast", ["y"], ["t"], to=TensorProto.STRING)], IN, {"t": (TensorProto.STRING, ["n", 3])},
                 {"w": W}), {"x": ROWS}, (0, 3, 3, 3),
    ),
    "one name for every size": (
        assemble([Node("Relu", ["x"], ["y"])], {"x": (FLOAT, ["n"] * 4)}, {"y": (FLOAT, ["n"] * 4)}, {}),
        {"x": np.ones((2, 2, 2, 2), np.float32)}, (0, 0, 0, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", ["inspect", "occlusion", "gradient", "compile"])
@pytest.mark.parametrize("name", CASES)
def test_an_answer_or_one_line(call: Call, tmp_path: Path, name: str, command: str) -> None:
    proto, feed, codes = CASES[name]
    model = tmp_path / "m.onnx"
    onnx.save(proto, model)
    for key, value in feed.items():
        np.save(tmp_path / f"{key}.npy", value)
    files = [f"{key}={tmp_path / key}.npy" for key in feed] if len(feed) > 1 else [str(tmp_path / "x.npy")]
    out = tmp_path / "out"
    arguments = {
        "inspect": ["inspect", model],
        "compile": ["compile", model, "-m", "gradient", "-o", tmp_path / "c.onnx"],
    }.get(command, ["explain", model, *files, "-m", command, "-o", out])
    ran = call(*arguments, "--device", "cpu")
    assert ran.code == codes[("inspect", "occlusion", "gradient", "compile").index(command)], ran.err
    assert ran.code == 0 or ran.error.endswith("]")
    assert ran.code == 0 or not out.exists()
