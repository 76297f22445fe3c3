"""Difference rules: the sum is kept for every operator, in both dtypes; reveal-cancel as written in the paper."""

from __future__ import annotations

from collections.abc import Callable

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from graph_rules import sweep
from graph_rules.deeplift import TABLES, DifferenceTable, disjoint, selecting
from graph_rules.errors import MissingRuleError
from tests.graph_rules.graphs import plan_of, record, tensor

RESCALE, REVEAL_CANCEL = TABLES["rescale", "exact"], TABLES["reveal-cancel", "exact"]

W, B, L1, L2 = tensor(4, 3, 3, 3, seed=1), tensor(4, seed=2), tensor(6, 6, seed=3), tensor(6, 6, seed=4)
IMAGE, ROWS = (2, 3, 6, 8), (3, 6)


def attributed(
    function: Callable[..., Tensor],
    x: Tensor,
    x0: Tensor,
    table: DifferenceTable = RESCALE,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attribution of the weighted output, and what it should sum to."""
    graph = record(function, x)
    plan = plan_of(graph, table)
    run = sweep.compare(sweep.forward(plan, [x]), sweep.forward(plan, [x0]))
    m = torch.linspace(-1, 2, run.value.numel(), dtype=x.dtype).reshape(run.value.shape) if weights is None else weights
    expected = (m * (run.value - sweep.forward(plan, [x0]).value)).sum()
    (found,) = sweep.backward(run, m).values()
    return found * (x - x0), expected


def attention(x: Tensor) -> Tensor:
    q, k = x @ L1.to(x.dtype), x @ L2.to(x.dtype)
    mask = torch.ones(3, 3, dtype=torch.bool).triu(1)
    return torch.softmax((q @ k.T).masked_fill(mask, -torch.inf), -1) @ x


OPERATORS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "conv": (lambda x: F.conv2d(x, W.to(x.dtype), B.to(x.dtype), padding=1), IMAGE),
    "relu": (F.relu, ROWS), "gelu": (F.gelu, ROWS), "gelu-tanh": (lambda x: F.gelu(x, approximate="tanh"), ROWS),
    "silu": (F.silu, ROWS), "hardswish": (lambda x: F.hardswish(2 * x), ROWS), "softplus": (F.softplus, ROWS),
    "sigmoid": (torch.sigmoid, ROWS), "elu": (F.elu, ROWS), "abs": (torch.abs, ROWS), "floor": (torch.floor, ROWS),
    "clamp": (lambda x: x.clamp(-0.5, 0.7), ROWS), "exp": (torch.exp, ROWS), "log": (lambda x: (x**2 + 0.1).log(), ROWS),
    "sqrt": (lambda x: (x.abs() + 0.1).sqrt(), ROWS), "cube": (lambda x: x**3, ROWS), "square": (lambda x: x * x, ROWS),
    "power": (lambda x: (x.abs() + 0.5) ** x, ROWS), "product": (lambda x: x * x.tanh() * x.sum(), ROWS),
    "quotient": (lambda x: x / (1 + x.exp()), ROWS), "over": (lambda x: 2 / (1 + x**2), ROWS),
    "sign-changing quotient": (lambda x: x.cos() / (x + 0.01), ROWS), "self-quotient": (lambda x: x / x.exp() / x, ROWS),
    "softmax": (lambda x: torch.softmax(3 * x, -1), ROWS), "sharp": (lambda x: torch.softmax(200 * x, -1), ROWS),
    "log-softmax": (lambda x: torch.log_softmax(5 * x, 0), ROWS), "lse": (lambda x: x.logsumexp(1), ROWS),
    "attention": (attention, ROWS),
    "layer-norm": (lambda x: F.layer_norm(x, (6,), L1[0].to(x.dtype), L1[1].to(x.dtype)), ROWS),
    "group-norm": (lambda x: F.group_norm(F.conv2d(x, W.to(x.dtype)), 2, B.to(x.dtype)), IMAGE),
    "instance-norm": (lambda x: F.instance_norm(x), IMAGE), "rms": (lambda x: x * (x.square().mean(-1, True) + 1).rsqrt(), ROWS),
    "batch-norm": (lambda x: F.batch_norm(x, torch.zeros(3, dtype=x.dtype), torch.ones(3, dtype=x.dtype)), IMAGE),
    "variance": (lambda x: x.var(-1), ROWS), "deviation": (lambda x: x.std(-1), ROWS),
    "max-pool": (lambda x: F.max_pool2d(x, 2), IMAGE), "overlapping": (lambda x: F.max_pool2d(x, 3, 1, 1), IMAGE),
    "strided": (lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), IMAGE), "amax": (lambda x: x.amax((1, 3)), IMAGE),
    "amin": (lambda x: x.amin(1), ROWS), "max": (lambda x: x.max(1)[0], ROWS), "top": (lambda x: x.topk(3, 1)[0], ROWS),
    "sort": (lambda x: x.sort(0)[0], ROWS), "maximum": (lambda x: torch.maximum(x, x.flip(1)), ROWS),
    "minimum": (lambda x: torch.minimum(x @ L1.to(x.dtype), x), ROWS), "prod": (lambda x: x.prod(1), ROWS),
    "norm": (lambda x: x.norm(dim=1), ROWS), "norm-1": (lambda x: x.norm(p=1, dim=1), ROWS),
    "where": (lambda x: torch.where(x > 0, x, 0.1 * x), ROWS), "cat": (lambda x: torch.cat([x, x * x], 1).flip(0), ROWS),
    "masked": (lambda x: x * (x > 0.3).to(x.dtype), ROWS), "cumsum": (lambda x: x.cumsum(1), ROWS),
    "resized": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), IMAGE),
    "embedding": (lambda x: x[:, [1, 1, 0]] + x.index_select(0, torch.tensor([1, 1, 2]))[:, :3], ROWS),
    "gates": (lambda x: (x @ L1.to(x.dtype)).sigmoid() * (x @ L2.to(x.dtype)).tanh(), ROWS),
}  # fmt: skip


@pytest.mark.parametrize("start", ["other", "zero", "near", "same"])
@pytest.mark.parametrize("name", OPERATORS)
def test_the_sum_is_kept(name: str, start: str) -> None:
    function, shape = OPERATORS[name]
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        x, other = tensor(*shape, seed=5, dtype=dtype), tensor(*shape, seed=6, dtype=dtype)
        x0 = {
            "other": other,
            "zero": 0 * x,
            "near": x + (1e-6 if dtype is torch.float64 else 1e-2) * other,
            "same": x.clone(),
        }[start]
        if name == "self-quotient" and start == "zero":
            x0 = x0 + 1
        shares, expected = attributed(function, x, x0)
        assert torch.isfinite(shares).all()
        scale = max(float(expected.abs()), float(shares.abs().sum()), 1e-3 * float(function(x).abs().max()))
        assert abs(float(shares.sum() - expected)) <= tolerance * scale


@pytest.mark.parametrize(
    "name", ["gelu", "softmax", "attention", "layer-norm", "group-norm", "quotient", "lse", "norm"]
)
def test_without_a_difference_multipliers_are_gradients(name: str) -> None:
    function, shape = OPERATORS[name]
    x = tensor(*shape, seed=5)
    graph = record(function, x)
    plan = plan_of(graph, RESCALE)
    run = sweep.compare(sweep.forward(plan, [x]), sweep.forward(plan, [x.clone()]))
    weights = tensor(*run.value.shape, seed=7)
    (found,) = sweep.backward(run, weights).values()
    leaf = x.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(function(leaf), leaf, weights)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_equal_to_captum_where_its_rules_are_exact() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2), nn.Sigmoid(), nn.Flatten(), nn.Linear(10, 6)]
    net = nn.Sequential(*layers, nn.ReLU(), nn.Linear(6, 3)).double()
    x, x0 = tensor(*IMAGE, seed=5), tensor(*IMAGE, seed=6)
    expected = captum.attr.DeepLift(net).attribute(x, x0, target=1).detach()
    weights = torch.zeros(2, 3, dtype=torch.float64)
    weights[:, 1] = 1
    found, _ = attributed(lambda v: net(v), x, x0, weights=weights)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def naive_reveal_cancel(ws: list[np.ndarray], bs: list[np.ndarray], x: np.ndarray, x0: np.ndarray) -> np.ndarray:
    """Contributions in a ReLU network of one output, as in section 3.5.2: the chain rule over signed multipliers."""

    def relu(v: np.ndarray) -> np.ndarray:
        return np.maximum(v, 0)

    def side(contribution: float, up: float, down: float) -> float:
        return (up + down) / 2 if contribution == 0 else up if contribution > 0 else down

    values, starts = [x], [x0]
    for i, (w, b) in enumerate(zip(ws, bs, strict=True)):
        last = i == len(ws) - 1
        z, z0 = w @ values[-1] + b, w @ starts[-1] + b
        values.append(z if last else relu(z))
        starts.append(z0 if last else relu(z0))
    m = np.ones(1)
    for i in reversed(range(len(ws))):
        w, dx = ws[i], values[i] - starts[i]
        if i == len(ws) - 1:
            up = down = m
        else:
            z0 = w @ starts[i] + bs[i]
            plus, minus = ((w * dx) * (w * dx > 0)).sum(1), ((w * dx) * (w * dx < 0)).sum(1)
            y_plus = (relu(z0 + plus) - relu(z0) + relu(z0 + plus + minus) - relu(z0 + minus)) / 2
            y_minus = (relu(z0 + minus) - relu(z0) + relu(z0 + plus + minus) - relu(z0 + plus)) / 2
            up = np.array([v * a / b if b else 0.0 for v, a, b in zip(m, y_plus, plus, strict=True)])
            down = np.array([v * a / b if b else 0.0 for v, a, b in zip(m, y_minus, minus, strict=True)])
        m = np.array(
            [sum(w[j, k] * side(w[j, k] * dx[k], up[j], down[j]) for j in range(len(w))) for k in range(len(dx))]
        )
    return m * (x - x0)


@pytest.mark.parametrize("seed", range(4))
def test_reveal_cancel_equals_the_papers_formulas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ws = [rng.standard_normal(s) for s in ((5, 4), (6, 5), (1, 6))]
    bs = [rng.standard_normal(len(w)) for w in ws]
    x, x0 = rng.standard_normal(4), rng.standard_normal(4)

    def net(v: Tensor) -> Tensor:
        for i, (w, b) in enumerate(zip(ws, bs, strict=True)):
            v = F.linear(v, torch.from_numpy(w), torch.from_numpy(b))
            v = v if i == len(ws) - 1 else F.relu(v)
        return v

    one = torch.ones(1, 1, dtype=torch.float64)
    found, expected = attributed(net, torch.from_numpy(x)[None], torch.from_numpy(x0)[None], REVEAL_CANCEL, one)
    np.testing.assert_allclose(found[0].numpy(), naive_reveal_cancel(ws, bs, x, x0), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.sum(), expected)


@pytest.mark.parametrize("name", ["skip", "moved", "shared"])
def test_reveal_cancel_keeps_the_sum_where_values_are_moved_and_shared(name: str) -> None:
    w, b = W, B

    def net(x: Tensor) -> Tensor:
        z = F.conv2d(x, w, b, padding=1)
        if name == "moved":
            return (z.permute(0, 2, 3, 1).reshape(-1, 4) + b).relu().sum(1)
        return z.relu() * 2 + (z if name == "skip" else z.sigmoid())

    x, x0 = tensor(*IMAGE, seed=5), tensor(*IMAGE, seed=6)
    shares, expected = attributed(net, x, x0, REVEAL_CANCEL)
    torch.testing.assert_close(shares.sum(), expected)


def test_what_chooses_other_elements_is_named() -> None:
    x = tensor(*ROWS, seed=5)
    graph = record(lambda v: v.gather(1, v.argmax(1, keepdim=True)), x)
    plan = plan_of(graph, RESCALE)
    run = sweep.compare(sweep.forward(plan, [x]), sweep.forward(plan, [-x]))
    assert len(selecting(run)) == 1


def test_an_operator_without_a_rule_is_an_error() -> None:
    graph = record(lambda v: torch.special.bessel_j0(v), tensor(*ROWS))
    with pytest.raises(MissingRuleError, match="bessel"):
        plan_of(graph, RESCALE)


POOLS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "two by two": (lambda x: F.max_pool2d(x, 2), True),
    "gaps": (lambda x: F.max_pool2d(x, 2, 3), True),
    "overlapping": (lambda x: F.max_pool2d(x, 3, 2, 1), False),
    "dilated": (lambda x: F.max_pool2d(x, 2, 2, dilation=2), False),
    "one axis overlapping": (lambda x: F.max_pool2d(x, (2, 3), 2), False),
    "adaptive": (lambda x: F.adaptive_max_pool2d(x, (3, 4)), True),
    "adaptive, uneven": (lambda x: F.adaptive_max_pool2d(x, (4, 4)), False),
    "over an axis": (lambda x: x.amax(-1), True),
}


@pytest.mark.parametrize("name", POOLS)
def test_where_windows_are_disjoint(name: str) -> None:
    function, expected = POOLS[name]
    assert any(map(disjoint, record(function, tensor(*IMAGE)).module.graph.nodes)) == expected


@pytest.mark.parametrize("name", POOLS)
def test_pooling_by_the_gradient_only_where_it_was_asked_for(name: str) -> None:
    """The winner of the explained input takes the multiplier itself; elsewhere the sum is kept."""
    function, apart = POOLS[name]
    x, x0 = tensor(*IMAGE, seed=8), tensor(*IMAGE, seed=9)
    leaf = x.clone().requires_grad_()
    out = function(leaf)
    m = torch.linspace(-1, 2, out.numel(), dtype=x.dtype).reshape(out.shape)
    (gradient,) = torch.autograd.grad(out, leaf, m)
    for pooling, by_gradient in (("gradient", True), ("auto", apart), ("exact", False)):
        found, expected = attributed(function, x, x0, TABLES["rescale", pooling])
        assert torch.allclose(found, gradient * (x - x0)) == by_gradient
        assert torch.allclose(found.sum(), expected) or by_gradient
