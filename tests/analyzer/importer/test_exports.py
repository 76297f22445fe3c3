"""The same networks exported at every opset that torch's exporters offer, all equal to onnxruntime.

A few opsets by default, all of them under ``slow``.
"""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import analyzer

LEGACY = range(9, 21)
DYNAMO = range(18, 26)  # torch states 23 as its newest; beyond 25 onnxruntime refuses some
FAST = {("legacy", 9), ("legacy", 13), ("legacy", 17), ("dynamo", 18), ("dynamo", 23)}


class ResidualNet(nn.Module):
    """Two residual blocks with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
            for _ in range(2)
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.body:
            x = torch.relu(x + block(x))
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


class TextEncoder(nn.Module):
    """A BERT-like encoder: embeddings, attention, GELU, layer normalisation, a pooled head."""

    def __init__(self, width: int = 16, heads: int = 2, length: int = 7) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.tokens, self.places = nn.Embedding(30, width), nn.Parameter(torch.randn(length, width))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(width, 32) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(32, width) for _ in range(2))
        self.head = nn.Linear(width, 3)

    def attend(self, x: Tensor, layer: int) -> Tensor:
        batch, length = x.shape[0], x.shape[1]
        split = (
            self.qkv[layer](x).reshape(batch, length, 3, self.heads, self.width // self.heads).permute(2, 0, 3, 1, 4)
        )
        scores = torch.matmul(split[0], split[1].transpose(-1, -2)) / (self.width // self.heads) ** 0.5
        mixed = torch.matmul(torch.softmax(scores, dim=-1), split[2])
        return self.out[layer](mixed.transpose(1, 2).reshape(batch, length, self.width))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places
        for layer in range(2):
            x = self.norm[2 * layer](x + self.attend(x, layer))
            x = self.norm[2 * layer + 1](x + self.down[layer](nn.functional.gelu(self.up[layer](x))))
        return self.head(torch.tanh(x[:, 0]))


class Recurrent(nn.Module):
    """Two LSTM layers, both ways, and a head on the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def network(name: str) -> tuple[nn.Module, Tensor]:
    """A seeded network in evaluation mode, batch statistics moved off their start, and an input of batch 2."""
    torch.manual_seed(0)
    if name == "resnet":
        net: nn.Module = ResidualNet()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.randn(8) * 0.1
                module.running_var = torch.rand(8) + 0.5
        return net.eval(), torch.randn(2, 3, 32, 32)
    if name == "bert":
        return TextEncoder().eval(), torch.randint(0, 30, (2, 7))
    return Recurrent().eval(), torch.randn(2, 5, 4)


def export(net: nn.Module, x: Tensor, exporter: str, opset: int) -> onnx.ModelProto:
    """The network as ONNX; skips what the exporter itself refuses."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            if exporter == "legacy":
                torch.onnx.export(
                    net, (x,), buffer, opset_version=opset, dynamo=False, input_names=["x"], output_names=["y"],
                    dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
                )  # fmt: skip
                return onnx.load_from_string(buffer.getvalue())
            batch = torch.export.Dim("n", min=1, max=64)
            program = torch.onnx.export(
                net, (x,), opset_version=opset, dynamo=True, input_names=["x"], output_names=["y"],
                dynamic_shapes=({0: batch},), verbose=False,
            )  # fmt: skip
            assert program is not None
            return program.model_proto
        except Exception as problem:
            if isinstance(problem, AssertionError):
                raise
            pytest.skip(f"the {exporter} exporter refuses opset {opset}: {str(problem).splitlines()[0][:100]}")
        finally:
            logging.disable(logging.NOTSET)


CASES = [
    pytest.param(name, exporter, opset, marks=() if (exporter, opset) in FAST else pytest.mark.slow)
    for name in ("resnet", "bert", "lstm")
    for exporter, opsets in (("legacy", LEGACY), ("dynamo", DYNAMO))
    for opset in opsets
]


@pytest.mark.parametrize(("name", "exporter", "opset"), CASES)
def test_every_opset_equals_onnxruntime(name: str, exporter: str, opset: int) -> None:
    net, x = network(name)
    proto = export(net, x, exporter, opset)
    declared = {entry.domain: entry.version for entry in proto.opset_import}[""]
    assert declared == opset
    model = analyzer.load(proto)
    feed: dict[str, Any] = {"x": x.numpy()}
    with torch.no_grad():
        expected = net(x).numpy()
    for batch in (feed, {"x": np.concatenate([feed["x"], feed["x"][:1]])}):
        traced, ran = model.predict(batch, backend="torch")["y"], model.predict(batch)["y"]
        assert traced.shape == ran.shape
        assert np.abs(traced - ran).max() <= 1e-4 * np.abs(ran).max()
    assert np.abs(ran[:2] - expected).max() <= 1e-4 * np.abs(expected).max()
    gradient = model.explain(feed, method="gradient", target=1).raw
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0
