"""One network with its maximum over places written in five ways. Not here: exporting them (``exports``)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.analyzer.methods.families.declared import family


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
        return cast(Tensor, self.last(functional.max_pool2d(self.features(x), 4).flatten(1)))


@family(2, 3, 8, 8)
class MaxByAdaptivePool(_Pooled):
    """The same by an adaptive pool."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(functional.adaptive_max_pool2d(self.features(x), 1).flatten(1)))


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
