"""Networks on pictures and volumes. Not here: exporting them (``exports``)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.analyzer.methods.families.declared import family, head


@family(2, 3, 8, 8)
class SqueezeExcite(nn.Module):
    """MobileNetV3's block: depthwise convolution, squeeze-and-excite by hard sigmoid, hard-swish."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.Hardswish())
        self.depth = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU6())
        self.down, self.up = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)
        self.out = nn.Sequential(nn.Conv2d(6, 6, 1, bias=False), nn.BatchNorm2d(6))
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depth(x)
        s = functional.hardsigmoid(self.up(torch.relu(self.down(functional.adaptive_avg_pool2d(y, 1)))))
        return head(functional.hardswish(x + self.out(y * s)), self.last)


@family(2, 5, 2, 2)
class Generator(nn.Module):
    """Transposed convolutions with batch normalisation, overlapping and in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.ConvTranspose2d(5, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
            nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1, groups=2), nn.LeakyReLU(0.2), nn.Conv2d(4, 3, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.net(x)).mean((2, 3))


@family(2, 4, 6, 6)
class GroupNorms(nn.Module):
    """Group and instance normalisation, with and without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(4, 6, 3), nn.GroupNorm(3, 6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1),
            nn.InstanceNorm2d(6, affine=True), nn.SiLU(), nn.Conv2d(6, 6, 1), nn.InstanceNorm2d(6), nn.ELU(),
        )  # fmt: skip
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return head(self.net(x), self.last)


@family(2, 4, 6, 6)
class ConvNext(nn.Module):
    """Depthwise convolution, normalisation over channels last, layer scale, response normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.depth, self.norm = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.LayerNorm(4, eps=1e-6)
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)
        self.scale, self.g, self.b = (nn.Parameter(torch.rand(n) + 0.5) for n in (4, 8, 8))
        self.w, self.last = nn.Parameter(torch.rand(4)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.gelu(self.up(self.norm(self.depth(x).permute(0, 2, 3, 1))))
        size = y.norm(p=2, dim=(1, 2), keepdim=True)
        y = self.g * (y * (size / (size.mean(-1, keepdim=True) + 1e-6))) + self.b + y
        x = x + (self.scale * self.down(y)).permute(0, 3, 1, 2)
        u = x.mean(1, keepdim=True)  # channels first, written out
        x = (x - u) / torch.sqrt((x - u).pow(2).mean(1, keepdim=True) + 1e-6)
        return head(self.w[:, None, None] * x, self.last)


@family(2, 3, 6, 6)
class PixelShuffle(nn.Module):
    """Sub-pixel convolution, channel shuffle, pixel unshuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(2, 4, 3)
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(functional.pixel_shuffle(self.one(x), 2))
        x = torch.relu(self.two(x))
        x = x.reshape(x.shape[0], 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        return head(functional.pixel_unshuffle(x, 2), self.last)


@family(2, 3, 8, 8)
class UNet(nn.Module):
    """Down, up by resampling, skips by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.c, self.up = nn.Conv2d(10, 4, 3, padding=1), nn.ConvTranspose2d(6, 4, 2, 2)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.a(x))
        b = torch.relu(self.b(functional.max_pool2d(a, 2)))
        wide = functional.interpolate(b, scale_factor=2, mode="bilinear", align_corners=False)
        c = torch.relu(self.c(torch.cat([functional.interpolate(b, scale_factor=2, mode="nearest"), a], 1)))
        return cast(Tensor, self.last(torch.cat([self.up(wide[..., ::2, ::2]), c], 1)).mean((2, 3)))


@family(2, 2, 6, 6, 6)
class Volumes(nn.Module):
    """Three-dimensional convolutions, normalisation and pools."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv3d(2, 4, 3, padding=1, bias=False), nn.BatchNorm3d(4)
        self.two, self.last = nn.Conv3d(4, 6, 2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool3d(torch.relu(self.norm(self.one(x))), 2)
        return head(functional.avg_pool3d(torch.relu(self.two(x)), 2, 1), self.last)


@family(2, 3, 8, 8)
class Dense(nn.Module):
    """Normalisation before the layer, dense connections, average pools with padding, a pool by strides."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(n) for n in (3, 7, 11)])
        self.convs = nn.ModuleList([nn.Conv2d(n, 4, 3, padding=1, bias=False) for n in (3, 7)])
        self.last = nn.Linear(11, 3)

    def forward(self, x: Tensor) -> Tensor:
        for norm, conv in zip(self.norms, self.convs, strict=False):
            x = torch.cat([x, conv(torch.relu(norm(x)))], 1)
        x = functional.avg_pool2d(functional.leaky_relu(self.norms[-1](x), 0.1), 3, 2, 1)
        return head(functional.adaptive_avg_pool2d(x, 2), self.last)


@family(2, 3, 8, 8)
class Attentions(nn.Module):
    """CBAM's two attentions, an ECA layer, a non-local block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mlp = nn.Conv2d(3, 6, 3), nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 6))
        self.place, self.eca = nn.Conv2d(2, 1, 3, padding=1), nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.q, self.k, self.v, self.last = nn.Conv2d(6, 2, 1), nn.Conv2d(6, 2, 1), nn.Conv2d(6, 6, 1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        x = x * torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))[:, :, None, None]
        x = x * torch.sigmoid(self.place(torch.cat([x.mean(1, True), x.max(1, True).values], 1)))
        x = x * torch.sigmoid(self.eca(x.mean((2, 3))[:, None]))[:, 0, :, None, None]
        q, k, v = (f(x).flatten(2) for f in (self.q, self.k, self.v))
        y = v @ torch.softmax(q.transpose(1, 2) @ k, -1).transpose(1, 2)
        return head(x + y.reshape(x.shape), self.last)


@family(2, 3, 6, 6)
class Odds(nn.Module):
    """Local response normalisation, Lp pools, reflection and replication padding, a standard deviation, a unit of capsules."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.local_response_norm(torch.relu(self.one(functional.pad(x, (1, 1, 1, 1), "reflect"))), 3)
        x = functional.lp_pool2d(self.two(functional.pad(x, (1, 1, 1, 1), "replicate")), 2, 2)
        x = torch.where(x > 0.5, x, 0.1 * x)
        size = (x**2).sum(1, keepdim=True)
        x = size / (1 + size) * x / torch.sqrt(size + 1e-8)
        return cast(Tensor, self.last(torch.cat([x.mean((2, 3)), x.flatten(2).std(2)], 1)))
