"""The sweep: gradients equal autograd's, every node runs once, nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from graph_rules import rules as r
from graph_rules import sweep
from graph_rules.composites import GRADIENT, CompositeParams, composite
from graph_rules.rule import Rule
from tests.graph_rules.counting import Calls
from tests.graph_rules.graphs import Recorded, aten, plan_of, record, ruled, swept, tensor

W1, W2, B = tensor(4, 3, 3, 3, seed=11), tensor(4, 4, 3, 3, seed=12), tensor(4, seed=13)
M, V = tensor(4, seed=14), tensor(4, seed=15).abs() + 0.5
L1, L2 = tensor(6, 6, seed=16), tensor(6, 6, seed=17)


def skip(x: Tensor) -> Tensor:
    h = F.relu(F.conv2d(x, W1, B, padding=1))
    return (h + F.conv2d(h, W2, padding=1)).mean((2, 3))


def reused_relu(x: Tensor) -> Tensor:
    relu = torch.nn.ReLU()
    return relu(relu(relu(x) @ L1) @ L2 + x)


def split(x: Tensor) -> Tensor:
    a, b, c = x.split(2, dim=1)
    return a * b.exp() + torch.sin(c) * a


def split_one_part(x: Tensor) -> Tensor:
    return x.split(2, dim=1)[1] ** 2


def unbind(x: Tensor) -> Tensor:
    a, b = x.unbind(0)
    return a * b - a


def concat(x: Tensor) -> Tensor:
    return torch.cat([x, x.relu(), x * x], 1) @ tensor(18, 2, seed=18)


def max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(F.conv2d(x, W1, B, padding=1), 3, 2, 1).sum((2, 3))


def batch_norm(x: Tensor) -> Tensor:
    return F.batch_norm(F.conv2d(x, W1), M, V, M, V).tanh()


def batch_statistics(x: Tensor) -> Tensor:
    return F.batch_norm(F.conv2d(x, W1), None, None, M, V, training=True).tanh()


def layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, (6,), L1[0], L1[1]) @ L2


def group_norm(x: Tensor) -> Tensor:
    return F.group_norm(F.conv2d(x, W1), 2, M, V).sigmoid()


def softmax(x: Tensor) -> Tensor:
    return torch.softmax(x @ L1, -1) * torch.log_softmax(x, 0)


def attention(x: Tensor) -> Tensor:
    q, k, v = x @ L1, x @ L2, x
    return torch.softmax(q @ k.T / 2.0, -1) @ v


def top(x: Tensor) -> Tensor:
    values = x.topk(3, dim=1)[0]
    best, _ = x.max(1)
    return values.sum(1) * best


def moved(x: Tensor) -> Tensor:
    y = x.t().reshape(3, -1).flip(0).repeat(2, 1)[1:5]
    return torch.where(y > 0, y, 0.5 * y).unsqueeze(0).expand(2, -1, -1) * y.roll(1, 1)


def gathered(x: Tensor) -> Tensor:
    places = torch.tensor([[0, 2, 2], [1, 1, 5], [3, 0, 4]])
    return x.gather(1, places) + x[:, [1, 1, 0]] + x.index_select(0, torch.tensor([1, 1, 2]))[:, :3]


def resized(x: Tensor) -> Tensor:
    up = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return F.pad(up, (1, 0, 2, 1)) ** 3 + F.pad(F.interpolate(x, scale_factor=2), (1, 0, 2, 1), mode="reflect")


def powers(x: Tensor) -> Tensor:
    return x * x - x / (1.5 + x * x) + (x + x) - torch.rsub(x, 2.0)


IMAGE, ROWS = (2, 3, 5, 6), (3, 6)
NETS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "skip": (skip, IMAGE), "reused-relu": (reused_relu, ROWS), "split": (split, ROWS),
    "one-part": (split_one_part, ROWS),
    "unbind": (unbind, (2, 5)), "concat": (concat, ROWS), "max-pool": (max_pool, IMAGE),
    "batch-norm": (batch_norm, IMAGE),
    "batch-statistics": (batch_statistics, IMAGE), "layer-norm": (layer_norm, ROWS), "group-norm": (group_norm, IMAGE),
    "softmax": (softmax, ROWS), "attention": (attention, ROWS), "top": (top, ROWS), "moved": (moved, ROWS),
    "gathered": (gathered, ROWS), "resized": (resized, (1, 2, 3, 4)), "powers": (powers, ROWS),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_gradients_equal_autograd(name: str) -> None:
    function, shape = NETS[name]
    x = tensor(*shape, seed=1)
    leaf = x.clone().requires_grad_()
    out = function(leaf)
    relevance = tensor(*out.shape, seed=2)
    (expected,) = torch.autograd.grad(out, leaf, relevance)
    graph = record(function, x)
    plan = plan_of(graph, GRADIENT)
    run = sweep.forward(plan, graph.inputs)
    torch.testing.assert_close(run.value, out.detach(), rtol=0, atol=0)
    (found,) = sweep.backward(run, relevance).values()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert expected.abs().max() > 1e-3


def test_gradient_at_another_input_than_the_recorded_one() -> None:
    graph = record(reused_relu, tensor(3, 6, seed=1))
    leaf = tensor(3, 6, seed=9).requires_grad_()
    (expected,) = torch.autograd.grad(reused_relu(leaf).sum(), leaf)
    (found,) = swept(Recorded(graph.module, (leaf.detach(),)), GRADIENT)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


# --- where relevance is read ------------------------------------------------------------------------------------


def test_relevance_at_inner_nodes() -> None:
    x = tensor(3, 6, seed=1)
    graph = record(reused_relu, x)
    inner = graph.of(aten.relu.default)
    run = sweep.forward(plan_of(graph, GRADIENT), graph.inputs, keep=inner)
    found = sweep.backward(run, torch.ones_like(run.value), at=inner)
    first = x.relu()
    h = [first, (first @ L1).relu()]
    last = torch.ones_like(h[1])
    second = ((h[1] @ L2 + x) > 0).double() @ L2.T
    torch.testing.assert_close(found[inner[2]], last, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[inner[1]], second, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[inner[0]], (second * (first @ L1 > 0)) @ L1.T, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(run.values[node], value) for node, value in zip(inner[:2], h, strict=True))


def test_a_sweep_that_stops_at_a_layer() -> None:
    graph = record(reused_relu, tensor(3, 6, seed=1))
    layer = graph.of(aten.relu.default)[1]
    plan = plan_of(graph, GRADIENT, [layer])
    assert graph.placeholders[0] not in plan.active
    found = sweep.backward(sweep.forward(plan, graph.inputs), torch.ones(3, 6, dtype=torch.float64))
    assert list(found) == [layer]
    x = graph.inputs[0]
    expected = (((x.relu() @ L1).relu() @ L2 + x) > 0).double() @ L2.T
    torch.testing.assert_close(found[layer], expected, rtol=1e-12, atol=1e-12)


def test_the_output_may_be_the_input() -> None:
    graph = record(lambda x: x, tensor(2, 3))
    (found,) = swept(graph, GRADIENT, tensor(2, 3, seed=1))
    assert torch.equal(found, tensor(2, 3, seed=1))


def test_nothing_arrives_below_a_block() -> None:
    x, y = tensor(2, 3), tensor(2, 3, seed=1)
    graph = record(lambda x, y: x.relu() + y, x, y)
    relu = graph.of(aten.relu.default)
    rules: dict[object, Rule] = {relu[0]: r.Block()}
    plan = ruled(graph, lambda node: rules.get(node, r.Gradient()))
    found = sweep.backward(sweep.forward(plan, graph.inputs), torch.ones_like(x))
    first, second = (found[node] for node in graph.placeholders)
    assert torch.equal(first, torch.zeros_like(x))
    assert torch.equal(second, torch.ones_like(y))


def test_a_wanted_node_that_nothing_reaches_gets_zeros() -> None:
    x = tensor(2, 3)
    graph = record(lambda x: x.relu().tanh(), x)
    relu, tanh = graph.of(aten.relu.default)[0], graph.of(aten.tanh.default)[0]
    rules: dict[object, Rule] = {tanh: r.Block()}
    plan = ruled(graph, lambda node: rules.get(node, r.Gradient()))
    found = sweep.backward(sweep.forward(plan, graph.inputs), torch.ones_like(x), at=[relu])
    assert torch.equal(found[relu], torch.zeros_like(x))


def test_a_source_that_the_output_does_not_read_gets_zeros() -> None:
    x, y = tensor(2, 3), tensor(4, seed=1)
    graph = record(lambda x, y: x.relu(), x, y)
    first, second = swept(graph, GRADIENT)
    assert torch.equal(first, (x > 0).double())
    assert torch.equal(second, torch.zeros_like(y))


def test_several_sources() -> None:
    x, y = tensor(3, 4), tensor(4, 2, seed=1)
    graph = record(lambda x, y: torch.mm(x, y).tanh(), x, y)
    leaves = x.clone().requires_grad_(), y.clone().requires_grad_()
    expected = torch.autograd.grad((leaves[0] @ leaves[1]).tanh().sum(), leaves)
    for found, gradient in zip(swept(graph, GRADIENT), expected, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-12, atol=1e-12)


def test_values_can_be_put_in_place_of_what_a_node_computes() -> None:
    x, other = tensor(3, 6, seed=1), tensor(3, 6, seed=5)
    graph = record(reused_relu, x)
    layer = graph.of(aten.relu.default)[1]
    run = sweep.forward(plan_of(graph, GRADIENT, [layer]), graph.inputs, {layer: other})
    assert torch.equal(run.value, (other @ L2 + x).relu())
    assert torch.equal(run.sources[layer], other)


def test_integer_paths_carry_no_relevance() -> None:
    def function(x: Tensor) -> Tensor:
        best = x.argmax(1)
        signs = (x > 0).to(torch.float64)
        return x.gather(1, best[:, None]) * signs.sum(1, keepdim=True) + best[:, None].double()

    x = tensor(4, 5, seed=1)
    graph = record(function, x)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(function(leaf).sum(), leaf)
    (found,) = swept(graph, GRADIENT)
    assert torch.equal(found, expected)
    plan = plan_of(graph, GRADIENT)
    assert not any(node in plan.active for node in graph.of(aten.argmax.default))
    assert [str(node.target) for node in plan.rules] == ["aten.gather.default", "aten.mul.Tensor", "aten.add.Tensor"]


@pytest.mark.parametrize("name", NETS)
def test_a_joint_gradient_equals_the_one_node_by_node(name: str) -> None:
    """At the sources and at an inner node, twice; values are the same."""
    function, shape = NETS[name]
    graph = record(function, tensor(*shape, seed=1))
    plan = plan_of(graph, GRADIENT)
    middle = list(plan.rules)[len(plan.rules) // 2]
    inner = [middle] if isinstance(middle.meta.get("shape"), tuple) else []
    run = sweep.forward(plan, graph.inputs, keep=inner)
    expected = sweep.backward(run, torch.ones_like(run.value), inner)
    with Calls() as calls:
        together = sweep.forward(plan, graph.inputs, keep=inner, together=True)
    for target in {node.target for node in plan.rules}:
        assert calls.counts[str(target)] == len(graph.of(target)), target
    assert not together.calls
    for retain in (True, False):
        found = sweep.backward(together, torch.ones_like(run.value), inner, retain_graph=retain)
        assert found.keys() == expected.keys()
        for node in found:
            assert (found[node] - expected[node]).abs().max() <= 1e-14 * expected[node].abs().max()
            assert not found[node].requires_grad
    assert not any(value.requires_grad for value in (together.value, *together.values.values()))
    with pytest.raises(ValueError, match="watched"):
        sweep.backward(together, torch.ones_like(run.value), watch=lambda *_: None)


def test_jointly_too_nothing_flows_where_the_output_does_not_depend() -> None:
    x, y = tensor(3, seed=1), tensor(3, seed=2)
    graph = record(lambda x, y: x.relu() * 2 + torch.zeros_like(y), x, y)
    rules = ruled(graph, lambda node: r.Gradient(), graph.output)
    run = sweep.forward(rules, graph.inputs, together=True)
    found = sweep.backward(run, torch.ones(3, dtype=x.dtype))
    assert torch.equal(found[graph.placeholders[0]], 2.0 * (x > 0))
    assert torch.equal(found[graph.placeholders[1]], torch.zeros_like(y))


# --- cost: see also test_passes --------------------------------------------------------------------------------


def test_every_node_runs_once() -> None:
    graph = record(NETS["skip"][0], tensor(*IMAGE, seed=1))
    for table in (GRADIENT, composite("epsilon", CompositeParams())):
        plan = plan_of(graph, table)
        with Calls() as calls:
            sweep.forward(plan, graph.inputs)
        for target in {node.target for node in graph.module.graph.nodes if node.op == "call_function"}:
            assert calls.counts[str(target)] == len(graph.of(target)), target


def test_nodes_that_the_output_does_not_need_do_not_run() -> None:
    graph = record(lambda x: torch.cat([x.relu().tanh(), x.sigmoid()]), tensor(3))
    tanh = graph.of(aten.tanh.default)[0]
    plan = ruled(graph, lambda node: r.Gradient(), tanh)
    with Calls() as calls:
        sweep.forward(plan, graph.inputs)
    assert calls.counts["aten.sigmoid.default"] == calls.counts["aten.cat.default"] == 0
    assert calls.counts["aten.relu.default"] == calls.counts["aten.tanh.default"] == 1


# --- what is left behind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zplus", "alpha-beta", "gamma", "epsilon", "w2", "flat"])
def test_the_graph_is_not_changed_and_results_repeat(name: str) -> None:
    graph = record(skip, tensor(*IMAGE, seed=1))
    buffers = {key: value.clone() for key, value in graph.module.named_buffers()}
    before = graph.module.code, [(node.name, dict(node.meta)) for node in graph.module.graph.nodes]
    given = graph.inputs[0].clone()
    plan = plan_of(graph, composite(name, CompositeParams()))
    found = []
    for _ in range(3):
        run = sweep.forward(plan, graph.inputs)
        (relevance,) = sweep.backward(run, run.value).values()
        found.append(relevance)
        assert not relevance.requires_grad
        assert not run.calls
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(given, graph.inputs[0])
    assert before == (graph.module.code, [(node.name, dict(node.meta)) for node in graph.module.graph.nodes])
    after = dict(graph.module.named_buffers())
    assert after.keys() == buffers.keys()
    assert all(torch.equal(after[key], value) for key, value in buffers.items())
    assert not any(value.requires_grad for value in after.values())


# --- smooth activations -----------------------------------------------------------------------------------------

SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "elu": F.elu, "celu": F.celu, "selu": F.selu, "gelu": F.gelu,
    "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu, "softplus": F.softplus, "mish": F.mish,
    "logsigmoid": F.logsigmoid, "erf": torch.erf, "hardswish": F.hardswish, "leaky-relu": F.leaky_relu,
    "hardsigmoid": F.hardsigmoid, "relu6": F.relu6, "exp": torch.exp, "sin": torch.sin, "softsign": F.softsign,
    "sqrt": lambda x: torch.sqrt(x * x + 1), "log": lambda x: torch.log(x * x + 1), "pow": lambda x: (x * x + 1) ** 1.5,
    "reciprocal": lambda x: torch.reciprocal(x * x + 1), "rsqrt": lambda x: torch.rsqrt(x * x + 1),
    "logsumexp": lambda x: torch.logsumexp(x, 1, keepdim=True), "cumsum": lambda x: torch.cumsum(x, 1) ** 2,
    "prod": lambda x: x.prod(1, keepdim=True), "var": lambda x: x.var(1, keepdim=True), "norm": lambda x: x.norm(dim=1),
    "atan": torch.atan, "cosh": torch.cosh, "softmax": lambda x: torch.softmax(x, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_equal_finite_differences(name: str) -> None:
    function = SMOOTH[name]
    x = tensor(3, 4, seed=1)
    (found,) = swept(record(function, x), GRADIENT)
    step = 1e-6
    for place in range(x.numel()):
        moved_by = torch.zeros(12, dtype=torch.float64)
        moved_by[place] = step
        moved_by = moved_by.reshape(3, 4)
        slope = (function(x + moved_by).sum() - function(x - moved_by).sum()) / (2 * step)
        assert found.reshape(-1)[place].item() == pytest.approx(slope.item(), rel=1e-6, abs=1e-8)
