"""Rules of attention and normalisation against their explicit forms and modified gradients; spellings agree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from analyzer import load
from analyzer.model import Model
from graph_rules import attention as a
from graph_rules.composites import CompositeParams, composite
from tests.graph_rules.graphs import record, swept, tensor
from tests.graph_rules.transformers import Transformer, gradient_times_input, made, onnx_files, proportional

TINY = 1e-12


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


# --- single rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [1e-9, 0.1])
def test_each_factor_of_a_computed_product_takes_half_by_contribution(epsilon: float) -> None:
    left, right, relevance = tensor(2, 3, 4), tensor(2, 4, 5, seed=1), tensor(2, 3, 5, seed=2)
    found = swept(record(torch.bmm, left, right), a.Bilinear(epsilon), relevance)
    contribution = left[:, :, :, None] * right[:, None, :, :]  # batch, row, inner, column
    z = contribution.sum(2)
    s = relevance / (2 * z + torch.full_like(z, epsilon).copysign(z))
    close(found[0], (contribution * s[:, :, None, :]).sum(3))
    close(found[1], (contribution * s[:, :, None, :]).sum(1))


def test_what_is_added_to_a_computed_product_takes_its_own_share() -> None:
    addend, left, right = tensor(2, 3, 5, seed=3), tensor(2, 3, 4), tensor(2, 4, 5, seed=1)
    relevance = tensor(2, 3, 5, seed=2)
    found = swept(record(torch.baddbmm, addend, left, right), a.Bilinear(TINY), relevance)
    z = addend + left @ right
    close(found[0], addend * relevance / z)
    close(found[1].sum(), ((left @ right) * relevance / z).sum() / 2)
    close(sum(part.sum() for part in found), relevance.sum())  # type: ignore[arg-type]


def test_values_take_all_from_attention_weights() -> None:
    scores, values, relevance = tensor(2, 3, 4), tensor(2, 4, 5, seed=1), tensor(2, 3, 5, seed=2)
    graph = record(lambda s, v: torch.bmm(s.softmax(-1), v), scores, values)
    table = composite("epsilon", CompositeParams(stabilizer=TINY))
    found = swept(graph, table, relevance)
    weights = scores.softmax(-1)
    close(found[1], values * (weights.mT @ (relevance / (weights @ values))))
    assert not found[0].any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_is_expanded_at_its_input(axis: int) -> None:
    x, relevance = tensor(3, 4, 2), tensor(3, 4, 2, seed=1)
    found = swept(record(lambda v: v.softmax(axis), x), a.Softmax(), relevance)[0]
    close(found, x * (relevance - x.softmax(axis) * relevance.sum(axis, keepdim=True)))


def test_masked_scores_take_nothing() -> None:
    x = tensor(2, 4)
    x[0, 1], x[1, 2] = -torch.inf, torch.finfo(torch.float64).min
    relevance = tensor(2, 4, seed=1) * x.softmax(-1)
    found = swept(record(lambda v: v.softmax(-1), x), a.Softmax(), relevance)[0]
    assert torch.isfinite(found).all() and not found[0, 1] and not found[1, 2]


def test_log_softmax_shares_by_contribution() -> None:
    x, relevance = tensor(2, 4), tensor(2, 4, seed=1)
    found = swept(record(lambda v: v.log_softmax(-1), x), a.Softmax(TINY), relevance)[0]
    s = relevance / x.log_softmax(-1)
    close(found, x * (s - x.softmax(-1) * s.sum(-1, keepdim=True)))


@pytest.mark.parametrize("epsilon", [TINY, 0.1])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_normalisation_holds_its_deviation_constant(affine: bool, epsilon: float) -> None:
    x, relevance = tensor(2, 3, 4, 5), tensor(2, 3, 4, 5, seed=1)
    g, h = (tensor(4, 5, seed=2), tensor(4, 5, seed=3)) if affine else (torch.ones(()), torch.zeros(()))
    graph = record(lambda v: F.layer_norm(v, (4, 5), *((g, h) if affine else ())), x)
    found = swept(graph, a.Normalisation(epsilon), relevance)[0]
    close(found, naive_norm(x, relevance, g, h, epsilon, lambda v: v.mean((2, 3), keepdim=True)))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_and_instance_normalisation_likewise(groups: int) -> None:
    x, relevance = tensor(2, 6, 3, 3), tensor(2, 6, 3, 3, seed=1)
    g, h = tensor(6, seed=2), tensor(6, seed=3)
    graph = record(lambda v: F.group_norm(v, groups, g, h), x)
    found = swept(graph, a.Normalisation(TINY), relevance)[0]

    def mean(v: Tensor) -> Tensor:
        grouped = v.reshape(2, groups, -1)
        return grouped.mean(-1, keepdim=True).expand_as(grouped).reshape(v.shape)

    close(found, naive_norm(x, relevance, g.reshape(6, 1, 1), h.reshape(6, 1, 1), TINY, mean))


def naive_norm(
    x: Tensor, relevance: Tensor, g: Tensor, h: Tensor, epsilon: float, mean: Callable[[Tensor], Tensor]
) -> Tensor:
    """x times the derivative of (x - mean) / std g + h for a constant std, over the stabilised output."""
    leaf = x.clone().requires_grad_()
    std = (mean((x - mean(x)) ** 2) + 1e-5).sqrt()
    y = (leaf - mean(leaf)) / std * g + h
    s = relevance / (y + torch.full_like(y, epsilon).copysign(y)).detach()
    return x * torch.autograd.grad(y, leaf, s)[0]


def test_a_bias_of_a_normalisation_can_be_left_out() -> None:
    x, h, relevance = tensor(3, 4), tensor(4, seed=2), tensor(3, 4, seed=1)
    graph = record(lambda v: F.layer_norm(v, (4,), None, h), x)
    bare = record(lambda v: F.layer_norm(v, (4,)), x)
    close(swept(graph, a.Normalisation(TINY, True), relevance)[0], swept(bare, a.Normalisation(TINY), relevance)[0])


@pytest.mark.parametrize(
    "function",
    [lambda x: x.amax((0, 2)), lambda x: x.amax(1, keepdim=True), lambda x: x.max(), lambda x: x.amax((-1, -3), True)],
)
def test_one_of_equal_maxima_wins(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.ones(2, 3, 4, dtype=torch.float64)
    graph = record(function, x)
    relevance = tensor(*graph.output.meta["shape"]).abs() + 0.1
    found = swept(graph, a.WinnerTakeAll(), relevance)[0]
    assert int((found != 0).sum()) == relevance.numel()
    close(found.sum(), relevance.sum())
    close(function(found) if relevance.numel() > 1 else found.sum(), relevance)


def test_the_minimum_wins_too() -> None:
    x, relevance = tensor(3, 4), tensor(3, seed=1)
    found = swept(record(lambda v: v.amin(1), x), a.WinnerTakeAll(), relevance)[0]
    close(found, F.one_hot(x.argmin(1), 4) * relevance[:, None])


@pytest.mark.parametrize(("function", "each"), [(lambda x: x.prod(1), 4), (lambda x: x.prod(), 12)])
def test_factors_of_a_product_share_equally(function: Callable[[Tensor], Tensor], each: int) -> None:
    x = tensor(3, 4)
    graph = record(function, x)
    relevance = tensor(*graph.output.meta["shape"], seed=1)
    expected = (relevance / each)[..., None].expand(3, 4) if each == 4 else (relevance / each).expand(3, 4)
    close(swept(graph, a.Homogeneous(TINY), relevance)[0], expected)


@pytest.mark.parametrize("function", [lambda x: x.cumprod(1), lambda x: x.var(1)])
def test_reduced_products_conserve(function: Callable[[Tensor], Tensor]) -> None:
    graph = record(function, tensor(3, 4))
    relevance = tensor(*graph.output.meta["shape"], seed=1)
    close(swept(graph, a.Homogeneous(TINY), relevance)[0].sum(), relevance.sum())


# --- activations and normalisations written out --------------------------------------------------------------------

SPELLINGS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "gelu": (F.gelu, lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5))),
    "gelu-half-inside": (F.gelu, lambda x: x * (0.5 * (torch.erf(x / 2**0.5) + 1))),
    "gelu-tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x**3))),
    ),
    "silu": (F.silu, lambda x: x * x.sigmoid()),
    "mish": (F.mish, lambda x: F.softplus(x).tanh() * x),
    "hardswish": (F.hardswish, lambda x: x * (x + 3).clamp(0, 6) / 6),
    "hardswish-divided-first": (F.hardswish, lambda x: (F.relu6(x + 3) / 6) * x),
}


@pytest.mark.parametrize("name", ["attn-lrp", "epsilon", "epsilon-plus"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_activation_written_out_is_the_activation(spelling: str, name: str) -> None:
    x, w = tensor(3, 4), tensor(4, 4, seed=1)
    found = [
        swept(record(lambda v, f=f: f(v @ w), x), composite(name, CompositeParams()))[0] for f in SPELLINGS[spelling]
    ]
    close(found[0], found[1])
    assert found[0].any()


def test_rms_normalisation_passes_relevance_on() -> None:
    x, relevance, g = tensor(3, 4), tensor(3, 4, seed=1), tensor(4, seed=2)
    for function in (
        lambda v: v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + 1e-6) * g,
        lambda v: v / torch.sqrt((v * v).mean(-1, keepdim=True) + 1e-6) * g,
        lambda v: v / torch.linalg.vector_norm(v, dim=-1, keepdim=True),
    ):
        close(swept(record(function, x), composite("attn-lrp", CompositeParams()), relevance)[0], relevance)


def test_gated_networks_share_products_equally() -> None:
    x, v, w, relevance = tensor(3, 4), tensor(4, 4, seed=1), tensor(4, 4, seed=2), tensor(3, 4, seed=3)
    graph = record(lambda y: F.silu(y @ v) * (y @ w), x)
    found = swept(graph, composite("attn-lrp", CompositeParams(epsilon=TINY)), relevance)[0]
    expected = sum(x * ((relevance / 2 / (x @ m)) @ m.t()) for m in (v, w))
    close(found, expected)  # type: ignore[arg-type]


# --- whole networks ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def spelled(x: np.ndarray) -> dict[str, Model]:
    return {name: load(file, device="cpu") for name, file in onnx_files(made(), x).items()}


def explained(model: Model, x: np.ndarray, **params: object) -> np.ndarray:
    return np.asarray(model.explain(x, method="lrp", target=1, precision="float64", **params).raw)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def halved(x: Tensor) -> Tensor:
    from tests.graph_rules.transformers import Halved

    out: Tensor = Halved.apply(x)
    return out


def test_attention_lrp_is_the_modified_gradient_times_input(spelled: dict[str, Model], x: np.ndarray) -> None:
    net = made().wrapped(product=halved, deviation=Tensor.detach, act=proportional(F.gelu))
    expected = gradient_times_input(net, x, 1)
    found = explained(spelled["legacy-17"], x, composite="attn-lrp", epsilon=1e-10)
    assert relative(found, expected) < 1e-5


def test_without_attention_weights_it_is_the_gradient_with_constant_weights(
    spelled: dict[str, Model], x: np.ndarray
) -> None:
    net = made().wrapped(weights=Tensor.detach, deviation=Tensor.detach, act=proportional(F.gelu))
    expected = gradient_times_input(net, x, 1)
    found = explained(spelled["legacy-17"], x, composite="epsilon", epsilon=1e-10)
    assert relative(found, expected) < 1e-3  # sums and products keep their own stabiliser of 1e-6


@pytest.mark.parametrize("name", ["attn-lrp", "epsilon-plus", "gamma"])
def test_every_spelling_gets_the_same_explanation(name: str, spelled: dict[str, Model], x: np.ndarray) -> None:
    found = {key: explained(model, x, composite=name) for key, model in spelled.items()}
    assert len(found) == 5
    for other in found.values():
        assert relative(other, found["legacy-17"]) < 1e-4


def test_the_oldest_spelling_has_no_layer_normalisation(spelled: dict[str, Model], x: np.ndarray) -> None:
    trace = spelled["legacy-14"].trace({"x": x}, None)
    assert sum("layer normalisation put together" in change for change in trace.changes) == 4


def test_attention_lrp_conserves_without_biases_and_softmax() -> None:
    w = [tensor(4, 4, seed=seed) for seed in range(5)]

    def network(x: Tensor) -> Tensor:
        normal = F.layer_norm(x, (4,))
        mixed = (normal @ w[0]) @ (normal @ w[1]).mT @ (normal @ w[2])  # linear attention
        x = x + F.gelu(mixed)
        x = x + F.silu(x @ w[3]) * (x @ w[4])
        return (x * torch.rsqrt(x.square().mean(-1, keepdim=True))).mean(1).amax(-1)

    graph = record(network, tensor(2, 3, 4, seed=9))
    found = swept(graph, composite("attn-lrp", CompositeParams(epsilon=1e-9)), torch.ones(2, dtype=torch.float64))[0]
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(2, dtype=torch.float64), rtol=1e-5, atol=1e-5)


def test_a_probability_is_explained_through_its_softmax(x: np.ndarray) -> None:
    class Probable(Transformer):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(-1)

    torch.manual_seed(3)
    model = load(onnx_files(Probable().eval(), x)["legacy-17"], device="cpu")
    for name in ("epsilon", "attn-lrp"):
        found = model.explain(x, method="lrp", composite=name, score="probability", target=1).raw
        assert np.isfinite(found).all() and np.abs(found).max() > 0


def test_tokens_are_explained_with_their_positions() -> None:
    net, ids = made(words=11), np.array([[1, 4, 2, 9, 7], [0, 3, 3, 10, 5]])
    assert net.embedding is not None
    embedded = (net.embedding(torch.from_numpy(ids)) + net.position).detach().numpy()
    table, net.embedding = net.embedding, None
    expected = gradient_times_input(net, embedded, 2)
    net.embedding = table
    for file in onnx_files(net, ids).values():
        e = load(file, device="cpu").explain(ids, method="gradient-x-input", target=2)
        assert relative(np.asarray(e.raw), expected) < 1e-4
        assert e.attribution.shape == ids.shape
