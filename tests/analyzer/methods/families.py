"""Small torch networks of many families, and every export of one. Not here: explanations.

Each is written as networks of its family are, with the spelling that exporters take apart in different ways.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, ...]
#: Family -> a network and the shape of its input.
FAMILIES: dict[str, tuple[Callable[[], nn.Module], Shape]] = {}


def family(*shape: int) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Declare a network; its docstring's first word is no name: the class's is."""

    def declare(made: type[nn.Module]) -> type[nn.Module]:
        FAMILIES[made.__name__] = (made, shape)
        return made

    return declare


def head(x: Tensor, linear: nn.Module) -> Tensor:
    """Mean over the places, then a linear layer."""
    return cast(Tensor, linear(x.mean(tuple(range(2, x.ndim)))))


class GhostNorm(nn.Module):
    """Batch normalisation in virtual batches, as TabNet's."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.bn, self.size = nn.BatchNorm1d(width), size

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.bn(part) for part in x.chunk(math.ceil(x.shape[0] / self.size), 0)], 0)


def sparsemax(z: Tensor) -> Tensor:
    """Martins & Astudillo 2016."""
    z = z - z.max(-1, keepdim=True).values
    ordered = torch.sort(z, dim=-1, descending=True).values
    total = ordered.cumsum(-1) - 1
    support = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype) * ordered > total
    size = support.sum(-1, keepdim=True)
    return torch.clamp(z - total.gather(-1, size - 1) / size.to(z.dtype), min=0)


@family(3, 6)
class TabNet(nn.Module):
    """Sparse masks, gated units with ghost batch normalisation, residuals scaled by the root of a half."""

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.layers = nn.ModuleList([nn.Linear(6 if i == 0 else 4, 8, bias=False) for i in range(3)])
        self.norms = nn.ModuleList([GhostNorm(8, size) for _ in range(3)])
        self.choose, self.choose_norm = nn.Linear(2, 6, bias=False), GhostNorm(6, size)
        self.last = nn.Linear(2, 3, bias=False)

    def features(self, x: Tensor) -> Tensor:
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            z = norm(layer(x))
            gated = z[:, :4] * torch.sigmoid(z[:, 4:])
            x = gated if i == 0 else (x + gated) * math.sqrt(0.5)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        prior, out = torch.ones(x.shape), cast(Any, 0)
        att = self.features(x)[:, 2:]
        for _ in range(2):
            mask = sparsemax(self.choose_norm(self.choose(att)) * prior)
            prior = prior * (1.3 - mask)
            found = self.features(mask * x)
            out = out + torch.relu(found[:, :2] + 1)
            att = found[:, 2:]
        return cast(Tensor, self.last(out))


@family(3, 6)
class TabNetAtOnce(TabNet):
    """The same, the batch one part."""

    def __init__(self) -> None:
        super().__init__(128)


EDGES = torch.tensor([[0, 1, 2, 3, 4, 0, 2, 5, 5], [1, 2, 3, 4, 0, 2, 5, 1, 3]])


@family(2, 6, 4)
class GraphMatmul(nn.Module):
    """Graph convolution by a normalised adjacency matrix."""

    def __init__(self) -> None:
        super().__init__()
        a = torch.eye(6)
        a[EDGES[0], EDGES[1]] = 1
        self.register_buffer("a", a / a.sum(1, keepdim=True))
        self.one, self.two, self.last = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a @ self.one(x))
        x = torch.relu(torch.einsum("ij,bjf->bif", self.a, self.two(x)))
        return cast(Tensor, self.last(x.sum(1)))


@family(6, 4)
class GraphScatter(nn.Module):
    """Message passing over edges: gather, scatter-add, mean by degree, attention by a softmax over neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.own = nn.Linear(8, 5), nn.Linear(4, 5)
        self.score, self.last = nn.Linear(5, 1), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        src, dst = EDGES
        m = torch.relu(self.message(torch.cat([x[src], x[dst]], -1)))
        sums = torch.zeros(x.shape[0], 5).scatter_add(0, dst[:, None].expand_as(m), m)
        degree = torch.zeros(x.shape[0]).scatter_add(0, dst, torch.ones(dst.shape[0])).clamp(min=1)
        h = torch.relu(self.own(x) + sums / degree[:, None])
        e = F.leaky_relu(self.score(m), 0.2).exp()
        total = torch.zeros(x.shape[0], 1).scatter_add(0, dst[:, None], e)
        m = m * (e / (total[dst] + 1e-16))
        weighed = torch.zeros(x.shape[0], 5).scatter_add(0, dst[:, None].expand_as(m), m)
        return cast(Tensor, self.last(torch.cat([h, weighed], -1).sum(0, keepdim=True)))


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
        s = F.hardsigmoid(self.up(torch.relu(self.down(F.adaptive_avg_pool2d(y, 1)))))
        return head(F.hardswish(x + self.out(y * s)), self.last)


@family(2, 3, 12)
class GatedConv(nn.Module):
    """WaveNet's gate and the gated linear unit, dilated causal convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Conv1d(3, 8, 3, dilation=2), nn.Conv1d(4, 8, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.one(F.pad(x, (4, 0))).chunk(2, 1)
        x = torch.tanh(a) * torch.sigmoid(b)
        return head(F.glu(self.two(F.pad(x, (2, 0))), 1), self.last)


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
        a = F.scaled_dot_product_attention(self.rotated(q), self.rotated(k), v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(2, 5, 8))
        y = self.n2(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
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
        x = x + self.down(F.gelu(self.up(self.n2(x)), approximate="tanh"))
        return cast(Tensor, self.last(self.n3(x)[:, 0]))


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
        y = F.gelu(self.up(self.norm(self.depth(x).permute(0, 2, 3, 1))))
        size = y.norm(p=2, dim=(1, 2), keepdim=True)
        y = self.g * (y * (size / (size.mean(-1, keepdim=True) + 1e-6))) + self.b + y
        x = x + (self.scale * self.down(y)).permute(0, 3, 1, 2)
        u = x.mean(1, keepdim=True)  # channels first, written out
        x = (x - u) / torch.sqrt((x - u).pow(2).mean(1, keepdim=True) + 1e-6)
        return head(self.w[:, None, None] * x, self.last)


@family(2, 6)
class MaxOut(nn.Module):
    """The larger of several linear pieces, and of two values."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(6, 12), nn.Linear(4, 8), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x).reshape(-1, 4, 3).max(-1).values
        a, b = self.two(x).chunk(2, -1)
        return cast(Tensor, self.last(torch.maximum(a, b) - torch.minimum(a, torch.zeros_like(a))))


@family(2, 3, 6, 6)
class PixelShuffle(nn.Module):
    """Sub-pixel convolution, channel shuffle, pixel unshuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(2, 4, 3)
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(F.pixel_shuffle(self.one(x), 2))
        x = torch.relu(self.two(x))
        x = x.reshape(x.shape[0], 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        return head(F.pixel_unshuffle(x, 2), self.last)


@family(2, 6)
class Highway(nn.Module):
    """Highway layers and weight normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.h, self.t = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)), nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        t = torch.sigmoid(self.t(x))
        x = t * torch.relu(self.h(x)) + (1 - t) * x
        t = torch.sigmoid(self.t(x))
        return cast(Tensor, self.last(torch.lerp(x, torch.tanh(self.h(x)), t)))


@family(2, 6)
class Experts(nn.Module):
    """A mixture of experts under a softmax, dense and the best two."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)) for _ in range(3)])
        self.gate, self.second, self.last = nn.Linear(6, 3), nn.Linear(4, 3), nn.Linear(4, 3)
        self.w = nn.Parameter(torch.randn(3, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        each = torch.stack([e(x) for e in self.experts], 1)
        x = (self.gate(x).softmax(-1)[..., None] * each).sum(1)
        best, which = self.second(x).topk(2, -1)
        weight = best.softmax(-1)
        y = torch.einsum("bi,kio->bko", x, self.w)
        y = y.gather(1, which[..., None].expand(-1, -1, 4))
        return cast(Tensor, self.last((weight[..., None] * y).sum(1)))


class _Pooled(nn.Module):
    """Convolutions with ReLU, most of them off, then a maximum over the map: ties at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Linear(8, 3)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.two(torch.relu(self.one(x))) - 0.3)


@family(2, 3, 8, 8)
class MaxByAmax(_Pooled):
    """amax over the places."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(self.features(x).amax((2, 3))))


@family(2, 3, 8, 8)
class MaxByPool(_Pooled):
    """The same by a pool of the map's size."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(F.max_pool2d(self.features(x), 4).flatten(1)))


@family(2, 3, 8, 8)
class MaxByAdaptivePool(_Pooled):
    """The same by an adaptive pool."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(F.adaptive_max_pool2d(self.features(x), 1).flatten(1)))


@family(2, 3, 8, 8)
class MaxByMax(_Pooled):
    """The same over the flattened places."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(self.features(x).flatten(2).max(-1).values))


@family(2, 3, 8, 8)
class MaxByTopk(_Pooled):
    """The same as the largest one of a top-k."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(self.features(x).flatten(2).topk(1, -1).values[..., 0]))


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
        b = torch.relu(self.b(F.max_pool2d(a, 2)))
        wide = F.interpolate(b, scale_factor=2, mode="bilinear", align_corners=False)
        c = torch.relu(self.c(torch.cat([F.interpolate(b, scale_factor=2, mode="nearest"), a], 1)))
        return cast(Tensor, self.last(torch.cat([self.up(wide[..., ::2, ::2]), c], 1)).mean((2, 3)))


@family(2, 2, 6, 6, 6)
class Volumes(nn.Module):
    """Three-dimensional convolutions, normalisation and pools."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv3d(2, 4, 3, padding=1, bias=False), nn.BatchNorm3d(4)
        self.two, self.last = nn.Conv3d(4, 6, 2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool3d(torch.relu(self.norm(self.one(x))), 2)
        return head(F.avg_pool3d(torch.relu(self.two(x)), 2, 1), self.last)


@family(2, 3, 14)
class Words(nn.Module):
    """A text network: parallel convolutions, the maximum over time, a normalisation of features between."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(3, 4, k) for k in (2, 3, 4)])
        self.norm, self.last = nn.BatchNorm1d(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [F.max_pool1d(torch.relu(c(x)), x.shape[2] - c.kernel_size[0] + 1).squeeze(2) for c in self.convs]
        return cast(Tensor, self.last(torch.relu(self.norm(torch.cat(pooled, 1)))))


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
        x = F.avg_pool2d(F.leaky_relu(self.norms[-1](x), 0.1), 3, 2, 1)
        return head(F.adaptive_avg_pool2d(x, 2), self.last)


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


@family(2, 6)
class Functions(nn.Module):
    """Activations of every sort, each after a layer."""

    def __init__(self) -> None:
        super().__init__()
        sorts = [
            nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Softplus(), nn.ELU(), nn.SELU(), nn.CELU(), nn.PReLU(4),
            nn.LeakyReLU(), nn.ReLU6(), nn.Hardtanh(), nn.Hardsigmoid(), nn.Softsign(), nn.Tanhshrink(), nn.LogSigmoid(),
            nn.Hardshrink(0.2), nn.Softshrink(0.2), nn.Softmin(-1), nn.LogSoftmax(-1),
        ]  # fmt: skip
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(6, 4), sort) for sort in sorts])
        self.last = nn.Linear(4 * len(sorts), 3)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(torch.cat([layer(x) for layer in self.layers], -1)))


@family(2, 6)
class Distances(nn.Module):
    """Unit vectors, cosines, distances to prototypes, a radial basis, clipped logarithms."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.last = nn.Linear(6, 4), nn.Linear(9, 3)
        self.prototypes = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        cosine = F.linear(F.normalize(x), F.normalize(self.prototypes))
        square = ((x[:, None] - self.prototypes) ** 2).sum(-1)
        return cast(Tensor, self.last(torch.cat([10 * cosine, torch.exp(-square / 4), torch.log(square + 1)], -1)))


@family(2, 6)
class Crosses(nn.Module):
    """Factorisation machine, cross network, FiLM, a bilinear form."""

    def __init__(self) -> None:
        super().__init__()
        self.v, self.first, self.cross = nn.Parameter(torch.randn(6, 3)), nn.Linear(6, 1), nn.Linear(6, 6)
        self.film, self.deep, self.form = nn.Linear(6, 8), nn.Linear(6, 4), nn.Parameter(torch.randn(2, 4, 4))
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        machine = self.first(x) + 0.5 * ((x @ self.v) ** 2 - (x**2) @ self.v**2).sum(1, keepdim=True)
        x = x * self.cross(x) + x
        scale, shift = self.film(x).split(4, 1)
        y = (1 + scale) * torch.relu(self.deep(x)) + shift
        form = torch.einsum("bi,kij,bj->bk", y, self.form, torch.tanh(y))
        return cast(Tensor, self.last(torch.cat([machine, y, form, y.prod(1, keepdim=True)], 1)))


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


@family(2, 3, 6, 6)
class Odds(nn.Module):
    """Local response normalisation, Lp pools, reflection and replication padding, a standard deviation, a unit of capsules."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.local_response_norm(torch.relu(self.one(F.pad(x, (1, 1, 1, 1), "reflect"))), 3)
        x = F.lp_pool2d(self.two(F.pad(x, (1, 1, 1, 1), "replicate")), 2, 2)
        x = torch.where(x > 0.5, x, 0.1 * x)
        size = (x**2).sum(1, keepdim=True)
        x = size / (1 + size) * x / torch.sqrt(size + 1e-8)
        return cast(Tensor, self.last(torch.cat([x.mean((2, 3)), x.flatten(2).std(2)], 1)))


# --- exports --------------------------------------------------------------------------------------------------------

#: Name -> exporter, opset, whether constants are folded.
EXPORTS = {
    "legacy-13": (False, 13, True), "legacy-17": (False, 17, True), "legacy-17-unfolded": (False, 17, False),
    "legacy-20": (False, 20, True), "dynamo-18": (True, 18, True), "dynamo-18-unfolded": (True, 18, False),
    "dynamo-21": (True, 21, True), "dynamo-23": (True, 23, True),
}  # fmt: skip


def network(name: str) -> tuple[nn.Module, Tensor]:
    """A family's network in evaluation mode, with statistics that normalise, and an input."""
    make, shape = FAMILIES[name]
    torch.manual_seed(4)
    net = make().eval()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    return net, torch.randn(shape)


def exported(net: nn.Module, x: Tensor, how: str) -> bytes:
    """The network's file by one of :data:`EXPORTS`."""
    dynamo, opset, folded = EXPORTS[how]
    options: dict[str, Any] = {"optimize": folded} if dynamo else {"do_constant_folding": folded}
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), file, dynamo=dynamo, opset_version=opset, verbose=False, **options)
    return file.getvalue()
