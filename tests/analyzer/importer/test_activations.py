"""Activations written out: what is recognised, and that nothing else is. Values are held against torch's own functions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from analyzer.importer import activations
from analyzer.importer.passes import run_passes
from analyzer.importer.recorder import Recorder
from graph_rules.operators import aten

Function = Callable[[Tensor], Tensor]


def passed(function: Function, x: Tensor) -> tuple[torch.fx.GraphModule, list[str]]:
    """The function's trace after all passes, and what the pass on activations left and why."""
    recorder = Recorder()
    with torch.no_grad(), recorder:
        out = function(recorder.placeholder("x", x))
    module = recorder.finish({"y": out})
    _, results = run_passes(module)
    return module, [str(r.reason) for each in results if each.name == "recognise activations" for r in each.refused]


def operators(module: torch.fx.GraphModule) -> list[object]:
    return [node.target for node in module.graph.nodes if node.op == "call_function"]


def c(value: float) -> Tensor:
    return torch.tensor(value)


#: Spelling, torch's function, the operator that is left.
KNOWN: dict[str, tuple[Function, Function, object]] = {
    "relu": (lambda x: torch.where(x > c(0.0), x, torch.zeros(3)), functional.relu, aten.relu.default),
    "gelu": (lambda x: x * c(0.5) * (torch.erf(x / c(2.0**0.5)) + c(1.0)), functional.gelu, aten.gelu.default),
    "gelu-tanh": (
        lambda x: c(0.5) * x * (c(1.0) + torch.tanh(c(0.7978845608) * (x + c(0.044715) * torch.pow(x, 3)))),
        lambda x: functional.gelu(x, approximate="tanh"), aten.gelu.default,
    ),
    "silu": (lambda x: x * torch.sigmoid(x), functional.silu, aten.silu.default),
    "mish": (lambda x: torch.tanh(torch.log(c(1.0) + torch.exp(x))) * x, functional.mish, aten.mish.default),
    "hard-swish": (lambda x: x * torch.clamp(x + c(3.0), 0.0, 6.0) / c(6.0), functional.hardswish, aten.hardswish.default),
    "selu": (
        lambda x: c(1.0507009873554805) * torch.where(x > c(0.0), x, c(1.6732632423543772) * (torch.exp(x) - c(1.0))),
        functional.selu, aten.elu.default,
    ),
    "celu": (
        lambda x: torch.relu(x) + torch.minimum(c(0.3) * (torch.exp(x / c(0.3)) - c(1.0)), c(0.0)),
        lambda x: functional.celu(x, 0.3), aten.elu.default,
    ),
    "bounded": (lambda x: torch.minimum(torch.maximum(x, c(-0.5)), c(0.7)), lambda x: x.clamp(-0.5, 0.7), aten.clamp.default),
    "soft-shrink": (
        lambda x: torch.relu(x - c(0.4)) - torch.relu(-x - c(0.4)), lambda x: functional.softshrink(x, 0.4),
        aten.softshrink.default,
    ),
    "tanh": (lambda x: c(2.0) * torch.sigmoid(c(2.0) * x) - c(1.0), torch.tanh, aten.tanh.default),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_functions_become_one_operator(name: str) -> None:
    spelling, expected, operator = KNOWN[name]
    x = torch.linspace(-9, 9, 240, dtype=torch.float64).reshape(80, 3)
    module, _ = passed(spelling, x)
    assert operators(module) == [operator]
    torch.testing.assert_close(module(x)[0], expected(x), rtol=0, atol=1e-5)


def test_the_earliest_value_that_it_is_a_function_of() -> None:
    """A hard sigmoid of z, not a bounded function of z + 3: the 3 mustn't be merged into the layer before."""
    w, b = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    module, _ = passed(
        lambda x: torch.clamp(torch.addmm(b, x, w) + c(3.0), 0.0, 6.0) / c(6.0), torch.randn(2, 4).double()
    )
    assert operators(module) == [aten.addmm.default, aten.hardsigmoid.default]


def test_what_is_read_elsewhere_too_stays_for_its_readers() -> None:
    def function(x: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        return x * s + s.sum(1, keepdim=True)

    x = torch.randn(4, 3, dtype=torch.float64)
    module, _ = passed(function, x)
    assert aten.silu.default in operators(module) and aten.sigmoid.default in operators(module)
    torch.testing.assert_close(module(x)[0], function(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * torch.sigmoid(c(1.702) * x),
        lambda x: x + c(0.1) * torch.sin(x) * x,
        lambda x: x * torch.sigmoid(torch.tensor([1.0, 1.0, 1.1]) * x),
        lambda x: x * torch.sigmoid(x.flip(1)),
        lambda x: x[:1] * torch.sigmoid(x),
        lambda x: torch.relu(x) * c(1.001),
        lambda x: torch.where(x >= c(0.1), x, torch.zeros(3)),
        lambda x: x * x + x,
    ],
    ids=["quick-gelu", "snake", "per-channel", "of-two-values", "broadcast", "scaled", "threshold", "polynomial"],
)
def test_other_functions_stay_as_they_are(function: Function) -> None:
    x = torch.randn(4, 3, dtype=torch.float64)
    recorder = Recorder()
    with torch.no_grad(), recorder:
        out = function(recorder.placeholder("x", x))
    before = operators(recorder.finish({"y": out}))
    module, _ = passed(function, x)
    assert operators(module) == before
    torch.testing.assert_close(module(x)[0], function(x))


def test_a_function_without_a_name_says_so() -> None:
    _, refused = passed(lambda x: x * torch.sigmoid(c(1.702) * x), torch.randn(4, 3, dtype=torch.float64))
    assert refused == [activations.NO_NAME.reason]


@pytest.mark.parametrize("eps", [1e-5, 1e-12, 1e-30])
def test_what_keeps_a_logarithm_finite_is_no_rounding(eps: float) -> None:
    """|x| + eps is no |x|, however small eps is: its logarithm has a value at 0."""
    x = torch.tensor([[0.0, 1.0, -2.0]])
    module, _ = passed(lambda x: torch.log(x.abs() + eps), x)
    assert aten.add.Tensor in operators(module)
    assert bool(torch.isfinite(module(x)[0]).all())
