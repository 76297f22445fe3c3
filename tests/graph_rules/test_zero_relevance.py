"""Where no relevance can be: what is proven is so on random inputs, and what is common is proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from graph_rules import sweep
from graph_rules.composites import GRADIENT, CompositeParams, composite
from graph_rules.zero_relevance import no_relevance_at_zero, no_relevance_below_zero
from tests.graph_rules.graphs import aten, plan_of, record, tensor

FIRST, SECOND = tensor(4, 3, 3, 3, seed=1), tensor(5, 4, 3, 3, seed=2)
HEAD, WIDE = tensor(5, 4, seed=3), tensor(4, 4, seed=4)
Net = Callable[[Tensor], Tensor]


def conv(x: Tensor) -> Tensor:
    return F.conv2d(x, FIRST, padding=1)


def head(x: Tensor) -> Tensor:
    return x.mean((2, 3)) @ HEAD.T if x.shape[1] == 4 else x.mean((2, 3))


def layered(between: Net) -> Net:
    """A convolution, ReLU, something, a convolution and averages."""
    return lambda x: F.conv2d(between(torch.relu(conv(x))), SECOND, padding=1).mean((2, 3))


PROVEN: dict[str, Net] = {
    "layer": layered(lambda r: r),
    "max pool": layered(lambda r: F.max_pool2d(r, 2)),
    "overlapping pool": layered(lambda r: F.max_pool2d(r, 3, 2, 1)),
    "average pool": layered(lambda r: F.avg_pool2d(r, 2)),
    "padding": layered(lambda r: F.pad(r, (1, 1, 1, 1))),
    "nearest": layered(lambda r: F.interpolate(r, scale_factor=2)),
    "movements": layered(lambda r: torch.cat([r.flip(2)[:, :2], r.transpose(2, 3)[:, 2:]], 1)),
    "two readers": layered(lambda r: r + F.max_pool2d(r, 3, 1, 1)),
    "head": lambda x: head(torch.relu(conv(x))),
    "activation": layered(lambda r: F.silu(r)),
}
#: What is passed on unchanged lands on zeros too.
OPEN: dict[str, Net] = {
    "shift": layered(lambda r: r + 1),
    "sigmoid": layered(torch.sigmoid),
    "bilinear": layered(lambda r: F.interpolate(r, scale_factor=2, mode="bilinear")),
    "output": lambda x: torch.relu(conv(x)),
    "another reader": lambda x: (lambda z: (F.conv2d(torch.relu(z), SECOND) + F.conv2d(z, SECOND)).mean((2, 3)))(
        conv(x)
    ),
}


def relevance_below(net: Net, rules: str, seed: int) -> tuple[bool, Tensor, Tensor]:
    """Whether it is proven that none is below zero, the values under the ReLU and the relevance there."""
    x = tensor(2, 3, 6, 6, seed=seed)
    graph = record(net, x)
    table = GRADIENT if rules == "gradient" else composite(rules, CompositeParams(low=-9.0, high=9.0))
    plan = replace(plan_of(graph, table), static=True)
    relu = graph.of(aten.relu.default)[0]
    node = relu.all_input_nodes[0]
    run = sweep.forward(plan, graph.inputs, keep=[node])
    found = sweep.backward(run, torch.ones_like(run.value), at=[node])
    return no_relevance_below_zero(node, plan), run.values[node], found[node]


@pytest.mark.parametrize("rules", ["gradient", "epsilon", "epsilon-plus", "epsilon-gamma-box", "epsilon-alpha2-beta1"])
@pytest.mark.parametrize("name", PROVEN)
def test_what_is_proven_is_so(name: str, rules: str) -> None:
    for seed in range(5, 10):
        proven, value, relevance = relevance_below(PROVEN[name], rules, seed)
        assert proven
        assert (value < 0).any()
        assert (relevance[value < 0] == 0).all()


@pytest.mark.parametrize("name", OPEN)
def test_relevance_at_negative_values_is_not_denied(name: str) -> None:
    proven, value, relevance = relevance_below(OPEN[name], "epsilon-plus", 5)
    assert not proven
    assert (relevance[value < 0] != 0).any()


@pytest.mark.parametrize("rules", ["w2", "flat"])
def test_rules_that_share_without_the_input_reach_zeros(rules: str) -> None:
    proven, value, relevance = relevance_below(PROVEN["layer"], rules, 5)
    assert not proven
    assert (relevance[value < 0] != 0).any()


def test_the_explained_output_has_relevance_everywhere() -> None:
    graph = record(lambda x: conv(x), tensor(1, 3, 4, 4, seed=5))
    plan = plan_of(graph, composite("epsilon", CompositeParams()))
    assert not no_relevance_at_zero(graph.output, plan)
    assert not no_relevance_below_zero(graph.output, plan)


@pytest.mark.parametrize("name", PROVEN)
def test_a_recorded_gamma_sweep_gives_what_a_sweep_on_numbers_gives(name: str) -> None:
    x = tensor(2, 3, 6, 6, seed=6)
    graph = record(PROVEN[name], x)
    plan = plan_of(graph, composite("gamma", CompositeParams()))
    results = []
    for static in (False, True):
        run = sweep.forward(replace(plan, static=static), graph.inputs)
        results.append(sweep.backward(run, torch.ones_like(run.value))[graph.placeholders[0]])
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)
