"""The networks that benchmarks run: the shapes of well-known ones with seeded random weights, exported to ONNX.

Random weights are good for cost and equality and say nothing about map quality.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn


class Add(nn.Module):
    """The sum at the end of a residual block, as a module that others can replace."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Bottleneck(nn.Module):
    """The residual block of ResNet-50."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width),
        )  # fmt: skip
        self.add, self.relu = Add(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != 4 * width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.add(self.layers(x), self.shortcut(x)))


class Basic(nn.Module):
    """The residual block of ResNet-18."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.add, self.relu = Add(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.add(self.layers(x), self.shortcut(x)))


def _stem() -> list[nn.Module]:
    return [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]


def _head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)]


def resnet50() -> nn.Module:
    """ResNet-50's shape: 25.6 million parameters."""
    blocks: list[nn.Module] = []
    channels = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(count):
            blocks.append(Bottleneck(channels, width, stride if index == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*_stem(), *blocks, *_head(2048))


def resnet18() -> nn.Module:
    """ResNet-18's shape: 11.7 million parameters."""
    blocks: list[nn.Module] = []
    channels = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for index in range(2):
            blocks.append(Basic(channels, width, stride if index == 0 else 1))
            channels = width
    return nn.Sequential(*_stem(), *blocks, *_head(512))


def vgg16() -> nn.Module:
    """VGG-16's shape: 138 million parameters."""
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(512 * 49, 4096),
        nn.ReLU(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, 1000),
    )


class Inverted(nn.Module):
    """The inverted residual block of MobileNetV2."""

    def __init__(self, channels: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = channels * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
        layers += [nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
        layers += [nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.layers, self.add, self.skip = nn.Sequential(*layers), Add(), stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.layers(x)) if self.skip else self.layers(x)


def mobilenet_v2() -> nn.Module:
    """MobileNetV2's shape: 3.5 million parameters."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    channels = 32
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, out, count, stride in plan:
        for index in range(count):
            layers.append(Inverted(channels, out, stride if index == 0 else 1, expand))
            channels = out
    layers += [nn.Conv2d(channels, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
    return nn.Sequential(*layers, *_head(1280))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": resnet50,
    "resnet18": resnet18,
    "vgg16": vgg16,
    "mobilenet_v2": mobilenet_v2,
}


def seeded(name: str) -> nn.Module:
    """A network in evaluation mode whose batch statistics fit its activations, so that nothing explodes or dies."""
    torch.manual_seed(0)
    net = NETWORKS[name]()
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        net.train()
        with torch.no_grad():
            net(torch.randn(4, 3, 224, 224))
    return net.eval()


def folded(net: nn.Module) -> nn.Module:
    """The network with batch normalisation folded into the convolutions before it, in place."""
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                layer, norm = module[index], module[index + 1]
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[index] = torch.nn.utils.fusion.fuse_conv_bn_eval(layer, norm)
                    module[index + 1] = nn.Identity()
    return net


def export(name: str, folder: Path, opset: int = 17, *, fold: bool = True) -> tuple[Path, nn.Module]:
    """A network as an ONNX file by the older exporter, made once per folder, and as a module with the same numbers.

    ``fold`` folds batch normalisation into the convolutions first.
    """
    path = folder / f"{name}_op{opset}{'' if fold else '_bn'}.onnx"
    net = folded(seeded(name)) if fold else seeded(name)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            torch.onnx.export(
                net, (torch.zeros(1, 3, 224, 224),), str(path), opset_version=opset, dynamo=False,
                input_names=["image"], output_names=["logits"], do_constant_folding=fold,
                dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
                training=torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE,
            )  # fmt: skip
    return path, net
