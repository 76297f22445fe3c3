"""Gamma in its mixing form against the formula on explicit matrices, its two ends, and zennit where the forms meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from graph_rules import rules as r
from tests.graph_rules import naive
from tests.graph_rules.graphs import record, ruled, swept, tensor
from tests.graph_rules.peers import peer

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
EPSILON = 0.1
W, B = tensor(4, 3, 3, 3, seed=1), tensor(4, seed=2)
L = tensor(5, 4, seed=3)


def conv(x: Tensor) -> Tensor:
    return F.conv2d(x, W, B, stride=2, padding=1)


def literal(W: np.ndarray, b: np.ndarray, a: np.ndarray, R: np.ndarray, gamma: float, epsilon: float) -> np.ndarray:
    """R_i = sum_j a_i (w_ji+ + gamma w_ji-) / S(sum_i a_i (w_ji+ + gamma w_ji-) + b_j+ + gamma b_j-) R_j, term by term."""
    result = np.zeros(len(a))
    for j in range(len(R)):
        mixed = [max(w, 0.0) + gamma * min(w, 0.0) for w in W[j]]
        z = sum(x * m for x, m in zip(a, mixed, strict=True)) + max(b[j], 0.0) + gamma * min(b[j], 0.0)
        s = R[j] / (z + epsilon if z >= 0 else z - epsilon)
        result += [x * m * s for x, m in zip(a, mixed, strict=True)]
    return result


@pytest.mark.parametrize("gamma", [0.0, 0.25, 0.9, 1.0])
def test_the_formula_on_a_non_negative_input(gamma: float) -> None:
    x = tensor(1, 3, 5, 4, seed=4)
    graph = record(lambda v: conv(F.relu(v)), x)
    R = tensor(*graph.output.meta["shape"], seed=5)
    chosen = {graph.output: r.Mixing(gamma, EPSILON)}
    found = _through(graph, chosen, R)
    matrix, bias = naive.affine(conv, tuple(x.shape))
    expected = literal(matrix, bias, x.clamp(min=0).numpy().reshape(-1), R.numpy().reshape(-1), gamma, EPSILON)
    np.testing.assert_allclose(found.numpy().reshape(-1), expected, **CLOSE)


def _through(graph, rules, R):  # type: ignore[no-untyped-def]
    from graph_rules import sweep

    plan = ruled(graph, lambda node: rules.get(node, r.Pass()))
    return sweep.backward(sweep.forward(plan, graph.inputs), R)[graph.placeholders[0]]


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("zero_bias", [False, True])
def test_contributions_of_an_input_of_both_signs(gamma: float, zero_bias: bool) -> None:
    x = tensor(1, 3, 5, 4, seed=4)
    graph = record(conv, x)
    R = tensor(*graph.output.meta["shape"], seed=5)
    (found,) = swept(graph, r.Mixing(gamma, EPSILON, zero_bias), R)
    matrix, bias = naive.affine(conv, tuple(x.shape))
    contributions = matrix * x.numpy().reshape(-1)
    mixed = naive.positive(contributions) + gamma * naive.negative(contributions)
    z = mixed.sum(1) + (0 if zero_bias else naive.positive(bias) + gamma * naive.negative(bias))
    expected = (mixed / naive.stabilized(z, EPSILON)[:, None]).T @ R.numpy().reshape(-1)
    np.testing.assert_allclose(found.numpy().reshape(-1), expected, **CLOSE)


def test_gamma_0_is_zplus_and_gamma_1_is_epsilon() -> None:
    x = tensor(2, 3, 5, 4, seed=4)
    graph = record(conv, x)
    R = tensor(*graph.output.meta["shape"], seed=5)
    for gamma, rule in ((0.0, r.AlphaBeta(1.0, 0.0, EPSILON)), (1.0, r.Epsilon(EPSILON))):
        torch.testing.assert_close(swept(graph, r.Mixing(gamma, EPSILON), R)[0], swept(graph, rule, R)[0], **CLOSE)


def test_gamma_1_without_biases_is_gradient_times_input() -> None:
    x = tensor(3, 5, seed=4)
    graph = record(lambda v: torch.mm(v, L), x)
    R = graph.inputs[0] @ L
    (found,) = swept(graph, r.Mixing(1.0, 0.0), R)
    torch.testing.assert_close(found, x * (torch.ones(3, 4, dtype=torch.float64) @ L.t()), **CLOSE)


@pytest.mark.parametrize("gamma", [0.1, 0.25, 0.8])
def test_zennits_gamma_at_positive_outputs(gamma: float) -> None:
    """w+ + g w- = g (w + (1 / g - 1) w+): the same shares where the output is positive, with g times the stabiliser."""
    composites, rules, attribution = (peer(f"zennit.{name}") for name in ("composites", "rules", "attribution"))
    x = tensor(2, 3, 5, 4, seed=4)
    layer = nn.Conv2d(3, 4, 3, stride=2, padding=1).double()
    layer.weight.data, layer.bias.data = W.clone(), B.clone()  # type: ignore[union-attr]
    graph = record(conv, x)
    out = conv(x)
    R = tensor(*out.shape, seed=5) * (out > 0)
    (found,) = swept(graph, r.Mixing(gamma, EPSILON * gamma), R)
    rule = rules.Gamma(gamma=1 / gamma - 1, stabilizer=EPSILON)
    theirs = composites.NameMapComposite([(["0"], rule)])
    with attribution.Gradient(nn.Sequential(layer), theirs) as attributor:
        _, expected = attributor(x, R)
    assert found.abs().max() > 0.1
    torch.testing.assert_close(found, expected.detach(), rtol=1e-8, atol=1e-9)


def test_gamma_must_be_a_share() -> None:
    for gamma in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            r.Mixing(gamma)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_dtype_stays(dtype: torch.dtype) -> None:
    x, w = tensor(2, 5, seed=1, dtype=dtype), L.to(dtype)
    assert swept(record(lambda v: torch.mm(v, w), x), r.Mixing())[0].dtype == dtype
