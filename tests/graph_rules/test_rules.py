"""Every rule on every linear operator against its explicit matrix form, in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from graph_rules import rules as r
from graph_rules import sweep
from graph_rules.errors import RuleError
from graph_rules.rule import Rule
from tests.graph_rules import naive
from tests.graph_rules.graphs import aten, record, ruled, swept, tensor

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
EPSILON = 0.1  # large enough to be seen, and no binary fraction


@dataclass(frozen=True)
class Operator:
    """A linear operator: its input's shape, its weights and the call."""

    shape: tuple[int, ...]
    weight: tuple[int, ...]
    bias: tuple[int, ...] | None
    call: Callable[[Tensor, Tensor, Tensor | None], Tensor]


def convolution(
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int = 1,
    transposed: bool = False,
    extra: int = 0,
) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    out = [extra] * len(stride)
    return lambda x, w, b: aten.convolution.default(x, w, b, stride, padding, dilation, transposed, out, groups)


def addmm(beta: float = 1, alpha: float = 1) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    return lambda x, w, b: aten.mm(x, w) if b is None else torch.addmm(b, x, w, beta=beta, alpha=alpha)


OPERATORS = {
    "conv1d": Operator((2, 3, 7), (4, 3, 3), (4,), convolution([2], [1], [1])),
    "conv2d": Operator((2, 2, 5, 4), (3, 2, 3, 2), (3,), convolution([1, 1], [1, 0], [1, 1])),
    "conv2d-strided-dilated": Operator((1, 2, 7, 7), (2, 2, 3, 3), (2,), convolution([2, 2], [2, 1], [2, 1])),
    "conv2d-grouped": Operator((1, 4, 4, 4), (6, 2, 2, 2), (6,), convolution([1, 1], [0, 1], [1, 1], 2)),
    "conv2d-depthwise": Operator((1, 3, 4, 4), (3, 1, 3, 3), (3,), convolution([1, 1], [1, 1], [1, 1], 3)),
    "conv3d": Operator((1, 2, 3, 3, 3), (2, 2, 2, 2, 2), (2,), convolution([1] * 3, [1, 0, 0], [1] * 3)),
    "conv1d-transposed": Operator((1, 3, 4), (3, 2, 3), (2,), convolution([2], [1], [1], 1, True, 1)),
    "conv2d-transposed-grouped": Operator(
        (1, 4, 3, 3), (4, 1, 2, 2), (2,), convolution([2, 2], [0, 0], [1, 1], 2, True)
    ),
    "mm": Operator((3, 4), (4, 5), None, lambda x, w, b: torch.mm(x, w)),
    "mm-constant-left": Operator((4, 3), (5, 4), None, lambda x, w, b: torch.mm(w, x)),
    "addmm": Operator((3, 4), (4, 5), (5,), addmm()),
    "addmm-full-bias": Operator((3, 4), (4, 5), (3, 5), addmm()),
    "addmm-scaled": Operator((3, 4), (4, 5), (5,), addmm(beta=0.5, alpha=2.0)),
    "addmm-negative": Operator((3, 4), (4, 5), (5,), addmm(beta=-1.5, alpha=-0.5)),
    "addmm-constant-left": Operator(
        (4, 3), (5, 4), (5, 1), lambda x, w, b: torch.mm(w, x) if b is None else torch.addmm(b, w, x)
    ),
    "bmm": Operator((2, 3, 4), (2, 4, 2), None, lambda x, w, b: torch.bmm(x, w)),
    "bmm-constant-left": Operator((2, 4, 3), (2, 2, 4), None, lambda x, w, b: torch.bmm(w, x)),
    "baddbmm": Operator(
        (2, 3, 4), (2, 4, 2), (2, 1, 2), lambda x, w, b: torch.bmm(x, w) if b is None else torch.baddbmm(b, x, w)
    ),
    "mv-active-matrix": Operator((3, 4), (4,), None, lambda x, w, b: torch.mv(x, w)),
    "mv-active-vector": Operator((4,), (3, 4), None, lambda x, w, b: torch.mv(w, x)),
    "addmv": Operator((4,), (3, 4), (3,), lambda x, w, b: torch.mv(w, x) if b is None else torch.addmv(b, w, x)),
    "dot": Operator((4,), (4,), None, lambda x, w, b: torch.dot(x, w)),
}
WITH_BIAS = [
    (name, with_bias) for name, op in OPERATORS.items() for with_bias in ((False, True) if op.bias else (False,))
]


@dataclass
class Case:
    """One operator on one input: the recorded graph, and the operator as a matrix."""

    operator: Operator
    weight: Tensor
    bias: Tensor | None
    relu: bool

    def __post_init__(self) -> None:
        self.x = tensor(*self.operator.shape, seed=3)
        if self.relu:  # the graph shows that what the operator reads is not negative
            self.graph = record(lambda x: self.operator.call(torch.relu(x), self.weight, self.bias), self.x)
        else:
            self.graph = record(lambda x: self.operator.call(x, self.weight, self.bias), self.x)
        self.W, self.b = naive.affine(lambda x: self.operator.call(x, self.weight, self.bias), self.operator.shape)
        self.a = (torch.relu(self.x) if self.relu else self.x).numpy().reshape(-1)
        self.z = self.W @ self.a + self.b
        self.R = tensor(*self.graph.output.meta["shape"], seed=4)
        self.flat_R = self.R.numpy().reshape(-1)

    def ours(self, rule: Rule) -> np.ndarray:
        """Relevance of what the operator reads."""
        sources = self.graph.of(aten.relu.default) if self.relu else None
        (found,) = swept(self.graph, rule, self.R, sources)
        assert found.shape == self.operator.shape
        assert found.dtype == torch.float64
        return found.numpy().reshape(-1)

    def taps(self) -> np.ndarray:
        """1 where an output is connected to an input."""
        ones = torch.ones_like(self.weight)
        pattern, _ = naive.affine(lambda x: self.operator.call(x, ones, None), self.operator.shape)
        return (pattern != 0).astype(np.float64)


@functools.cache
def make(name: str, with_bias: bool, relu: bool) -> Case:
    operator = OPERATORS[name]
    bias = tensor(*operator.bias, seed=2) if with_bias and operator.bias else None
    return Case(operator, tensor(*operator.weight, seed=1), bias, relu)


@pytest.fixture(params=WITH_BIAS, ids=lambda p: p[0] + ("+bias" if p[1] else ""))
def chosen(request: pytest.FixtureRequest) -> tuple[str, bool]:
    name, with_bias = request.param
    return name, with_bias


@pytest.fixture(params=[False, True], ids=["mixed", "non-negative"])
def case(request: pytest.FixtureRequest, chosen: tuple[str, bool]) -> Case:
    return make(*chosen, relu=request.param)


@pytest.fixture(params=[False, True], ids=["bias", "zero-bias"])
def zero_bias(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_probing_gives_the_operator(case: Case) -> None:
    z = case.operator.call(torch.from_numpy(case.a).reshape(case.operator.shape), case.weight, case.bias)
    np.testing.assert_allclose(case.z, z.numpy().reshape(-1), **CLOSE)
    if case.operator.bias and case.bias is not None:
        assert np.abs(case.b).max() > 0.1


@pytest.mark.parametrize("epsilon", [0.0, EPSILON])
def test_epsilon(case: Case, zero_bias: bool, epsilon: float) -> None:
    b = case.b * (not zero_bias)
    expected = naive.epsilon_rule(case.W, b, case.a, case.flat_R, epsilon)
    np.testing.assert_allclose(case.ours(r.Epsilon(epsilon, zero_bias)), expected, **CLOSE)


def test_zplus(case: Case, zero_bias: bool) -> None:
    b = case.b * (not zero_bias)
    expected = naive.zplus(case.W, b, case.a, case.flat_R, EPSILON)
    np.testing.assert_allclose(case.ours(r.AlphaBeta(1.0, 0.0, EPSILON, zero_bias)), expected, **CLOSE)


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 1.0), (1.5, 0.5)])
def test_alpha_beta(case: Case, zero_bias: bool, alpha: float, beta: float) -> None:
    b = case.b * (not zero_bias)
    expected = naive.alpha_beta(case.W, b, case.a, case.flat_R, alpha, beta, EPSILON)
    np.testing.assert_allclose(case.ours(r.AlphaBeta(alpha, beta, EPSILON, zero_bias)), expected, **CLOSE)


@pytest.mark.parametrize("gamma", [0.0, 0.25, 10.0])
def test_gamma(case: Case, zero_bias: bool, gamma: float) -> None:
    b = case.b * (not zero_bias)
    expected = naive.gamma_rule(case.W, b, case.a, case.flat_R, gamma, EPSILON, case.z)
    np.testing.assert_allclose(case.ours(r.Gamma(gamma, EPSILON, zero_bias)), expected, **CLOSE)


def test_w_square(case: Case, zero_bias: bool) -> None:
    b = case.b * (not zero_bias)
    expected = naive.w_square(case.W, b, case.flat_R, EPSILON)
    np.testing.assert_allclose(case.ours(r.WSquare(EPSILON, zero_bias)), expected, **CLOSE)


def test_flat(case: Case) -> None:
    expected = naive.flat(case.taps(), case.flat_R, EPSILON)
    np.testing.assert_allclose(case.ours(r.Flat(EPSILON)), expected, **CLOSE)


def test_z_box(chosen: tuple[str, bool]) -> None:
    case = make(*chosen, relu=False)
    low, high = np.full(len(case.a), -4.0), np.full(len(case.a), 5.0)
    expected = naive.z_box(case.W, case.a, case.flat_R, low, high, EPSILON)
    np.testing.assert_allclose(case.ours(r.ZBox(-4.0, 5.0, EPSILON)), expected, **CLOSE)


def test_z_box_takes_bounds_per_channel() -> None:
    case = Case(OPERATORS["conv2d"], tensor(3, 2, 3, 2, seed=1), tensor(3, seed=2), relu=False)
    low, high = (-4.0, -5.0), (4.5, 5.5)

    def spread(bound: tuple[float, ...]) -> np.ndarray:
        return np.broadcast_to(np.reshape(bound, (1, 2, 1, 1)), case.operator.shape).reshape(-1)

    expected = naive.z_box(case.W, case.a, case.flat_R, spread(low), spread(high), EPSILON)
    np.testing.assert_allclose(case.ours(r.ZBox(low, high, EPSILON)), expected, **CLOSE)


def test_z_box_refuses_bounds_that_fit_no_channel() -> None:
    case = Case(OPERATORS["conv2d"], tensor(3, 2, 3, 2, seed=1), None, relu=False)
    with pytest.raises(ValueError, match="3 bounds"):
        case.ours(r.ZBox((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))


def test_z_box_refuses_bounds_of_different_lengths() -> None:
    with pytest.raises(RuleError, match="different numbers of channels"):
        r.ZBox((0.0, 0.0), (1.0, 1.0, 1.0))


def test_z_box_bounds_are_carried_through_a_normalisation() -> None:
    """Bounds of the input, a layer that reads -(x - m) / s: the low corner becomes the high one."""
    x, w = tensor(1, 2, 4, seed=1).clamp(-1, 1), tensor(3, 2, 2, seed=2)
    mean, deviation = tensor(1, 2, 1, seed=3), torch.tensor([[[-0.5], [2.0]]], dtype=torch.float64)
    call = convolution([1], [0], [1])
    graph = record(lambda x: call((x - mean) / deviation, w, None), x)
    inner = graph.of(aten.div.Tensor)[0]
    table = {graph.output: r.ZBox(-1.0, 1.0, EPSILON)}
    R = tensor(*graph.output.meta["shape"], seed=4)
    plan = ruled(graph, lambda node: table.get(node, r.Pass()))
    found = sweep.backward(sweep.forward(plan, graph.inputs, keep=[inner]), R, at=[inner])[inner]
    W, _ = naive.affine(lambda v: call(v, w, None), (1, 2, 4))
    ends = [((bound - mean) / deviation).expand(1, 2, 4).numpy().reshape(-1) for bound in (-1.0, 1.0)]
    a = ((x - mean) / deviation).numpy().reshape(-1)
    expected = naive.z_box(W, a, R.numpy().reshape(-1), np.minimum(*ends), np.maximum(*ends), EPSILON)
    np.testing.assert_allclose(found.numpy().reshape(-1), expected, **CLOSE)


def test_z_box_of_a_second_input_uses_that_input() -> None:
    """Two inputs with a convolution each: each layer's bounds are those of the input that it reads."""
    x, y = tensor(1, 2, 5, seed=1).clamp(-1, 1), tensor(1, 2, 5, seed=2).clamp(-1, 1)
    first, second, call = tensor(3, 2, 2, seed=3), tensor(3, 2, 2, seed=4), convolution([1], [0], [1])
    graph = record(lambda x, y: torch.cat([call(x, first, None), call(y, second, None)], 1), x, y)
    R = tensor(*graph.output.meta["shape"], seed=5)

    layers = graph.of(aten.convolution.default)
    plan = ruled(graph, lambda node: r.ZBox(-1.0, 1.0, EPSILON) if node in layers else r.Gradient())
    found = sweep.backward(sweep.forward(plan, graph.inputs), R)
    for node, value, w, part in zip(graph.placeholders, (x, y), (first, second), R.split(3, 1), strict=True):
        W, _ = naive.affine(lambda v, w=w: call(v, w, None), (1, 2, 5))
        box = np.ones(10)
        expected = naive.z_box(W, value.numpy().reshape(-1), part.numpy().reshape(-1), -box, box, EPSILON)
        np.testing.assert_allclose(found[node].numpy().reshape(-1), expected, **CLOSE)


# --- elementwise rules ------------------------------------------------------------------------------------------


def test_gradient_of_a_linear_operator(case: Case) -> None:
    np.testing.assert_allclose(case.ours(r.Gradient()), case.W.T @ case.flat_R, **CLOSE)


def test_guided_relu() -> None:
    x, R = tensor(4, 5), tensor(4, 5, seed=1)
    (found,) = swept(record(torch.relu, x), r.GuidedReLU(), R)
    assert torch.equal(found, torch.where((x > 0) & (R > 0), R, 0.0))


def test_deconvnet_relu() -> None:
    x, R = tensor(4, 5), tensor(4, 5, seed=1)
    (found,) = swept(record(torch.relu, x), r.DeconvNetReLU(), R)
    assert torch.equal(found, torch.where(R > 0, R, 0.0))


def test_pass_keeps_relevance_at_dead_units() -> None:
    x, R = tensor(4, 5), tensor(4, 5, seed=1)
    (found,) = swept(record(torch.relu, x), r.Pass(), R)
    assert torch.equal(found, R)


def test_pass_sums_what_a_value_was_broadcast_to() -> None:
    x, c, R = tensor(2, 1, 3), tensor(4, 3, seed=1), tensor(2, 4, 3, seed=2)
    (found,) = swept(record(lambda x: x + c, x), r.Pass(), R)
    assert torch.equal(found, R.sum(1, keepdim=True))
    (found,) = swept(record(lambda x: x * c, tensor(3)), r.Pass(), R := tensor(4, 3, seed=2))
    assert torch.equal(found, R.sum(0))


def test_block_stops() -> None:
    (found,) = swept(record(torch.relu, tensor(4)), r.Block())
    assert torch.equal(found, torch.zeros(4, dtype=torch.float64))


def test_norm_shares_a_sum_by_contribution() -> None:
    x, y, R = tensor(3, 4), tensor(3, 4, seed=1), tensor(3, 4, seed=2)
    first, second = swept(record(lambda x, y: torch.add(x, y, alpha=-2), x, y), r.Epsilon(EPSILON), R)
    for found, part in ((first, x), (second, -2 * y)):
        z = (x - 2 * y).numpy()
        expected = part.numpy() * R.numpy() / np.where(z >= 0, z + EPSILON, z - EPSILON)
        np.testing.assert_allclose(found.numpy(), expected, **CLOSE)


def test_norm_shares_a_broadcast_sum_by_contribution() -> None:
    x, y, R = tensor(3, 1), tensor(2, 3, 4, seed=1), tensor(2, 3, 4, seed=2)
    first, second = swept(record(lambda x, y: x + y, x, y), r.Epsilon(EPSILON), R)
    z = (x + y).numpy()
    s = R.numpy() / np.where(z >= 0, z + EPSILON, z - EPSILON)
    np.testing.assert_allclose(first.numpy(), x.numpy() * s.sum(0).sum(-1, keepdims=True), **CLOSE)
    np.testing.assert_allclose(second.numpy(), y.numpy() * s, **CLOSE)


@pytest.mark.parametrize(
    "average",
    [
        lambda x: x.mean((2, 3)),
        lambda x: torch.nn.functional.avg_pool2d(x, 2, 2, 1, count_include_pad=False),
        lambda x: x.sum(1),
    ],
    ids=["mean", "avg_pool2d", "sum"],
)
def test_norm_shares_an_average_by_contribution(average: Callable[[Tensor], Tensor]) -> None:
    x = tensor(1, 2, 4, 4)
    graph = record(average, x)
    R = tensor(*graph.output.meta["shape"], seed=1)
    (found,) = swept(graph, r.Epsilon(EPSILON), R)
    W, b = naive.affine(average, (1, 2, 4, 4))
    expected = naive.epsilon_rule(W, b, x.numpy().reshape(-1), R.numpy().reshape(-1), EPSILON)
    np.testing.assert_allclose(found.numpy().reshape(-1), expected, **CLOSE)


def test_norm_of_a_multi_output_operator() -> None:
    """Max pooling gives values and indices: relevance arrives for the values alone."""
    x = tensor(1, 1, 4, 4).abs()
    graph = record(lambda x: torch.max_pool2d(x, 2), x)
    (found,) = swept(graph, r.Epsilon(0.0))
    W, _ = naive.affine(
        lambda v: v * (x == torch.nn.functional.interpolate(torch.max_pool2d(x, 2), scale_factor=2)), (1, 1, 4, 4)
    )
    np.testing.assert_allclose(found.numpy().reshape(-1), np.diag(W), **CLOSE)


def test_signal_takes_all_leaves_the_gate_nothing() -> None:
    x, y, R = tensor(2, 3, 4), tensor(2, 3, 1, seed=1), tensor(2, 3, 4, seed=2)
    graph = record(lambda x, y: torch.sigmoid(y) * x, x, y)
    rules = {graph.output: r.SignalTakesAll()}
    plan = ruled(graph, lambda node: rules.get(node, r.Pass()))
    found = sweep.backward(sweep.forward(plan, graph.inputs), R)
    first, second = (found[node] for node in graph.placeholders)
    assert torch.equal(first, R)
    assert torch.equal(second, torch.zeros_like(y))


def test_signal_takes_all_of_a_broadcast_signal() -> None:
    x, y, R = tensor(3, 1), tensor(2, 3, 4, seed=1), tensor(2, 3, 4, seed=2)
    graph = record(lambda x, y: torch.softmax(y, -1) * x, x, y)
    rules = {graph.output: r.SignalTakesAll()}
    plan = ruled(graph, lambda node: rules.get(node, r.Pass()))
    found = sweep.backward(sweep.forward(plan, graph.inputs), R)
    torch.testing.assert_close(found[graph.placeholders[0]], R.sum(0).sum(-1, keepdim=True), rtol=1e-12, atol=1e-12)


def test_shared_halves_a_product() -> None:
    x, y, R = tensor(3, 4), tensor(2, 3, 1, seed=1), tensor(2, 3, 4, seed=2)
    first, second = swept(record(lambda x, y: x * y, x, y), r.Shared(), R)
    torch.testing.assert_close(first, R.sum(0) / 2, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(second, R.sum(-1, keepdim=True) / 2, rtol=1e-12, atol=1e-12)


def test_shared_of_a_square_gives_everything_back() -> None:
    x, R = tensor(3, 4), tensor(3, 4, seed=1)
    (found,) = swept(record(lambda x: x * x, x), r.Shared(), R)
    torch.testing.assert_close(found, R, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", [r.Epsilon(), r.AlphaBeta(), r.Gamma(), r.WSquare(), r.Flat(), r.ZBox(-3.0, 3.0)])
def test_half_precision_stays_half_precision(rule: Rule) -> None:
    """A model in float16 is explained in float16: a denominator's stabiliser must not widen what it is added to."""
    x, w = tensor(2, 3, seed=1, dtype=torch.float16), tensor(3, 4, seed=2, dtype=torch.float16)
    (found,) = swept(record(lambda x: torch.mm(x, w), x), rule)
    assert found.dtype == torch.float16
