"""Composites against zennit, live: equal parameters give equal relevance.

Whichever version is installed is held against; 0.5.1 and 1.0.0 were run. What this file uses of zennit is the same in both:
the composites and their parameters, ``Sum``, ``Gradient`` as a context, ``SequentialMergeBatchNorm``. They differ in merging
batch normalisation: 0.5.1 leaves its epsilon in, which moves outputs by about 1e-5.

zennit finds its rules by module: additions are wrapped in its ``Sum``. Compared in float64, so that what is left is the
formulas' difference and not rounding.
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
from tests.graph_rules.nets import Addition, ResNetLike, VGGLike, exported, pictures, seeded
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


class Normalised(nn.Module):
    """Batch normalisation after each convolution."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
        self.features, self.fc = nn.Sequential(*layers), nn.Linear(8 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.features(x).flatten(1))
        return out


@pytest.mark.parametrize("name", ["EpsilonPlus", "EpsilonAlpha2Beta1", "EpsilonGammaBox"])
def test_batch_normalisation_is_merged_alike(name: str) -> None:
    attribution, composites = peer("zennit.attribution"), peer("zennit.composites")
    merge = peer("zennit.canonizers").SequentialMergeBatchNorm
    x, targets = pictures(2, 3, 12, 12, seed=5), [3, 1]
    net = seeded(Normalised)
    for norm in (net.features[1], net.features[4]):
        norm.running_mean.normal_(generator=torch.Generator().manual_seed(1))
        norm.running_var.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(2))
    _, params, _ = PAIRS[name]
    model = exported(net, x)
    net, given = net.double(), torch.from_numpy(x).double()
    ours = model.explain(x, method="lrp", target=targets, precision="float64", initial="one", **params).attribution
    expected_output = net(given).detach()
    composite = getattr(composites, name)(canonizers=[merge()], **(BOX if name == "EpsilonGammaBox" else {}))
    with attribution.Gradient(net, composite) as attributor:
        output, theirs = attributor(given, torch.eye(5, dtype=torch.float64)[targets])
    exact = torch.allclose(output, expected_output, rtol=1e-9, atol=1e-9)
    expected = theirs.numpy()
    # the exporter folds in float32
    rtol = 1e-4 if exact else 1e-2
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def block(before: int, after: int, act: type[nn.Module], norm: bool = False) -> list[nn.Module]:
    """A convolution with what follows it."""
    conv = nn.Conv2d(before, after, 3, padding=1, bias=not norm)
    return [conv, *([nn.BatchNorm2d(after)] if norm else []), act()]


def ended(*layers: nn.Module, width: int = 6) -> nn.Sequential:
    """Layers, the mean over the places, a linear layer."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


class Residual(nn.Module):
    """Hard-swish, a skip connection, ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Sequential(*block(3, 6, nn.Hardswish)), nn.Conv2d(6, 6, 3, padding=1)
        self.add: nn.Module = Addition()
        self.rest = ended(nn.ReLU6())

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out: Tensor = self.rest(self.add(self.conv(x), x))
        return out


class Product(nn.Module):
    """A signal times its gate."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * gate


class SignalProduct(torch.autograd.Function):
    """The rule for gates, written out: the signal takes all (Arras et al. 2017). zennit has none for products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor) -> Tensor:
        """The product."""
        ctx.save_for_backward(gate)
        return x * gate

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """R to the signal."""
        return grads[0], torch.zeros_like(ctx.saved_tensors[0])


class Gate(nn.Module):
    """A product under :class:`SignalProduct`'s rule."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        out: Tensor = SignalProduct.apply(x, gate)
        return out


class SqueezeExcite(nn.Module):
    """A squeeze-and-excite block between convolutions."""

    def __init__(self, gate: type[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(*block(3, 6, nn.Hardswish))
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 3, 1), nn.ReLU(), nn.Conv2d(3, 6, 1), gate()
        )  # fmt: skip
        self.product: nn.Module = Product()
        self.rest = ended(*block(6, 6, nn.ReLU))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out: Tensor = self.rest(self.product(x, self.gate(x)))
        return out


OTHERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "hard-swish": (lambda: ended(*block(3, 6, nn.Hardswish), *block(6, 6, nn.Hardswish)), (12, 12)),
    "smooth": (lambda: ended(*block(3, 6, nn.SiLU), *block(6, 6, nn.GELU), *block(6, 6, nn.ELU)), (12, 12)),
    "saturating": (lambda: ended(*block(3, 6, nn.Sigmoid), *block(6, 6, nn.Tanh), *block(6, 6, nn.Softplus)), (12, 12)),
    "transposed": (
        lambda: ended(nn.ConvTranspose2d(3, 6, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, 2), nn.ReLU(),
                      *block(4, 6, nn.LeakyReLU)),
        (4, 4),
    ),
    "average-pool": (
        lambda: ended(*block(3, 6, nn.ReLU), nn.AvgPool2d(2), *block(6, 6, nn.ReLU), nn.AvgPool2d(3, 2, 1)), (12, 12),
    ),
    "max-pool": (
        lambda: ended(*block(3, 6, nn.ReLU), nn.MaxPool2d(3, 2, 1), *block(6, 6, nn.LeakyReLU), nn.MaxPool2d(2)), (12, 12),
    ),
    "global-max-pool": (
        lambda: nn.Sequential(*block(3, 6, nn.ReLU), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 5)), (12, 12),
    ),
    "normalised": (lambda: ended(*block(3, 6, nn.ReLU6, True), *block(6, 6, nn.Hardswish, True)), (12, 12)),
    "unmerged": (lambda: ended(*block(3, 6, nn.ReLU), nn.BatchNorm2d(6), *block(6, 6, nn.ReLU)), (12, 12)),
    "resampled": (
        lambda: ended(*block(3, 6, nn.ReLU), nn.Dropout(), nn.Upsample(scale_factor=2), *block(6, 6, nn.ReLU)), (12, 12),
    ),
    "residual": (Residual, (12, 12)),
    "no-convolution": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(432, 8), nn.BatchNorm1d(8), nn.Hardswish(), nn.Linear(8, 5)), (12, 12),
    ),
    "squeeze-excite": (lambda: SqueezeExcite(nn.Sigmoid), (12, 12)),
    "squeeze-excite-hard": (lambda: SqueezeExcite(nn.Hardsigmoid), (12, 12)),
}  # fmt: skip


@pytest.fixture(scope="module", params=OTHERS)
def other(request: pytest.FixtureRequest) -> tuple[Model, nn.Module, np.ndarray]:
    layers = peer("zennit.layer")
    make, sizes = OTHERS[request.param]
    net = seeded(make)
    for seed, module in enumerate(net.modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            made = torch.Generator().manual_seed(seed)
            module.running_mean.normal_(0, 0.3, generator=made)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2.0, generator=made)  # type: ignore[union-attr]
    x = pictures(2, 3, *sizes, seed=5).clip(-2, 2)
    model, net = exported(net, x), net.double()
    for module in list(net.modules()):
        if hasattr(module, "add"):
            module.add = WithSum(layers.Sum())
    return model, net, x


@pytest.mark.parametrize("name", PAIRS)
def test_composites_on_layers_of_every_sort(other: tuple[Model, nn.Module, np.ndarray], name: str) -> None:
    model, net, x = other
    method, params, make = PAIRS[name]
    if hasattr(net, "product"):
        net.product = Gate() if method == "lrp" else Product()
    attribution, composites = peer("zennit.attribution"), peer("zennit.composites")
    merges = any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in net.modules())
    params = {**params, "initial": "one"} if method == "lrp" else params
    targets = [3, 1]
    ours = model.explain(x, method=method, target=targets, precision="float64", **params).attribution
    composite = make(composites)
    composite.canonizers = [peer("zennit.canonizers").SequentialMergeBatchNorm()] if merges else []
    with attribution.Gradient(net, composite) as attributor:
        _, theirs = attributor(torch.from_numpy(x).double(), torch.eye(5, dtype=torch.float64)[targets])
    expected = theirs.numpy()
    assert np.abs(expected).max() > 1e-6
    # the exporter folds in float32, and zennit 0.5.1 leaves the normalisation's epsilon in
    close = 1e-4 if merges else 1e-8
    np.testing.assert_allclose(ours, expected, rtol=0, atol=close * np.abs(expected).max())
