"""Layers are found by one name in every export of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, parser
from torch import nn

import analyzer
from analyzer.importer.modules import Origin, locate, origins_of


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.conv(x)) + x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    torch.manual_seed(0)
    folder, net, x = tmp_path_factory.mktemp("exports"), Net().eval(), (torch.randn(1, 3, 9, 9),)
    paths = [folder / "legacy.onnx", folder / "dynamo.onnx"]
    torch.onnx.export(net, x, paths[0], dynamo=False, opset_version=17)
    torch.onnx.export(net, x, paths[1], dynamo=True, verbose=False, external_data=False)
    return paths


LAYERS = [
    "stem",
    "stem.0",
    "blocks.0",
    "blocks.1.conv",
    "blocks.1.act",
    "blocks",
    "/blocks.0/act/Relu",
    "/stem/stem.1/Relu",
]


@pytest.mark.parametrize("layer", LAYERS)
def test_the_same_layer_in_both_exports(exports: list[Path], layer: str) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 9, 9)).astype(np.float32)[:1]
    maps = [analyzer.load(p).explain(x, method="grad-cam", layer=layer, relu=False, target=2).raw for p in exports]
    assert np.abs(maps[0]).max() > 0
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-6)


def test_an_unknown_module_is_refused_with_the_near_name(exports: list[Path]) -> None:
    for path in exports:
        with pytest.raises(analyzer.UsageError, match=r"no node or value 'blocks\.7'"):
            analyzer.load(path).explain(np.zeros((1, 3, 9, 9), np.float32), method="grad-cam", layer="blocks.7")


def test_children_of_lists_repeat_their_parents_name() -> None:
    names = ["/conv1/Conv", "/layer1/layer1.0/conv1/Conv", "/a/b/b.1/b.1.2/Relu_3", "Relu_5", "/Add"]
    nodes = [helper.make_node("Relu", ["x"], [f"y{i}"], name=name) for i, name in enumerate(names)]
    graph = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] x) {}')
    graph.graph.node.extend(nodes)
    found = origins_of(analyzer.load(_ending(graph)).graph.nodes)
    assert {k: v.module for k, v in found.items()} == {
        "/conv1/Conv": "conv1", "/layer1/layer1.0/conv1/Conv": "layer1.0.conv1", "/a/b/b.1/b.1.2/Relu_3": "a.b.1.2"
    }  # fmt: skip


def _ending(model: onnx.ModelProto) -> onnx.ModelProto:
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("y0", onnx.TensorProto.FLOAT, [1]))
    return model


@pytest.mark.parametrize("scopes", ["not python", "__import__('os')", "7", "[]", "[" * 500])
def test_metadata_that_says_nothing(scopes: str) -> None:
    graph = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) { y = Relu(x) }'
    )
    graph.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    assert origins_of(analyzer.load(graph).graph.nodes) == {}


def test_the_ith_node_of_its_kind() -> None:
    origins = {"a": Origin("m", "Add"), "b": Origin("m", "Relu"), "c": Origin("m", "Add"), "d": Origin("m.n", "Add")}
    assert [locate(f"/m/{last}", origins) for last in ("Add", "Add_1", "Add_2", "Relu", "Mul")] == [
        "a",
        "c",
        None,
        "b",
        None,
    ]
    assert locate("m", origins) == "d"
    assert locate("m.n", origins) == "d"
    assert locate("n", origins) is None
