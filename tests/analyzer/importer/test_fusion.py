"""Patterns put back together: the same values, the layer that was meant, and nothing that only looks like it."""

from __future__ import annotations

from collections.abc import Callable
from operator import getitem

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from analyzer.importer import folding, fusion
from analyzer.importer.passes import run_passes
from analyzer.importer.rewriting import Refusal
from tests.graph_rules.graphs import Recorded, aten, record, tensor

G, H = tensor(4, seed=1), tensor(4, seed=2)
Function = Callable[[Tensor], Tensor]


def normal(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5)


def normal_by_two_differences(x: Tensor) -> Tensor:
    square = (x - x.mean(-1, keepdim=True)) * (x - x.mean(-1, keepdim=True))
    return (x - x.mean(-1, keepdim=True)) * torch.rsqrt(1e-5 + square.mean(-1, keepdim=True))


def normal_by_powers(x: Tensor) -> Tensor:
    centred = x - x.mean((1, 2), keepdim=True)
    return centred * (centred.square().mean((-2, -1), keepdim=True) + 1e-5).pow(0.5).reciprocal()


def softmax(x: Tensor) -> Tensor:
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


LAYER_NORMS: dict[str, tuple[Function, Function]] = {
    "plain": (normal, lambda x: F.layer_norm(x, (4,))),
    "scaled": (lambda x: normal(x) * G, lambda x: F.layer_norm(x, (4,), G)),
    "scaled-and-shifted": (lambda x: H + G * normal(x), lambda x: F.layer_norm(x, (4,), G, H)),
    "shifted": (lambda x: normal(x) + H, lambda x: F.layer_norm(x, (4,), None, H)),
    "scaled-by-one-number": (lambda x: normal(x) * G[:1], lambda x: F.layer_norm(x, (4,)) * G[0]),
    "two-differences": (normal_by_two_differences, lambda x: F.layer_norm(x, (4,))),
    "two-axes": (normal_by_powers, lambda x: F.layer_norm(x, (3, 4))),
}


def changed(graph: Recorded) -> list[str]:
    """What the passes say that they changed, after running them in place."""
    return [change for each in run_passes(graph.module)[1] for change in each.changes]


def fused(function: Function) -> tuple[Recorded, list[str]]:
    graph = record(function, tensor(2, 3, 4))
    return graph, changed(graph)


@pytest.mark.parametrize("name", LAYER_NORMS)
def test_layer_normalisation_is_found(name: str) -> None:
    written_out, layer = LAYER_NORMS[name]
    graph, changes = fused(written_out)
    assert len(changes) == 1 and changes[0].startswith("layer normalisation put together")
    left = {node.target for node in graph.module.graph.nodes if node.op == "call_function"}
    assert left == {aten.native_layer_norm.default, getitem}
    torch.testing.assert_close(graph.module(*graph.inputs)[0], layer(*graph.inputs), rtol=1e-12, atol=1e-12)


def test_softmax_is_found() -> None:
    graph, changes = fused(softmax)
    assert [change.split(" at ")[0] for change in changes] == ["softmax put together"]
    torch.testing.assert_close(graph.module(*graph.inputs)[0], graph.inputs[0].softmax(-1))


NOT: dict[str, tuple[Function, Refusal | None]] = {
    "other-axes": (
        lambda x: (c := x - x.mean(-1, keepdim=True)) / ((c**2).mean((1, 2), keepdim=True) + 1e-5).sqrt(),
        fusion.OTHER_AXES,
    ),
    "inner-axis": (
        lambda x: (c := x - x.mean(1, keepdim=True)) / ((c**2).mean(1, keepdim=True) + 1e-5).sqrt(),
        fusion.INNER_AXES,
    ),
    "root-mean-square": (lambda x: x / ((x**2).mean(-1, keepdim=True) + 1e-5).sqrt(), fusion.NOT_CENTRED),
    "another-value": (
        lambda x: (x - x.mean(-1, keepdim=True)) / (((x * 2 - 1) ** 2).mean(-1, keepdim=True) + 1e-5).sqrt(),
        fusion.OTHER_VALUE,
    ),
    "cubed": (
        lambda x: (c := x - x.mean(-1, keepdim=True)) / ((c**3).mean(-1, keepdim=True) + 2e5).sqrt(), fusion.NOT_SQUARED
    ),
    "largest-square": (
        lambda x: (c := x - x.mean(-1, keepdim=True)) / ((c**2).amax(-1, keepdim=True) + 1e-5).sqrt(),
        fusion.NOT_A_MEAN,
    ),
    "no-epsilon": (
        lambda x: (c := x - x.mean(-1, keepdim=True)) / (c**2).mean(-1, keepdim=True).sqrt(), fusion.NO_EPSILON
    ),
    "softmax-over-other-axis": (
        lambda x: (e := torch.exp(x - x.amax(-1, keepdim=True))) / e.sum(1, keepdim=True), fusion.OTHER_AXES
    ),
    "softmax-over-two-axes": (
        lambda x: (e := torch.exp(x - x.amax((1, 2), keepdim=True))) / e.sum((1, 2), keepdim=True), fusion.SEVERAL_AXES
    ),
    "softmax-of-another-value": (
        lambda x: (e := torch.exp(x - (2 * x).amax(-1, keepdim=True))) / e.sum(-1, keepdim=True), fusion.NO_MAXIMUM
    ),
    "softmax-without-a-maximum": (lambda x: (e := torch.exp(x)) / e.sum(-1, keepdim=True), fusion.NO_MAXIMUM),
    "softmax-of-a-dropped-axis": (
        lambda x: (e := torch.exp(x - x.amax(-1, keepdim=True))) / e.sum(-1)[..., None], None
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT)
def test_what_only_looks_like_it_stays_and_says_why(name: str) -> None:
    function, refusal = NOT[name]
    graph = record(function, tensor(2, 3, 4))
    results = run_passes(graph.module)[1]
    assert not any(each.modified for each in results)
    refused = {each.reason for result in results if result.name.startswith("fuse") for each in result.refused}
    assert refused == ({refusal.reason} if refusal else set())
    torch.testing.assert_close(graph.module(*graph.inputs)[0], function(*graph.inputs))


def test_a_scale_that_varies_by_sample_stays_beside_the_normalisation() -> None:
    graph, changes = fused(lambda x: normal(x) * tensor(2, 1, 4, seed=3))
    assert len(changes) == 1
    assert len(graph.of(aten.mul.Tensor)) == 1
    expected = F.layer_norm(graph.inputs[0], (4,)) * tensor(2, 1, 4, seed=3)
    torch.testing.assert_close(graph.module(*graph.inputs)[0], expected)


def test_a_difference_that_is_read_elsewhere_is_kept() -> None:
    def function(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5) + centred.tanh()

    graph, changes = fused(function)
    assert len(changes) == 1 and len(graph.of(aten.sub.Tensor)) == 1
    torch.testing.assert_close(graph.module(*graph.inputs)[0], function(*graph.inputs))


SCALED: dict[str, tuple[Function, tuple[int, ...]]] = {
    "convolution": (lambda x: F.conv1d(x, tensor(6, 3, 2, seed=4)) * tensor(6, 1, seed=5), (2, 3, 4)),
    "then-bias": (lambda x: F.conv1d(x, tensor(6, 3, 2, seed=4)) * tensor(6, 1, seed=5) + tensor(6, 1), (2, 3, 4)),
    "after-bias": (
        lambda x: tensor(6, 1, seed=5) * (F.conv1d(x, tensor(6, 3, 2, seed=4), tensor(6, seed=7)) + tensor(6, 1)),
        (2, 3, 4),
    ),
    "squeezed": (
        lambda x: (F.conv2d(x[..., None], tensor(6, 3, 2, 1, seed=4)).squeeze(3) + tensor(6, 1)) * tensor(6, 1, seed=5)
        + tensor(6, 1, seed=6),
        (2, 3, 4),
    ),
    "transposed": (
        lambda x: F.conv_transpose1d(x, tensor(4, 3, 2, seed=4), groups=2) * tensor(6, 1, seed=5), (2, 4, 4)
    ),
    "matrix": (lambda x: torch.addmm(tensor(5), x, tensor(4, 5, seed=4)) * tensor(5, seed=5), (3, 4)),
    "one-number": (lambda x: (x @ tensor(4, 5, seed=4)) * tensor(1, seed=5), (3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALED)
def test_constant_factors_are_folded_into_the_layer(name: str) -> None:
    function, shape = SCALED[name]
    graph = record(function, tensor(*shape))
    changes = changed(graph)
    assert any("folded into" in change for change in changes)
    torch.testing.assert_close(graph.module(*graph.inputs)[0], function(*graph.inputs), rtol=1e-10, atol=1e-10)
    assert name == "squeezed" or len([node for node in graph.module.graph.nodes if node.op == "call_function"]) == 1


@pytest.mark.parametrize(
    ("function", "refusal"),
    [
        (lambda x: F.conv1d(x, tensor(6, 3, 2, seed=4)) * tensor(6, 3, seed=5), folding.NOT_PER_CHANNEL),
        (
            lambda x: (y := F.conv1d(x, tensor(6, 3, 2, seed=4))) * tensor(6, 1, seed=5) + y.tanh(),
            folding.READ_ELSEWHERE,
        ),
        (lambda x: F.conv1d(x, tensor(1, 3, 2, seed=4)) * tensor(6, 1, seed=5), folding.OTHER_SHAPE),
        (lambda x: F.conv1d(x, tensor(6, 3, 2, seed=4)) * x.mean(), folding.NOT_CONSTANT),
        (lambda x: F.conv1d(x, tensor(1, 3, 2, seed=4)).squeeze(1) * tensor(3, seed=5), folding.RESHAPED),
        (lambda x: x.tanh() * tensor(4, seed=5), folding.NO_LAYER),
        (lambda x: F.conv1d(x, x[:1, :, :1].tanh()) * tensor(4, seed=5)[0], folding.COMPUTED_WEIGHTS),
        (lambda x: F.conv1d(x.float(), tensor(6, 3, 2).float()) * tensor(6, 1, seed=5), folding.OTHER_TYPE),
    ],
)
def test_other_factors_stay_and_say_why(function: Function, refusal: Refusal) -> None:
    graph = record(function, tensor(2, 3, 4))
    results = run_passes(graph.module)[1]
    assert not any(each.modified for each in results)
    refused = [each.reason for result in results if result.name == "fold constants" for each in result.refused]
    assert refusal.reason in refused
    torch.testing.assert_close(graph.module(*graph.inputs)[0], function(*graph.inputs))
