"""Small torch networks and their ONNX files in memory. Not here: explanations."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from analyzer import load
from analyzer.model import Model


class VGGLike(nn.Module):
    """Convolutions, max pooling, a flattened head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(8 * 3 * 3, 16), nn.ReLU(), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


class Addition(nn.Module):
    """Sum of two values; zennit gives a rule to modules only."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Block(nn.Module):
    """Residual block without normalisation."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1)
        self.short = nn.Conv2d(before, after, 1, stride) if stride > 1 or before != after else nn.Identity()
        self.add: nn.Module = Addition()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu2(self.add(self.conv2(self.relu1(self.conv1(x))), self.short(x)))
        return out


class ResNetLike(nn.Module):
    """Residual blocks, global average pooling, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.blocks = nn.Sequential(Block(6, 6), Block(6, 8, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.pool(self.blocks(self.relu(self.stem(x)))).flatten(1))
        return out


class SqueezeNetLike(nn.Module):
    """Parallel convolutions put side by side; the class maps are averaged at the very end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2)
        self.squeeze = nn.Conv2d(6, 3, 1)
        self.one, self.three = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(8, 5, 1)
        self.relus = nn.ModuleList([nn.ReLU() for _ in range(5)])

    def forward(self, x: Tensor) -> Tensor:
        stem, squeeze, one, three, last = self.relus
        x = squeeze(self.squeeze(torch.max_pool2d(stem(self.stem(x)), 2)))
        x = torch.cat([one(self.one(x)), three(self.three(x))], 1)
        out: Tensor = last(self.last(x)).mean((2, 3))
        return out


class SeriesNet(nn.Module):
    """One-dimensional convolutions, global average pooling, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv1d(2, 5, 3), nn.Conv1d(5, 6, 3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(torch.relu(self.conv2(torch.relu(self.conv1(x)))).mean(2))
        return out


def seeded(make: type[nn.Module], seed: int = 0) -> nn.Module:
    """A network with weights that are always the same."""
    torch.manual_seed(seed)
    return make().eval()


def outputs_of(net: nn.Module, x: np.ndarray) -> list[str]:
    """A name for every output."""
    with torch.no_grad():
        out = net(torch.from_numpy(x))
    return ["y"] if isinstance(out, Tensor) else [f"y{i}" for i in range(len(out))]


def exported(net: nn.Module, x: np.ndarray, dynamic: bool = True) -> Model:
    """The network through an ONNX file."""
    return load(file_of(net, x, dynamic), device="cpu")


def file_of(net: nn.Module, x: np.ndarray, dynamic: bool = True, training: bool = False) -> bytes:
    """The network's ONNX file; ``training`` keeps normalisation as nodes of its own (the network stays as it is)."""
    buffer = io.BytesIO()
    outputs = outputs_of(net, x)
    axes = {name: {0: "batch"} for name in ["x", *outputs]} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.from_numpy(x),), buffer, input_names=["x"], output_names=outputs, dynamic_axes=axes,
            opset_version=17, dynamo=False, do_constant_folding=not training,
            training=torch.onnx.TrainingMode.PRESERVE if training else torch.onnx.TrainingMode.EVAL,
        )  # fmt: skip
    return buffer.getvalue()


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    """Inputs between -2 and 2, always the same."""
    return np.random.default_rng(seed).uniform(-2, 2, shape).astype(np.float32)
