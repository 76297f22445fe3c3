"""The networks of the digit models. Not here: data, training, export."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DigitsNet(nn.Module):
    """Logits of ten digits: (N, 1, 8, 8) in [0, 1] to (N, 10). A plain chain, every layer of it a textbook one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(256, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Pictures to logits."""
        logits: Tensor = self.layers(image)
        return logits


class Decoder(nn.Module):
    """Pictures of digits from codes: (N, code) to (N, 1, 8, 8) in [0, 1]."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.expand = nn.Linear(code, 128)
        self.plane = nn.Linear(128, 64 * 2 * 2)
        self.grow1 = nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1)
        self.grow2 = nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1)
        self.paint = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        """Codes, meant to be standard normal, to pictures."""
        plane = torch.relu(self.plane(torch.relu(self.expand(code)))).reshape(-1, 64, 2, 2)
        return torch.sigmoid(self.paint(torch.relu(self.grow2(torch.relu(self.grow1(plane))))))


class Encoder(nn.Module):
    """Mean and log variance of the code of a picture: (N, 1, 8, 8) to two of (N, code)."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 2 * code)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures to the parameters of their normal distributions."""
        mean, log_variance = self.layers(image).chunk(2, dim=1)
        return mean, log_variance
