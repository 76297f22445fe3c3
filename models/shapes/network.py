"""The network of the two shape classifiers: a small residual network with BatchNorm.

Belongs here: the architecture. Not here: data, training, export. The input is an RGB picture in [0, 1], NCHW; no
normalisation, the first BatchNorm learns it. The last feature map is 8x8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """relu(f(x) + skip(x)), f being two 3x3 convolutions with BatchNorm."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.skip = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) to (N, channels_out, H / stride, W / stride)."""
        hidden = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(hidden)) + self.skip(x))


class ShapesNet(nn.Module):
    """Logits of the class of the object: (N, 3, 64, 64) to (N, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2), Block(64, 64, 1))
        self.head = nn.Linear(64, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Pictures in [0, 1] to logits."""
        features = self.body(self.stem(image))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits
