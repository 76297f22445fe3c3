"""Networks on series, words and tokens. Not here: exporting them (``exports``)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.analyzer.methods.families.declared import family, head


@family(2, 3, 12)
class GatedConv(nn.Module):
    """WaveNet's gate and the gated linear unit, dilated causal convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Conv1d(3, 8, 3, dilation=2), nn.Conv1d(4, 8, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.one(functional.pad(x, (4, 0))).chunk(2, 1)
        x = torch.tanh(a) * torch.sigmoid(b)
        return head(functional.glu(self.two(functional.pad(x, (2, 0))), 1), self.last)


@family(2, 5, 4)
class Lstm(nn.Module):
    """A recurrent layer in both directions, its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.LSTM(4, 3, batch_first=True, bidirectional=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(self.cell(x)[0][:, -1]))


@family(2, 5, 4)
class Gru(nn.Module):
    """Two recurrent layers, the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.GRU(4, 3, num_layers=2, batch_first=True), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(self.cell(x)[0].mean(1)))


@family(2, 3, 5)
class LstmByHand(nn.Module):
    """A cell written out, its gates cut from one product."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h, self.last = nn.Linear(5, 16), nn.Linear(4, 16, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.shape[0], 4)
        for t in range(3):
            i, f, g, o = (self.x(x[:, t]) + self.h(h)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return cast(Tensor, self.last(h))


class RmsNorm(nn.Module):
    """LLaMA's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


@family(2, 5, 8)
class Llama(nn.Module):
    """Root mean square normalisation, rotary positions, fused attention, a gated feed-forward block."""

    def __init__(self) -> None:
        super().__init__()
        self.n1, self.n2, self.n3 = RmsNorm(8), RmsNorm(8), RmsNorm(8)
        self.qkv, self.out = nn.Linear(8, 24, bias=False), nn.Linear(8, 8, bias=False)
        self.gate, self.up, self.down = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)
        self.last = nn.Linear(8, 3)
        angle = torch.arange(5)[:, None] * torch.tensor([1.0, 0.1])
        self.register_buffer("cos", torch.cat([angle, angle], -1).cos())
        self.register_buffer("sin", torch.cat([angle, angle], -1).sin())

    def rotated(self, x: Tensor) -> Tensor:
        a, b = x[..., :2], x[..., 2:]
        return x * self.cos + torch.cat([-b, a], -1) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.reshape(2, 5, 2, 4).transpose(1, 2) for t in self.qkv(self.n1(x)).chunk(3, -1))
        a = functional.scaled_dot_product_attention(self.rotated(q), self.rotated(k), v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(2, 5, 8))
        y = self.n2(x)
        x = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return cast(Tensor, self.last(self.n3(x)[:, -1]))


@family(2, 5, 8)
class TorchEncoder(nn.Module):
    """torch's own encoder layer: MultiheadAttention, GELU, normalisation afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, activation="gelu", batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(self.layer(x).mean(1)))


@family(2, 3, 8, 8)
class Vit(nn.Module):
    """Patches, a class token, attention written out with einsum, a masked softmax, tanh GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.places = nn.Parameter(torch.randn(1, 5, 8))
        self.n1, self.n2, self.n3 = nn.LayerNorm(8), nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down, self.last = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        q, k, v = self.qkv(self.n1(x)).reshape(x.shape[0], 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        s = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(4)
        s = s.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf"))
        y = torch.einsum("bhij,bhjd->bhid", s.softmax(-1), v)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        x = x + self.down(functional.gelu(self.up(self.n2(x)), approximate="tanh"))
        return cast(Tensor, self.last(self.n3(x)[:, 0]))


@family(2, 3, 14)
class Words(nn.Module):
    """A text network: parallel convolutions, the maximum over time, a normalisation of features between."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(3, 4, k) for k in (2, 3, 4)])
        self.norm, self.last = nn.BatchNorm1d(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [
            functional.max_pool1d(torch.relu(c(x)), x.shape[2] - c.kernel_size[0] + 1).squeeze(2) for c in self.convs
        ]
        return cast(Tensor, self.last(torch.relu(self.norm(torch.cat(pooled, 1)))))


@family(2, 4, 8, 8)
class Windows(nn.Module):
    """Shifted windows with a relative bias, patch merging by strides."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(4), nn.Linear(4, 12), nn.Linear(4, 4)
        self.bias, self.merge, self.last = nn.Parameter(torch.randn(2, 4, 4)), nn.Linear(16, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        x = x.permute(0, 2, 3, 1)
        y = torch.roll(self.norm(x), (-1, -1), (1, 2)).reshape(n, 4, 2, 4, 2, 4).transpose(2, 3).reshape(-1, 4, 4)
        q, k, v = self.qkv(y).reshape(-1, 4, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q * 2**-0.5) @ k.transpose(-2, -1) + self.bias).softmax(-1) @ v
        y = self.out(y.transpose(1, 2).reshape(-1, 4, 4)).reshape(n, 4, 4, 2, 2, 4).transpose(2, 3).reshape(x.shape)
        x = x + torch.roll(y, (1, 1), (1, 2))
        x = torch.cat([x[:, i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))], -1)
        return cast(Tensor, self.last(self.merge(x).mean((1, 2))))
