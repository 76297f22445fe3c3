"""Guided backpropagation and the deconvnet on rectifiers of every kind, against a backward pass written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional

import analyzer
from tests.common.models import assemble
from tests.graph_rules.nets import exported, pictures, seeded

X = pictures(2, 3, 12, 12, seed=3)
Function = Callable[[Tensor], Tensor]


class _Guided(torch.autograd.Function):
    """A rectifier, given by its values and slopes, whose backward pass lets only positive signals through active units."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, slope: Tensor) -> Tensor:
        ctx.slope = slope * ((x > 0) & (y > 0))
        return y.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].clamp(min=0) * ctx.slope, None, None


class _Deconvolved(_Guided):
    """One whose backward pass lets only positive signals through, at any unit."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].clamp(min=0), None, None


def through(x: Tensor, rectify: Function, backwards: Any) -> Tensor:
    """A rectifier's values, going backwards in a way of its own."""
    entered = x.detach().requires_grad_(True)
    y = rectify(entered)
    (slope,) = torch.autograd.grad(y.sum(), entered)
    out: Tensor = backwards.apply(x, y.detach(), slope)
    return out


class Rectifier(nn.Module):
    """A rectifier that can be told how to go backwards."""

    def __init__(self, rectify: Function) -> None:
        super().__init__()
        self.rectify: Function = rectify
        self.backwards: Any = None

    def forward(self, x: Tensor) -> Tensor:
        return self.rectify(x) if self.backwards is None else through(x, self.rectify, self.backwards)


RECTIFIERS: dict[str, Function] = {
    "relu": torch.relu,
    "relu6": functional.relu6,
    "clip-0-1": lambda x: x.clamp(0, 1),
    "leaky": lambda x: functional.leaky_relu(x, 0.2),
    "threshold": lambda x: torch.where(x > 0.5, x, torch.zeros((), dtype=x.dtype)),
}


class MobileNetLike(nn.Module):
    """An inverted residual block: expansion, depthwise convolution, projection; wide weights reach a bound of six."""

    def __init__(self, rectify: Function) -> None:
        super().__init__()
        self.stem, self.expand = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 12, 1)
        self.depthwise, self.project = nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.Conv2d(12, 6, 1)
        self.head = nn.Linear(6, 4)
        self.rectifiers = nn.ModuleList([Rectifier(rectify) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.rectifiers
        x = first(self.stem(x) * 4)
        x = x + self.project(third(self.depthwise(second(self.expand(x) * 4)) * 4))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def by_hand(net: nn.Module, backwards: type[torch.autograd.Function] | None) -> np.ndarray:
    """The map of class 1 in double precision."""
    net = net.double()
    for module in net.modules():
        if isinstance(module, Rectifier):
            module.backwards = backwards
    x = torch.from_numpy(X).double().requires_grad_(True)
    (found,) = torch.autograd.grad(net(x)[:, 1].sum(), x)
    return found.numpy()


@pytest.mark.parametrize(("method", "backwards"), [("guided-backprop", _Guided), ("deconvnet", _Deconvolved)])
@pytest.mark.parametrize("name", RECTIFIERS)
def test_every_rectifier_counts(name: str, method: str, backwards: type[torch.autograd.Function]) -> None:
    net = seeded(lambda: MobileNetLike(RECTIFIERS[name]), seed=2)  # type: ignore[arg-type]
    model = exported(net, X)
    found = model.explain(X, method, target=1, precision="float64", rectifiers="all")
    expected, plain = by_hand(net, backwards), by_hand(net, None)
    largest = np.abs(expected).max()
    assert np.abs(expected - plain).max() > 0.1 * largest
    np.testing.assert_allclose(found.attribution, expected, rtol=0, atol=1e-9 * largest)
    assert not any("rectifier" in note for note in found.record["notes"])


def test_relu_alone_is_what_libraries_treat_apart() -> None:
    """captum's hooks sit on ReLU; other rectifiers pass the plain gradient, and are named."""
    net = seeded(lambda: MobileNetLike(RECTIFIERS["relu6"]), seed=2)  # type: ignore[arg-type]
    model = exported(net, X)
    for method in ("guided-backprop", "deconvnet"):
        found = model.explain(X, method, target=1, precision="float64")
        plain = by_hand(net, None)
        np.testing.assert_allclose(found.attribution, plain, rtol=0, atol=1e-9 * np.abs(plain).max())
        (note,) = found.record["notes"]
        assert note.startswith("Clip passes the plain gradient on: only ReLUs are treated apart; rectifiers=all")


def test_a_learned_slope_counts_too() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)
            self.slopes = nn.Parameter(torch.tensor([0.3, -0.2, 0.0, 1.5]))
            self.rectifier = Rectifier(lambda x: functional.prelu(x, self.slopes.to(x.dtype)))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.second(self.rectifier(self.first(x)).mean((2, 3)))
            return out

    net = seeded(Net)
    model = exported(net, X)
    found = model.explain(X, "guided-backprop", target=1, precision="float64", rectifiers="all").attribution
    np.testing.assert_allclose(found, by_hand(net, _Guided), rtol=0, atol=1e-12)


def matrices() -> tuple[np.ndarray, np.ndarray]:
    """Weights before and after the unit."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((5, 6)).astype(np.float32), rng.standard_normal((6, 3)).astype(np.float32)


def one_unit(operators: list[Any]) -> analyzer.Model:
    """A linear layer, one activation function from ``z`` to ``a``, a linear layer."""
    weights = dict(zip(("w", "v"), matrices(), strict=True))
    weights["slopes"] = np.array([0.3, -0.2, 0, 1.5, -1, 0.1], np.float32)
    weights |= {"three": np.array(3, np.float32), "zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    weights |= {"one": np.array(1, np.float32), "minus": np.array(-1, np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), *operators, helper.make_node("MatMul", ["a", "v"], ["y"])]
    shapes = {"x": (TensorProto.FLOAT, ["n", 5])}
    return analyzer.load(assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["n", 3])}, weights, opset=20), "cpu")


#: Rectifier of ONNX -> its node, and where on z a unit is active.
NODES: dict[str, tuple[Any, Callable[[np.ndarray], np.ndarray]]] = {
    "clip": (helper.make_node("Clip", ["z", "zero", "one"], ["a"]), lambda z: (z > 0) & (z < 1)),
    "clip-without-bound": (helper.make_node("Clip", ["z", "zero"], ["a"]), lambda z: z > 0),
    "leaky": (helper.make_node("LeakyRelu", ["z"], ["a"], alpha=0.3), lambda z: z > 0),
    "prelu": (helper.make_node("PRelu", ["z", "slopes"], ["a"]), lambda z: z > 0),
    "thresholded": (helper.make_node("ThresholdedRelu", ["z"], ["a"], alpha=0.7), lambda z: z > 0.7),
    "maximum": (helper.make_node("Max", ["z", "zero"], ["a"]), lambda z: z > 0),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_rectifiers_of_onnx_in_closed_form(name: str) -> None:
    node, active = NODES[name]
    model = one_unit([node])
    x = np.random.default_rng(4).standard_normal((3, 5)).astype(np.float32)
    w, v = (each.astype(np.float64) for each in matrices())
    signal = np.clip(v[:, 1], 0, None)
    for method, mask in (("guided-backprop", active(x @ w)), ("deconvnet", np.ones((3, 6)))):
        found = model.explain(x, method, target=1, precision="float64", rectifiers="all")
        np.testing.assert_allclose(found.attribution, (mask * signal) @ w.T, rtol=1e-9, atol=1e-12)
        assert found.record["notes"] == []


#: Activation function -> its nodes, and the operator that the note names.
OTHERS: dict[str, tuple[list[Any], str]] = {
    "silu": ([helper.make_node("Sigmoid", ["z"], ["s"]), helper.make_node("Mul", ["z", "s"], ["a"])], "silu"),
    "gelu": ([helper.make_node("Gelu", ["z"], ["a"])], "Gelu"),
    "hard-swish": ([helper.make_node("HardSwish", ["z"], ["a"])], "HardSwish"),
    "hard-sigmoid": ([helper.make_node("HardSigmoid", ["z"], ["a"])], "HardSigmoid"),
    "hard-sigmoid-as-clip": (
        [helper.make_node("Abs", ["z"], ["b"]), helper.make_node("Add", ["b", "minus"], ["c"]),
         helper.make_node("Add", ["c", "three"], ["s"]), helper.make_node("Clip", ["s", "zero", "six"], ["a"])], "Clip"
    ),
    "hard-tanh": ([helper.make_node("Clip", ["z", "minus", "one"], ["a"])], "Clip"),
    "mish": ([helper.make_node("Mish", ["z"], ["a"])], "Mish"),
    "elu": ([helper.make_node("Elu", ["z"], ["a"])], "Elu"),
    "tanh": ([helper.make_node("Tanh", ["z"], ["a"])], "Tanh"),
}  # fmt: skip


@pytest.mark.parametrize("method", ["guided-backprop", "deconvnet"])
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_rectifier_passes_the_plain_gradient_and_is_named(name: str, method: str) -> None:
    nodes, operator = OTHERS[name]
    model = one_unit(nodes)
    x = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    found = model.explain(x, method, target=1, rectifiers="all")
    np.testing.assert_allclose(found.attribution, model.explain(x, "gradient", target=1).attribution, rtol=1e-5)
    (note,) = [note for note in found.record["notes"] if "plain gradient" in note]
    assert note.startswith(operator)


def test_the_note_is_the_same_on_onnxruntime_and_in_what_is_built_on_it() -> None:
    model = one_unit(OTHERS["elu"][0])
    x = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    notes = [model.explain(x, "guided-backprop", target=1, backend=b).record["notes"] for b in ("torch", "onnxruntime")]
    assert notes[0] == notes[1]
    assert notes[0][0].startswith("Elu passes the plain gradient on: only ReLUs are treated apart")
    smooth = model.explain(x, "smoothgrad", target=1, base="guided-backprop", samples=2)
    assert smooth.record["notes"] == notes[0]
