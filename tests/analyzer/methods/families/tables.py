"""Networks on columns, vectors and graphs. Not here: exporting them (``exports``)."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.analyzer.methods.families.declared import family


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


@family(1, 6, 4)
class GraphScatter(nn.Module):
    """Message passing over edges: gather, scatter-add, mean by degree, attention by a softmax over neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.own = nn.Linear(8, 5), nn.Linear(4, 5)
        self.score, self.last = nn.Linear(5, 1), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x[0]  # one graph of six nodes
        src, dst = EDGES
        m = torch.relu(self.message(torch.cat([x[src], x[dst]], -1)))
        sums = torch.zeros(x.shape[0], 5).scatter_add(0, dst[:, None].expand_as(m), m)
        degree = torch.zeros(x.shape[0]).scatter_add(0, dst, torch.ones(dst.shape[0])).clamp(min=1)
        h = torch.relu(self.own(x) + sums / degree[:, None])
        e = functional.leaky_relu(self.score(m), 0.2).exp()
        total = torch.zeros(x.shape[0], 1).scatter_add(0, dst[:, None], e)
        m = m * (e / (total[dst] + 1e-16))
        weighed = torch.zeros(x.shape[0], 5).scatter_add(0, dst[:, None].expand_as(m), m)
        return cast(Tensor, self.last(torch.cat([h, weighed], -1).sum(0, keepdim=True)))


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
        cosine = functional.linear(functional.normalize(x), functional.normalize(self.prototypes))
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
