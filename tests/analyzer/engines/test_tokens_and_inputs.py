"""The torch engine on tokens, which are explained at their embedding, and on several inputs together."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from analyzer import load
from analyzer.model import Model
from tests.analyzer.engines.test_torch_engine import one_input
from tests.graph_rules.nets import pictures, seeded


@pytest.fixture(scope="module")
def tokens() -> tuple[Model, dict[str, np.ndarray]]:
    """Embeddings, tanh, mean over tokens, linear."""
    rng = np.random.default_rng(3)
    weights = {k: rng.standard_normal(s).astype(np.float32) for k, s in {"e": (7, 4), "w": (4, 3)}.items()}
    nodes = [
        helper.make_node("Gather", ["e", "x"], ["v"], name="/embedding"),
        helper.make_node("Tanh", ["v"], ["t"], name="/tanh"),
        helper.make_node("ReduceMean", ["t"], ["p"], name="/mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["p", "w"], ["y"], name="/head"),
    ]
    return one_input(nodes, weights, ["batch", "length"], TensorProto.INT64), weights


def test_tokens_are_explained_at_their_embedding(tokens: tuple[Model, dict[str, np.ndarray]]) -> None:
    model, weights = tokens
    x = np.array([[1, 5, 5, 0, 2], [3, 3, 6, 1, 4]])
    found = model.explain(x, method="gradient", target=[0, 2], precision="float64")
    embedded = weights["e"].astype(np.float64)[x]
    expected = (1 - np.tanh(embedded) ** 2) / 5 * weights["w"].astype(np.float64).T[[0, 2]][:, None, :]
    assert found.raw.shape == (2, 5, 4)
    assert found.attribution.shape == (2, 5)
    np.testing.assert_allclose(found.raw, expected, rtol=1e-10)
    np.testing.assert_allclose(found.attribution, expected.sum(-1), rtol=1e-10)


def test_integrated_gradients_of_tokens_go_from_an_embedding_of_zeros(
    tokens: tuple[Model, dict[str, np.ndarray]],
) -> None:
    model, weights = tokens
    x = np.array([[1, 5, 5, 0, 2], [3, 3, 6, 1, 4]])
    found = model.explain(x, method="integrated-gradients", target=[0, 2], precision="float64")
    embedded = weights["e"].astype(np.float64)[x]
    expected = np.tanh(embedded) / 5 * weights["w"].astype(np.float64).T[[0, 2]][:, None, :]
    np.testing.assert_allclose(found.raw, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.attribution, expected.sum(-1), rtol=1e-6, atol=1e-8)


def test_smoothgrad_of_tokens_is_noise_on_their_embedding(tokens: tuple[Model, dict[str, np.ndarray]]) -> None:
    model, _ = tokens
    x = np.array([[1, 5, 5, 0, 2]])
    still = model.explain(x, method="smoothgrad", target=1, noise=0.0, samples=2, reduce="mean")
    noisy = model.explain(x, method="smoothgrad", target=1, noise=0.5, samples=20, reduce="mean")
    plain = model.explain(x, method="gradient", target=1)
    np.testing.assert_allclose(still.raw, plain.raw, rtol=1e-5, atol=1e-7)
    assert noisy.raw.shape == (1, 5, 4)
    assert not np.allclose(noisy.raw, plain.raw, rtol=1e-2)


class TwoInputs(nn.Module):
    """A product of two inputs' features."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(5, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.relu(self.a(x)) * torch.tanh(self.b(y))


@pytest.fixture(scope="module")
def two() -> tuple[Model, nn.Module]:
    net = seeded(TwoInputs, seed=2)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.zeros(2, 4), torch.zeros(2, 5)), buffer, input_names=["x", "y"], output_names=["z"],
            dynamic_axes={name: {0: "n"} for name in "xyz"}, opset_version=17, dynamo=False,
        )  # fmt: skip
    return load(buffer.getvalue(), device="cpu"), net


def test_several_inputs_are_explained_together(two: tuple[Model, nn.Module]) -> None:
    model, net = two
    feed = {"x": pictures(3, 4), "y": pictures(3, 5, seed=1)}
    leaves = {k: torch.from_numpy(v).double().requires_grad_() for k, v in feed.items()}
    net.double()(*leaves.values())[:, 1].sum().backward()
    found = model.explain(feed, method="gradient", target=1, precision="float64")
    assert set(found.attributions) == {"x", "y"}
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        np.testing.assert_allclose(found.attributions[name], leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_integrated_gradients_of_several_inputs_are_complete(two: tuple[Model, nn.Module]) -> None:
    model, _ = two
    feed = {"x": pictures(3, 4), "y": pictures(3, 5, seed=1)}
    found = model.explain(feed, method="integrated-gradients", target=1, steps=200, precision="float64")
    assert found.completeness is not None
    np.testing.assert_allclose(found.completeness.total, found.completeness.expected, atol=2e-3)
    total = sum(v.reshape(3, -1).sum(1) for v in found.attributions.values())
    np.testing.assert_allclose(total, found.completeness.total, rtol=1e-6)
