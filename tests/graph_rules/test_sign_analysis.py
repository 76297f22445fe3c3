"""Sign analysis: what it calls non-negative is never negative, and it sees what rules profit from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graph_rules.rules import Gradient
from graph_rules.sign_analysis import nonnegative
from tests.graph_rules.graphs import aten, plan_of, record, tensor

UP, DOWN, SIGNED = tensor(4, seed=1).abs() + 0.1, -tensor(4, seed=2).abs() - 0.1, tensor(4, seed=3)
MASK = torch.tensor([True, False, True, False])
SQUARE = tensor(4, 4, seed=4)

ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "exp": lambda x: torch.exp(x.clamp(max=3)),
    "abs": torch.abs, "softmax": lambda x: torch.softmax(x, -1), "log_softmax": lambda x: torch.log_softmax(x, -1),
    "softplus": F.softplus, "elu": F.elu, "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish, "gelu": F.gelu,
    "leaky": F.leaky_relu, "relu6": F.relu6, "hardtanh": F.hardtanh, "hardtanh-up": lambda x: F.hardtanh(x, 0.5, 2.0),
    "hardtanh-down": lambda x: F.hardtanh(x, -2.0, -1.0), "clamp-min": lambda x: x.clamp(min=0),
    "clamp-max": lambda x: x.clamp(max=1), "clamp-negative": lambda x: x.clamp(min=-0.5),
    "clamp-crossed": lambda x: torch.clamp(x, 0.0, -1.0), "neg": torch.neg, "square": lambda x: x * x,
    "cube": lambda x: x**3,
    "sqrt": lambda x: (x * x).sqrt(), "add-1": lambda x: x + 1, "sub-1": lambda x: x - 1, "rsub": lambda x: 1 - x,
    "times-2": lambda x: x * 2, "times-minus-2": lambda x: x * -2, "over-minus-2": lambda x: x / -2,
    "add-minus-1": lambda x: x + (-1), "alpha": lambda x: torch.add(x, UP, alpha=-2),
    "plus-up": lambda x: x + UP, "plus-down": lambda x: x + DOWN, "times-up": lambda x: x * UP,
    "times-down": lambda x: x * DOWN,
    "over-down": lambda x: x / DOWN, "max-signed": lambda x: torch.maximum(x, SIGNED),
    "min-up": lambda x: torch.minimum(x, UP),
    "min-down": lambda x: torch.minimum(x, DOWN), "flip": lambda x: x.flip(0),
    "view": lambda x: x.view(2, 2).t().reshape(4),
    "pad": lambda x: F.pad(x, (1, 1))[:4], "pad-up": lambda x: F.pad(x, (1, 1), value=2.0)[:4],
    "pad-down": lambda x: F.pad(x, (1, 1), value=-2.0)[:4], "masked-up": lambda x: x.masked_fill(MASK, 1.0),
    "masked-down": lambda x: x.masked_fill(MASK, -1.0), "where-up": lambda x: torch.where(MASK, x, UP),
    "where-down": lambda x: torch.where(MASK, x, DOWN), "where-zero": lambda x: torch.where(x > 0, x, 0.0),
    "cat-down": lambda x: torch.cat([x[:2], DOWN[:2]]), "stack": lambda x: torch.stack([x, UP])[1],
    "split": lambda x: torch.cat(x.split(2)[::-1]), "mean": lambda x: x.mean() + torch.zeros(4, dtype=torch.float64),
    "sum": lambda x: x.sum().expand(4), "amin": lambda x: x.amin(0).expand(4),
    "max-dim": lambda x: x.max(0)[0].expand(4),
    "min-dim": lambda x: x.min(0)[0].expand(4), "topk": lambda x: x.topk(4)[0], "sort": lambda x: x.sort()[0],
    "max-pool": lambda x: F.max_pool2d(x.view(1, 1, 2, 2), 1).view(4),
    "avg-pool": lambda x: F.avg_pool2d(x.view(1, 1, 2, 2), 2, 1, 1)[..., :2, :2].reshape(4),
    "cubic": lambda x: F.interpolate(x.view(1, 1, 2, 2), (5, 5), mode="bicubic").flatten()[:4],
    "bilinear": lambda x: F.interpolate(x.view(1, 1, 2, 2), (5, 5), mode="bilinear").flatten()[:4],
    "layer-norm": lambda x: F.layer_norm(x, (4,)), "linear": lambda x: (x[None] @ SQUARE)[0],
    "index": lambda x: x[[3, 1, 1, 0]],
    "tril": lambda x: x.expand(4, 4).tril()[2], "cumsum": lambda x: x.cumsum(0),
    "put": lambda x: x.index_put((torch.tensor([1]),), DOWN[:1]),
    "scatter": lambda x: x.scatter(0, torch.tensor([2]), DOWN[:1]), "to": lambda x: x.float().double(),
    "scatter-down": lambda x: x.scatter(0, torch.tensor([2]), -1.0),
    "fill-down": lambda x: x.index_fill(0, torch.tensor([2]), -1.0),
    "fill-up": lambda x: x.index_fill(0, torch.tensor([2]), 1.0),
    "copy": lambda x: x.index_copy(0, torch.tensor([1]), DOWN[:1]),
    "trunc": lambda x: x.long().double(),
    "threshold": lambda x: F.threshold(x, 0.5, -1.0), "logsigmoid": F.logsigmoid, "roll": lambda x: x.roll(1),
    "prod": lambda x: x.prod(0).expand(4),
}  # fmt: skip
TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y,
    "alpha": lambda x, y: torch.add(x, y, alpha=-1), "alpha-up": lambda x, y: torch.add(x, y, alpha=2),
    "div": lambda x, y: x / (1 + y.abs()), "maximum": torch.maximum, "minimum": torch.minimum,
    "cat": lambda x, y: torch.cat([x[:2], y[2:]]), "where": lambda x, y: torch.where(x > y, x, y),
    "stack": lambda x, y: torch.stack([x, y]).amax(0), "outer": lambda x, y: torch.outer(x, y)[1],
    "put": lambda x, y: x.index_put((torch.tensor([0, 2]),), y[:2]), "dot": lambda x, y: torch.dot(x, y).expand(4),
}  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.sampled_from(sorted(ONE)), st.integers(0, 5)),
    st.tuples(st.sampled_from(sorted(TWO)), st.integers(0, 5), st.integers(0, 5)),
)


def build(steps: list[tuple[object, ...]]) -> Callable[[Tensor], Tensor]:
    """A function that makes one value of four elements after another from earlier ones and gives all of them."""

    def function(x: Tensor) -> Tensor:
        pool = [x]
        for name, *places in steps:
            values = [pool[place % len(pool)] for place in places]  # type: ignore[operator]
            pool.append(ONE[name](*values) if len(values) == 1 else TWO[name](*values))  # type: ignore[index]
        return torch.cat(pool)

    return function


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(STEPS, min_size=1, max_size=6), st.integers(0, 1000))
def test_what_is_called_nonnegative_is(steps: list[tuple[object, ...]], seed: int) -> None:
    sound(build(steps), seed)


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("before", ["relu", "neg"])
def test_every_operator_after_a_sign(name: str, before: str) -> None:
    for seed in range(3):
        sound(build([(before, 0), (name, 1)]), seed)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("signs", [("relu", "relu"), ("relu", "neg"), ("neg", "relu")])
def test_every_operator_of_two_after_signs(name: str, signs: tuple[str, str]) -> None:
    for seed in range(3):
        sound(build([(signs[0], 0), (signs[1], 0), (name, 1, 2)]), seed)


def sound(function: Callable[[Tensor], Tensor], seed: int) -> None:
    """Every node that is called non-negative is, on other values than those of the recording."""
    graph = record(function, tensor(4, seed=seed))
    plan = plan_of(graph, Gradient())
    values: dict[object, object] = {}
    for scale in (0.3, 3.0, -1.0):
        feed = tensor(4, seed=seed + 1) * scale
        with torch.no_grad():
            for node in graph.module.graph.nodes:
                if node.op == "placeholder":
                    values[node] = feed
                elif node.op == "get_attr":
                    values[node] = getattr(graph.module, node.target)
                elif node.op == "call_function":
                    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                    values[node] = node.target(*args, **kwargs)
        for node, value in values.items():
            if nonnegative(node, plan):
                for part in value if isinstance(value, (tuple, list)) else (value,):
                    assert not (part < 0).any(), f"{node} ({node.target}) is called non-negative, but is {part}"


POSITIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "pooled": lambda x: F.max_pool2d(x.relu(), 2),
    "averaged": lambda x: F.avg_pool2d(x.relu(), 2, 2, 1),
    "global": lambda x: x.relu().mean((2, 3)).flatten(1),
    "concatenated": lambda x: torch.cat([x.relu(), x.sigmoid()], 1),
    "sum": lambda x: x.relu() + x.exp(),
    "shuffled": lambda x: x.relu().reshape(1, 2, 2, 4, 4).transpose(1, 2).reshape(1, 4, 4, 4),
    "split": lambda x: x.relu().split(2, 1)[1],
    "padded": lambda x: F.pad(x.relu(), (1, 1, 1, 1)),
    "relu6": F.relu6,
    "clip": lambda x: x.clamp(0, 6),
    "gated": lambda x: x.relu() * x.mean((2, 3), keepdim=True).sigmoid(),
    "upsampled": lambda x: F.interpolate(x.relu(), scale_factor=2),
}


@pytest.mark.parametrize("name", POSITIVE)
def test_what_networks_read_is_proven(name: str) -> None:
    graph = record(POSITIVE[name], tensor(1, 4, 4, 4))
    assert nonnegative(graph.output, plan_of(graph, Gradient()))


def test_inputs_and_signed_values_are_not_proven() -> None:
    graph = record(lambda x: F.conv2d(x, tensor(2, 4, 1, 1)), tensor(1, 4, 4, 4).abs())
    plan = plan_of(graph, Gradient())
    assert not nonnegative(graph.placeholders[0], plan)
    assert not nonnegative(graph.of(aten.convolution.default)[0], plan)


@pytest.mark.parametrize(("value", "expected"), [(0, True), (2.5, True), (-1, False), (None, False), ("mean", False)])
def test_plain_arguments(value: object, expected: bool) -> None:
    graph = record(torch.relu, tensor(3))
    assert nonnegative(value, plan_of(graph, Gradient())) is expected
