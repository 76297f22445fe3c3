"""The operators that compiled explanations are made of beside what onnxruntime's providers have kernels for.

``kernels.json`` is made from onnxruntime's own lists and names them. The CPU has a kernel for all, as every other test of this
room shows; where another provider has none, onnxruntime runs that node on the CPU and copies there and back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

import analyzer
from analyzer.compiler.lowering.operators import OPERATORS
from tests.analyzer.compiler.test_architectures import exported
from tests.analyzer.compiler.test_lowerings import POOLS, pooled, written

KERNELS: dict[str, Any] = json.loads((Path(__file__).parent / "kernels.json").read_text())
PAGE = (Path(__file__).parents[3] / "docs" / "compile.md").read_text()
NAMES = {
    TensorProto.FLOAT: "float", TensorProto.DOUBLE: "double", TensorProto.INT64: "int64", TensorProto.INT32: "int32",
    TensorProto.BOOL: "bool",
}  # fmt: skip


@pytest.mark.parametrize("provider", ["CUDA", "WebGPU"])
def test_the_page_says_which_operators_run_on_the_cpu(provider: str) -> None:
    (said,) = re.findall(rf"^- {provider}: ([^.]*)\.", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", said)) == OPERATORS - set(KERNELS[provider])


def test_nothing_is_listed_that_is_never_written() -> None:
    sources = (Path(__file__).parents[3] / "analyzer" / "compiler").rglob("*.py")
    written = set(re.findall(r'"(\w+)"', "".join(path.read_text() for path in sources if path.name != "operators.py")))
    bits = {f"Bitwise{name}" for name in ("And", "Or", "Xor")}
    assert written | bits >= OPERATORS


class Pooled(nn.Module):
    """Windows side by side and overlapping, averages, a maximum over all places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Linear(8, 5)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        x = nn.functional.max_pool2d(torch.nn.functional.silu(self.second(x)), 3, 2, 1)
        x = nn.functional.avg_pool2d(x, 2, 1)
        return self.head(x.amax((2, 3)))  # type: ignore[no-any-return]


class Attending(nn.Module):
    """Patches, a layer of a transformer, a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 5)
        self.layer = nn.TransformerEncoderLayer(16, 2, 24, 0.0, "gelu", batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.layer(tokens).mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("made", [Pooled, Attending])
@pytest.mark.parametrize("method", ["gradient", "lrp", "deeplift", "grad-cam"])
def test_everyday_explanations_stay_on_the_device(made: type[nn.Module], method: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    model = analyzer.load(exported(made(), x, tmp_path / "m.onnx"), device="cpu")
    proto = analyzer.compile(model, method, example=x, verify=False).proto
    read = list(_on_data(proto))
    assert len(read) > len(proto.graph.node) / 2
    assert not [f"{node.op_type} of {kind}" for node, kind in read if kind not in KERNELS["CUDA"].get(node.op_type, ())]


@pytest.mark.parametrize("case", POOLS)
def test_windows_side_by_side_stay_on_every_device(case: str) -> None:
    shape, how, kind = POOLS[case]
    x = torch.randn(shape)
    pool = {4: torch.nn.functional.max_pool2d, 5: torch.nn.functional.max_pool3d}[len(shape)]
    proto = written(lambda a, b: pooled(a, b, *how), x, pool(x, *how))
    elsewhere = {node.op_type for node in proto.graph.node} - {*KERNELS["WebGPU"], "Identity"}
    assert bool(elsewhere) == (kind == "ScatterElements")


def _on_data(proto: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Nodes with the type of what they read, but for those that count with sizes, which onnxruntime always puts on the CPU."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    known |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    sizes = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Shape" or set(node.input) <= sizes:
            sizes |= set(node.output)
            continue
        yield node, NAMES[known[node.input[1 if node.op_type == "Where" else 0]]]
