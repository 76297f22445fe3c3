"""Tiny models and files, and a way to run the command line in this process. Not here: what is checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from cli.main import run

LABELS = ("ant", "bee", "cat")


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line on stderr; fails where there are more."""
        assert self.err.count("\n") == 1, self.err
        return self.err.strip()


Call = Callable[..., Ran]
Write = Callable[..., Path]
#: The least that a policy may check.
FINITE = {"id": "finite", "kind": "finite"}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run ``onnxplain ARGUMENTS…`` in this process."""

    def invoke(*arguments: object) -> Ran:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return invoke


def save(path: Path, nodes: list[Any], inputs: Any, outputs: Any, weights: dict[str, Any], **metadata: str) -> Path:
    """Write a model of nodes; inputs and outputs as name -> shape of float32."""

    def infos(specs: dict[str, Any]) -> list[Any]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in specs.items()]

    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", infos(inputs), infos(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests")
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


@pytest.fixture
def pictures_model(tmp_path: Path) -> Path:
    """A network for pictures of 8 x 8: convolution, ReLU, global average pooling, three classes."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w", "b"], ["scores"], name="head"),
    ]
    weights = {
        "k": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "kb": np.zeros(4, np.float32),
        "w": rng.standard_normal((4, 3)).astype(np.float32),
        "b": np.zeros(3, np.float32),
    }
    shapes = {"x": ["n", 3, 8, 8]}, {"scores": ["n", 3]}
    return save(tmp_path / "pictures.onnx", nodes, *shapes, weights, labels=json.dumps(LABELS))


@pytest.fixture
def table_model(tmp_path: Path) -> Path:
    """Softmax of a linear layer on four columns; two classes."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="linear"),
        helper.make_node("Softmax", ["z"], ["p"], name="softmax"),
    ]
    weights = {"w": np.array([[1, -1], [2, -2], [0, 0], [-3, 3]], np.float32)}
    return save(tmp_path / "table.onnx", nodes, {"x": ["n", 4]}, {"p": ["n", 2]}, weights)


@pytest.fixture
def pair_model(tmp_path: Path) -> Path:
    """``sum(2 a - 3 b)`` of two inputs."""
    nodes = [
        helper.make_node("MatMul", ["a", "wa"], ["za"]),
        helper.make_node("MatMul", ["b", "wb"], ["zb"]),
        helper.make_node("Add", ["za", "zb"], ["y"]),
    ]
    weights = {"wa": np.full((2, 1), 2, np.float32), "wb": np.full((3, 1), -3, np.float32)}
    return save(tmp_path / "pair.onnx", nodes, {"a": ["n", 2], "b": ["n", 3]}, {"y": ["n", 1]}, weights)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A colourful PNG of 8 x 8."""
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A table of three rows for ``table_model``."""
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c,d\n1,2,3,4\n1,0,0,0\n0,0,1,-1\n")
    return path


def files_in(folder: Path) -> set[str]:
    """Everything below a folder, hidden files too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def gate(tmp_path: Path, pictures_model: Path) -> Write:
    """Writes ``gate.toml``, a policy on twelve pictures; sections as keyword arguments, None leaves one out."""
    from analyzer.gate.toml_text import to_toml

    rng = np.random.default_rng(0)
    (tmp_path / "val").mkdir()
    for at in range(12):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "val" / f"{at:02}.png")

    def write(**sections: Any) -> Path:
        policy: dict[str, Any] = {
            "schema": 1, "model": {"path": pictures_model.name, "preprocess": "unit"}, "data": {"path": "val"},
            "explain": {"method": "gradient-x-input"}, "policy": {"min_n": 5}, "check": [FINITE],
        }  # fmt: skip
        policy |= sections
        path = tmp_path / "gate.toml"
        path.write_text(to_toml({name: value for name, value in policy.items() if value is not None}))
        return path

    return write
