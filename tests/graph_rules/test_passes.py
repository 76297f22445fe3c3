"""Cost: how often a layer's operator runs under each rule, forwards or transposed, the forward pass included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from graph_rules import affine, signed, sweep
from graph_rules import rules as r
from graph_rules.composites import CompositeParams, composite
from graph_rules.rule import Plan, Rule
from tests.graph_rules.counting import Calls
from tests.graph_rules.graphs import Recorded, aten, record, ruled, tensor

W1, W2, B = tensor(4, 3, 3, 3, seed=11), tensor(4, 4, 3, 3, seed=12), tensor(4, seed=13)
IMAGE = tensor(1, 3, 5, 6, seed=1)


def two_layers(x: Tensor) -> Tensor:
    h = F.relu(F.conv2d(F.relu(x), W1, B, padding=1))
    return F.relu(F.conv2d(h, W2, B, padding=1))


def two_signed_layers(x: Tensor) -> Tensor:
    return F.conv2d(F.conv2d(x, W1, B, padding=1), W2, B, padding=1)


def residual(x: Tensor) -> Tensor:
    """The second layer's output goes into a sum, as the last one of a residual block does."""
    h = F.relu(x)
    return F.relu(h + F.conv2d(F.relu(F.conv2d(h, W1, B, padding=1)), W2, B, padding=1)[:, :3])


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small layers of this file count as layers of many contributions and channels."""
    monkeypatch.setattr(signed, "FEW", 0)
    monkeypatch.setattr(affine, "NARROW", 0)


def planned(graph: Recorded, rule: Rule) -> Plan:
    elementwise = {aten.relu.default: r.Pass(), aten.add.Tensor: r.Epsilon(), aten.slice.Tensor: r.Gradient()}
    stops = graph.of(aten.relu.default)[:1] or graph.placeholders
    return ruled(graph, lambda node: elementwise.get(node.target, rule), sources=stops)


def passes(function: Callable[[Tensor], Tensor], rule: Rule, relevance: str = "one", times: int = 1) -> int:
    """Convolution passes of all layers in the last of several sweeps."""
    graph = record(function, IMAGE)
    plan = planned(graph, rule)
    for _ in range(times):
        with Calls() as calls:
            run = sweep.forward(plan, graph.inputs)
            sweep.backward(run, torch.ones_like(run.value) if relevance == "one" else run.value)
    return calls.counts["convolution passes"]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("rule", "count"),
    [(r.Gradient(), 2), (r.Epsilon(), 2), (r.Epsilon(zero_bias=True), 2), (r.AlphaBeta(1.0, 0.0), 3), (r.Gamma(), 3),
     (r.AlphaBeta(2.0, 1.0), 4), (r.WSquare(), 3), (r.Flat(), 3)],
    ids=str,
)  # fmt: skip
def test_on_non_negative_inputs(rule: Rule, count: int) -> None:
    """Below a ReLU, with relevance at positive outputs only."""
    assert passes(two_layers, rule, "value") == 2 * count


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("rule", "count"),
    [(r.Gradient(), 2), (r.Epsilon(), 2), (r.AlphaBeta(1.0, 0.0), 4), (r.AlphaBeta(2.0, 1.0), 6), (r.Gamma(), 4),
     (r.WSquare(), 3), (r.Flat(), 3)],
    ids=str,
)  # fmt: skip
def test_on_inputs_of_both_signs(rule: Rule, count: int) -> None:
    assert passes(two_signed_layers, rule) == 2 * count


@pytest.mark.usefixtures("many")
def test_gamma_of_a_layer_that_is_added_to_something() -> None:
    """Its negative outputs have relevance: one pass more than below a ReLU."""
    assert passes(residual, r.Gamma(), "value") == 3 + 4


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("initial", ["one", "value"])
def test_gamma_looks_where_nothing_is_proven(initial: str) -> None:
    """At the explained output itself, ones sit at negative values too; the layer below is proven to get none there."""
    assert passes(two_layers, r.Gamma(), initial) == (4 if initial == "one" else 3) + 3


@pytest.mark.parametrize(
    ("rule", "rectified", "mixed"),
    [(r.AlphaBeta(1.0, 0.0), 3, 5), (r.AlphaBeta(2.0, 1.0), 5, 9), (r.Gamma(), 3, 7)],
    ids=str,
)
def test_of_layers_with_few_contributions(
    rule: Rule, rectified: int, mixed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their sums are taken one by one."""
    monkeypatch.setattr(affine, "NARROW", 0)
    assert passes(two_layers, rule, "value") == 2 * rectified
    assert passes(two_signed_layers, rule) == 2 * mixed


@pytest.mark.parametrize(
    ("rule", "count"), [(r.AlphaBeta(1.0, 0.0), 3), (r.AlphaBeta(2.0, 1.0), 4), (r.Gamma(), 4)], ids=str
)
def test_of_layers_with_few_channels(rule: Rule, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes back through several weights goes at once."""
    monkeypatch.setattr(signed, "FEW", 0)
    assert passes(two_signed_layers, rule) == 2 * count


def test_of_the_z_box() -> None:
    """The forward and one transposed; the corners take two, once."""
    assert passes(lambda x: F.conv2d(x, W1, B), r.ZBox(-3.0, 3.0)) == 4
    assert passes(lambda x: F.conv2d(x, W1, B), r.ZBox(-3.0, 3.0), times=2) == 2


@pytest.mark.parametrize(
    ("rule", "count"), [(r.AlphaBeta(1.0, 0.0), 1), (r.AlphaBeta(2.0, 1.0), 2), (r.Gamma(), 1)], ids=str
)
@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_layers_go_back_by_matrix_products(rule: Rule, count: int, stride: int) -> None:
    """One for each transposed pass, and the same relevance as by the transposed convolution of a recorded sweep."""
    w = tensor(130, 130, 1, 1, seed=4)
    graph = record(lambda x: F.relu(F.conv2d(F.relu(x), w, stride=stride)), tensor(2, 130, 5, 4, seed=5))
    found, products = [], []
    for static in (True, False):
        plan = replace(planned(graph, rule), static=static)
        run = sweep.forward(plan, graph.inputs)
        with Calls() as calls:
            found.append(*sweep.backward(run, run.value).values())
        products.append((calls.counts["aten.convolution_backward.default"], calls.counts["aten.bmm.default"]))
    assert products[0][1] == 0
    assert products[1] == (0, count)
    assert (found[0] - found[1]).abs().max() <= 1e-12 * found[0].abs().max()


@pytest.mark.parametrize(
    "rule", [r.AlphaBeta(1.0, 0.0), r.AlphaBeta(2.0, 1.0), r.Gamma(), r.Gamma(zero_bias=True)], ids=str
)
@pytest.mark.parametrize("function", [two_layers, two_signed_layers])
def test_sums_by_difference_equal_sums_one_by_one(
    rule: Rule, function: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules themselves are held against their matrix form in test_rules, one by one."""

    def relevance() -> Tensor:
        graph = record(function, tensor(1, 3, 5, 6, seed=1))
        elementwise = {aten.relu.default: r.Pass()}
        plan = ruled(graph, lambda n: elementwise.get(n.target, rule))
        run = sweep.forward(plan, graph.inputs)
        return sweep.backward(run, torch.ones_like(run.value))[graph.placeholders[0]]

    one_by_one = relevance()
    monkeypatch.setattr(signed, "FEW", 0)
    by_difference = relevance()
    assert (one_by_one - by_difference).abs().max() <= 1e-7 * one_by_one.abs().max()


def test_modified_weights_are_made_once() -> None:
    graph = record(two_layers, tensor(1, 3, 5, 6, seed=1))
    table, cache = composite("zplus", CompositeParams()), {}
    plan = sweep.plan(
        graph.module, graph.placeholders, graph.output, table.assign(graph.output, tuple(graph.placeholders)), cache
    )
    counts = []
    for _ in range(2):
        with Calls() as calls:
            run = sweep.forward(plan, graph.inputs)
            sweep.backward(run, run.value)
        counts.append(calls.counts["aten.clamp.default"] + calls.counts["aten.clamp_min.default"])
    assert counts[0] - counts[1] == 2  # w+ of two layers
    assert len([key for key in cache if "w+" in key]) == 2
