"""Composites against zennit, live: equal parameters give equal relevance.

zennit finds its rules by module: additions are wrapped in its ``Sum``. Networks have no batch normalisation, which
zennit 0.5.1 merges inexactly. Compared in float64, so that what is left is the formulas' difference and not rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analyzer.model import Model
from tests.graph_rules.nets import ResNetLike, VGGLike, exported, pictures, seeded
from tests.graph_rules.peers import peer

NETS: dict[str, type[nn.Module]] = {"vgg-like": VGGLike, "resnet-like": ResNetLike}
BOX = {"low": -2.0, "high": 2.0}
#: our method and parameters, zennit's composite
PAIRS: dict[str, tuple[str, dict[str, Any], Callable[[ModuleType], Any]]] = {
    "EpsilonPlus": ("lrp", {"composite": "epsilon-plus"}, lambda c: c.EpsilonPlus()),
    "EpsilonPlus-0.1": ("lrp", {"composite": "epsilon-plus", "epsilon": 0.1}, lambda c: c.EpsilonPlus(epsilon=0.1)),
    "EpsilonPlus-zero-bias": (
        "lrp", {"composite": "epsilon-plus", "zero_bias": True}, lambda c: c.EpsilonPlus(zero_params="bias"),
    ),
    "EpsilonPlusFlat": ("lrp", {"composite": "epsilon-plus-flat"}, lambda c: c.EpsilonPlusFlat()),
    "EpsilonAlpha2Beta1": ("lrp", {"composite": "epsilon-alpha2-beta1"}, lambda c: c.EpsilonAlpha2Beta1()),
    "EpsilonAlpha2Beta1Flat": ("lrp", {"composite": "epsilon-alpha2-beta1-flat"}, lambda c: c.EpsilonAlpha2Beta1Flat()),
    "EpsilonGammaBox": ("lrp", {"composite": "epsilon-gamma-box", **BOX}, lambda c: c.EpsilonGammaBox(**BOX)),
    "EpsilonGammaBox-1": (
        "lrp", {"composite": "epsilon-gamma-box", "gamma": 1.0, **BOX}, lambda c: c.EpsilonGammaBox(**BOX, gamma=1.0),
    ),
    "ExcitationBackprop": ("lrp", {"composite": "excitation-backprop"}, lambda c: c.ExcitationBackprop()),
    "GuidedBackprop": ("guided-backprop", {}, lambda c: c.GuidedBackprop()),
    "DeconvNet": ("deconvnet", {}, lambda c: c.DeconvNet()),
}  # fmt: skip


class WithSum(nn.Module):
    """An addition as zennit wants it."""

    def __init__(self, summing: nn.Module) -> None:
        super().__init__()
        self.summing = summing

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.summing(torch.stack([x, y], -1))
        return out


@pytest.fixture(scope="module", params=NETS)
def pair(request: pytest.FixtureRequest) -> tuple[Model, nn.Module, np.ndarray]:
    layers = peer("zennit.layer")
    x = pictures(2, 3, 12, 12, seed=5)
    net = seeded(NETS[request.param])
    model = exported(net, x)
    for module in list(net.modules()):
        if hasattr(module, "add"):
            module.add = WithSum(layers.Sum())
    return model, net.double(), x


@pytest.mark.parametrize("name", PAIRS)
def test_composites(pair: tuple[Model, nn.Module, np.ndarray], name: str) -> None:
    model, net, x = pair
    method, params, make = PAIRS[name]
    attribution = peer("zennit.attribution")
    targets = [3, 1]
    if method == "lrp":
        params = {**params, "initial": "one"}
    ours = model.explain(x, method=method, target=targets, precision="float64", **params).attribution
    with attribution.Gradient(net, make(peer("zennit.composites"))) as attributor:
        _, theirs = attributor(torch.from_numpy(x).double(), torch.eye(5, dtype=torch.float64)[targets])
    expected = theirs.numpy()
    assert np.abs(expected).max() > 1e-6
    np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())
