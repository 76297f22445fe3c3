"""What a node is on a path from the explained input: gates and signals, bounds, sums of one unit, rare operators."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import analyzer.importer.straight_through  # noqa: F401 - declares the operators
from graph_rules.composites import CompositeParams, composite, names
from graph_rules.kinds import KINDS, active_nodes, gates, kind
from tests.graph_rules.graphs import aten, record, swept, tensor

W, V = tensor(4, 4, seed=5), tensor(4, 4, seed=6)
PLACES, EMPTY = torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 4, dtype=torch.float64)


def kind_of(function: Callable[[Tensor], Tensor], x: Tensor | None = None) -> str:
    graph = record(function, tensor(3, 4) if x is None else x)
    found = kind(graph.output, active_nodes(tuple(graph.placeholders), graph.output))
    assert found in KINDS
    return found


KIND: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    # gates and signals
    "gate": (lambda x: (x @ V).sigmoid() * (x @ W), "gate"),
    "one-minus-gate": (lambda x: (1 - (x @ V).sigmoid()) * (x @ W), "gate"),
    "hard-sigmoid-written-out": (lambda x: (x @ W) * (((x @ V) + 3).clamp(0, 6) / 6), "gate"),
    "hard-sigmoid-by-relu6": (lambda x: F.relu6((x @ V) + 3) / 6 * (x @ W), "gate"),
    "hard-sigmoid-by-extremes": (
        lambda x: (x @ W) * torch.minimum(torch.relu((x @ V) * 0.2 + 0.5), torch.ones(())), "gate"
    ),
    "relu6-is-a-signal": (lambda x: F.relu6(x @ V) * (x @ W), "product"),
    "tanh-is-a-signal": (lambda x: (x @ V).tanh() * (x @ W), "product"),
    "two-gates": (lambda x: (x @ V).sigmoid() * (x @ W).sigmoid(), "product"),
    "silu": (lambda x: x * x.sigmoid(), "self-gate"),
    "hardswish": (lambda x: x * (x + 3).clamp(0, 6) / 6 * 1.0, "scale"),
    "quick-gelu": (lambda x: x * (x * 1.702).sigmoid(), "self-gate"),
    "normalised": (lambda x: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt(), "self-gate"),
    "moved-beside-itself": (lambda x: x * x.roll(1, 0), "product"),
    "bilinear-form": (lambda x: x * (x @ W), "product"),
    "attention-pooling": (lambda x: (x @ V).softmax(-1) * (x @ W), "attention"),
    "attention-without-nan": (
        lambda x: torch.mm(torch.where(torch.isnan(p := (x @ V).softmax(-1)), 0.0, p), (x @ W).t().reshape(4, 3)),
        "attention",
    ),
    "quotient": (lambda x: (x @ W) / (x @ V), "quotient"),
    "square": (lambda x: x * x, "product"),
    "negative": (torch.neg, "scale"),
    # ReLU by any name
    "clamp-0": (lambda x: x.clamp(min=0), "relu"),
    # rectifiers with a bound, a slope or a threshold
    "clamp-0-1": (lambda x: x.clamp(0, 1), "rectifier"),
    "relu6": (F.relu6, "rectifier"),
    "clamp-0-to-a-row": (lambda x: x.clamp(torch.zeros(4, dtype=x.dtype), torch.arange(1.0, 5.0)), "rectifier"),
    "leaky-relu": (lambda x: F.leaky_relu(x, 0.1), "rectifier"),
    "prelu": (lambda x: F.prelu(x, torch.tensor([0.1, 0.2, 0.3, -0.4], dtype=x.dtype)), "rectifier"),
    "threshold": (lambda x: F.threshold(x, 0.3, 0.0), "rectifier"),
    "chosen-above": (lambda x: torch.where(x > 0.3, x, torch.zeros((), dtype=x.dtype)), "rectifier"),
    "hardtanh": (F.hardtanh, "activation"),
    "clamp-1-2": (lambda x: x.clamp(1, 2), "activation"),
    "hard-sigmoid-alone": (lambda x: (x + 3).clamp(0, 6), "activation"),
    "maximum-0": (lambda x: torch.maximum(x, torch.zeros(3, 4, dtype=x.dtype)), "relu"),
    "maximum-1": (lambda x: torch.maximum(x, torch.ones((), dtype=x.dtype)), "activation"),
    "maximum-of-two": (lambda x: torch.maximum(x @ V, x @ W), "maximum"),
    "computed-bound": (lambda x: torch.clamp(x, min=x.mean(1, keepdim=True)), "self-gate"),
    # sums
    "skip": (lambda x: x + x @ W, "add"),
    "two-layers": (lambda x: x.flip(1) @ V + x @ W, "layer-sum"),
    "gated-sum": (lambda x: (x @ V).sigmoid() * x + (x @ W).sigmoid() * x.tanh(), "layer-sum"),
    "bias-beside-layers": (lambda x: (x.flip(1) @ V + x @ W) + V[0], "bias"),
    "bias-beside-a-slice": (lambda x: (x @ V)[:, :2] + V[0, :2], "bias"),
    "shift": (lambda x: x.tanh() + V[0], "shift"),
    "of-a-layer-read-elsewhere": (lambda x: ((y := x @ V) + V[0]) * y.tanh().flip(1), "product"),
    # reductions and rare operators
    "vector-norm": (lambda x: torch.linalg.vector_norm(x, dim=1), "norm"),
    "logsumexp": (lambda x: x.logsumexp(1), "maximum"),
    "cumsum": (lambda x: x.cumsum(1), "average"),
    "cumprod": (lambda x: x.cumprod(1), "reduced-product"),
    "prod": (lambda x: x.prod(1), "reduced-product"),
    "topk": (lambda x: x.topk(2)[0], "movement"),
    "clamp-tensor": (lambda x: x.clamp(min=V[0]), "activation"),
    "fmod": (lambda x: torch.fmod(x, V[0]), "activation"),
    "remainder-of-two": (lambda x: torch.remainder(x @ V, x @ W), "quotient"),
    "constant-over": (lambda x: V[0] / x, "activation"),
    "power": (lambda x: x.abs().pow(V[0]), "activation"),
    "computed-power": (lambda x: x.abs() ** (x @ W), "product"),
    "scatter-add": (lambda x: EMPTY.scatter_add(1, PLACES, x), "average"),
    "scatter-max": (
        lambda x: EMPTY.scatter_reduce(1, PLACES, x, "amax"),
        "maximum",
    ),
    "scatter-product": (
        lambda x: EMPTY.scatter_reduce(1, PLACES, x, "prod"),
        "other",
    ),
    "index-add": (lambda x: EMPTY.index_add(0, torch.tensor([0, 1, 1]), x), "average"),
    "index-copy": (lambda x: EMPTY.index_copy(0, torch.tensor([0, 1, 2]), x), "movement"),
    "fold": (lambda x: F.fold(x.reshape(1, 4, 3), (2, 4), (2, 2)), "movement"),
    "sampled": (lambda x: F.grid_sample(x.reshape(1, 1, 3, 4), tensor(1, 2, 2, 2), align_corners=False), "movement"),
    "sampled-at-computed-places": (
        lambda x: F.grid_sample(tensor(1, 1, 3, 4) * x.sum(), x.reshape(1, 2, 3, 2), align_corners=False), "attention"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KIND)
def test_kind(name: str) -> None:
    function, expected = KIND[name]
    found = kind_of(function)
    if name == "fold":  # a view closes it
        assert found in ("movement", "average")
    elif name == "topk":  # the list of values and places is the node, its first part the output
        assert found in ("movement", "maximum")
    else:
        assert found == expected


@pytest.mark.parametrize("name", sorted(set(names()) - {"epsilon-gamma-box"}))
@pytest.mark.parametrize("spelling", [k for k in KIND if KIND[k][1] != "other"])
def test_every_lrp_composite_has_a_rule_for_it(spelling: str, name: str) -> None:
    x = tensor(3, 4)
    graph = record(KIND[spelling][0], x)
    found = swept(graph, composite(name, CompositeParams(low=-3.0, high=3.0)))[0]
    assert found.shape == x.shape and torch.isfinite(found).all()


def test_of_a_square_the_value_takes_all() -> None:
    relevance = tensor(3, 4, seed=1)
    for function in (lambda x: x * x, torch.square, lambda x: x**2):
        for name in ("epsilon", "attn-lrp"):
            found = swept(record(function, tensor(3, 4)), composite(name, CompositeParams()), relevance)[0]
            torch.testing.assert_close(found, relevance)


def test_the_numerator_takes_all() -> None:
    graph = record(lambda x, y: x / y, tensor(3, 4), tensor(3, 1, seed=1))
    relevance = tensor(3, 4, seed=2)
    found = swept(graph, composite("epsilon", CompositeParams()), relevance)
    torch.testing.assert_close(found[0], relevance)
    assert not found[1].any()


def test_the_gate_is_named() -> None:
    graph = record(lambda x, y: x * (1 - y.sigmoid()), tensor(3), tensor(3, seed=1))
    active = active_nodes(tuple(graph.placeholders), graph.output)
    assert [node.target for node in gates(graph.output, active)] == [aten.rsub.Scalar]


def test_rounding_lets_relevance_pass_and_a_dynamic_scale_takes_none() -> None:
    x, relevance = tensor(3, 4, dtype=torch.float32), tensor(3, 4, seed=1, dtype=torch.float32)

    def quantised(v: Tensor) -> Tensor:
        scale, zero = torch.ops.onnxplain.dynamic_range(v)
        out: Tensor = torch.ops.onnxplain.fake_quantize(v, scale, zero, 0.0, 255.0, "uint8") * scale
        return out

    graph = record(quantised, x)
    active = active_nodes(tuple(graph.placeholders), graph.output)
    assert kind(graph.output, active) == "scale"
    assert not any(node in active for node in graph.of(torch.ops.onnxplain.dynamic_range.default))
    torch.testing.assert_close(swept(graph, composite("epsilon", CompositeParams()), relevance)[0], relevance)
