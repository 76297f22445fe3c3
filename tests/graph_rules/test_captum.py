"""Gradient methods and Grad-CAM against captum, live; SmoothGrad against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analyzer.model import Model
from tests.graph_rules.nets import ResNetLike, SqueezeNetLike, VGGLike, exported, pictures, seeded
from tests.graph_rules.peers import peer

NETS: dict[str, type[nn.Module]] = {"vgg-like": VGGLike, "resnet-like": ResNetLike, "squeezenet-like": SqueezeNetLike}
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks", "ignore:Input Tensor 0 did not already")
TARGETS = [3, 1]
Pair = tuple[Model, nn.Module, np.ndarray]
RULES = ["gausslegendre", "riemann_trapezoid", "riemann_middle", "riemann_left", "riemann_right"]


@pytest.fixture(scope="module", params=NETS)
def pair(request: pytest.FixtureRequest) -> Pair:
    x = pictures(2, 3, 12, 12, seed=5)
    net = seeded(NETS[request.param], seed=1)
    return exported(net, x), net.double(), x


def attributed(pair: Pair, peer_class: str, **params: object) -> np.ndarray:
    """captum's attribution."""
    _, net, x = pair
    method = getattr(peer("captum.attr"), peer_class)(net)
    return np.asarray(method.attribute(torch.from_numpy(x).double(), target=TARGETS, **params).detach().numpy())


def close(ours: np.ndarray, theirs: np.ndarray, relative: float = 1e-9) -> None:
    largest = np.abs(theirs).max()
    assert largest > 1e-12
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * largest)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("saliency", "Saliency"), ("gradient-x-input", "InputXGradient"), ("guided-backprop", "GuidedBackprop"),
     ("deconvnet", "Deconvolution")],
)  # fmt: skip
def test_gradient_methods(pair: Pair, ours: str, theirs: str) -> None:
    model, _, x = pair
    found = model.explain(x, method=ours, target=TARGETS, precision="float64").attribution
    close(found, attributed(pair, theirs))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 21])
def test_integrated_gradients(pair: Pair, rule: str, steps: int) -> None:
    """Points on the path are rounded to float32 as the input is, so a ReLU may switch a rounding earlier or later."""
    model, _, x = pair
    found = model.explain(
        x, method="integrated-gradients", target=TARGETS, precision="float64", rule=rule, steps=steps, baseline=0.25
    )
    theirs = attributed(pair, "IntegratedGradients", method=rule, n_steps=steps, baselines=0.25)
    close(found.attribution, theirs, 1e-6)


def test_integrated_gradients_without_the_difference(pair: Pair) -> None:
    model, net, x = pair
    found = model.explain(
        x, method="integrated-gradients", target=TARGETS, precision="float64", multiply_by_inputs=False, steps=8
    ).attribution
    method = peer("captum.attr").IntegratedGradients(net, multiply_by_inputs=False)
    close(found, method.attribute(torch.from_numpy(x).double(), target=TARGETS, n_steps=8).numpy(), 1e-6)


def test_integrated_gradients_are_complete(pair: Pair) -> None:
    model, net, x = pair
    found = model.explain(x, method="integrated-gradients", target=TARGETS, precision="float64", steps=300)
    with torch.no_grad():
        rows = [0, 1], TARGETS
        difference = (net(torch.from_numpy(x).double()) - net(torch.zeros(2, 3, 12, 12, dtype=torch.float64)))[rows]
    assert found.completeness is not None
    np.testing.assert_allclose(found.completeness.expected, difference.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.completeness.total, difference.numpy(), atol=5e-3)


@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam(relu: bool) -> None:
    x = pictures(2, 3, 12, 12, seed=5)
    net = seeded(ResNetLike, seed=1)
    model = exported(net, x)
    found = model.explain(x, method="grad-cam", target=TARGETS, precision="float64", relu=relu)
    net = net.double()
    theirs = (
        peer("captum.attr")
        .LayerGradCam(net, net.get_submodule("blocks.1.relu2"))
        .attribute(torch.from_numpy(x).double(), target=TARGETS, relu_attributions=relu)
    )
    close(found.raw, theirs.detach().numpy())
    upsampled = torch.nn.functional.interpolate(theirs, (12, 12), mode="bilinear", align_corners=False)
    close(found.attribution, upsampled.detach().numpy())


@pytest.mark.parametrize(
    ("layer", "module"), [("/features/features.0/Conv", "features.0"), ("/features/features.4/MaxPool", "features.4")]
)
def test_grad_cam_at_a_named_layer(layer: str, module: str) -> None:
    x = pictures(2, 3, 12, 12, seed=5)
    net = seeded(VGGLike, seed=1)
    found = exported(net, x).explain(x, method="grad-cam", target=TARGETS, precision="float64", layer=layer)
    net = net.double()
    theirs = (
        peer("captum.attr")
        .LayerGradCam(net, net.get_submodule(module))
        .attribute(torch.from_numpy(x).double(), target=TARGETS, relu_attributions=True)
    )
    close(found.raw, theirs.detach().numpy())


# --- SmoothGrad -------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Gradient: a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x)
        return out


class Quadratic(nn.Module):
    """x^2 summed with weights: gradient 2 w x, linear in x."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x * x)
        return out


def test_smoothgrad_of_a_linear_model_is_its_gradient() -> None:
    x, net = pictures(2, 6), seeded(Linear)
    model = exported(net, x)
    found = model.explain(
        x, method="smoothgrad", target=[0, 2], precision="float64", samples=7, noise=0.5, reduce="mean"
    ).attribution
    close(found, net.fc.weight.detach().numpy()[[0, 2]], 1e-6)
    spread = model.explain(x, method="smoothgrad", target=[0, 2], samples=7, noise=0.5, reduce="variance").attribution
    assert np.abs(spread).max() < 1e-6


@pytest.mark.parametrize(
    "base", ["gradient", "saliency", "sensitivity", "gradient-x-input", "guided-backprop", "integrated-gradients"]
)
def test_smoothgrad_without_noise_is_its_base(base: str) -> None:
    x, net = pictures(2, 3, 12, 12, seed=5), seeded(VGGLike)
    model = exported(net, x)
    found = model.explain(
        x, method="smoothgrad", target=TARGETS, base=base, samples=3, noise=0.0, reduce="mean"
    ).attribution
    close(found, model.explain(x, method=base, target=TARGETS).attribution, 1e-6)
    squared = model.explain(
        x, method="smoothgrad", target=TARGETS, base=base, samples=3, noise=0.0, reduce="square"
    ).attribution
    close(squared, model.explain(x, method=base, target=TARGETS).attribution ** 2, 1e-6)


def test_smoothgrad_of_a_quadratic_model() -> None:
    """Noise sigma on x: the gradient 2 w (x + n) has mean 2 w x and variance (2 w sigma)^2."""
    x, net, samples, noise = pictures(2, 6, seed=3), seeded(Quadratic), 2000, 0.2
    model = exported(net, x)
    w = net.fc.weight.detach().double().numpy()[[0, 2]]
    sigma = noise * np.ptp(x.astype(np.float64), axis=1, keepdims=True)
    deviation = np.abs(2 * w * sigma)
    given = {"target": [0, 2], "precision": "float64", "samples": samples, "noise": noise, "seed": 4}
    mean, square, variance = (
        model.explain(x, method="smoothgrad", reduce=reduce, **given).attribution.astype(np.float64)
        for reduce in ("mean", "square", "variance")
    )
    assert np.all(np.abs(mean - 2 * w * x) < 4.5 * deviation / np.sqrt(samples))
    assert not np.allclose(mean, 2 * w * x, rtol=1e-4)
    np.testing.assert_allclose(variance, deviation**2, rtol=4.5 * np.sqrt(2 / samples))
    np.testing.assert_allclose(square, variance + mean**2, rtol=1e-5)


def test_smoothgrad_follows_its_seed() -> None:
    x, net = pictures(2, 6), seeded(Quadratic)
    model = exported(net, x)
    first, second, third = (
        model.explain(x, method="smoothgrad", target=1, samples=5, seed=seed).attribution for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.allclose(first, third)
