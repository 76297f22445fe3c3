"""Where tokens are explained: at what the first layer reads of them, and at nothing that is computed from it."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from analyzer import load
from analyzer.model import Model

IDS = np.array([[1, 4, 2, 0], [3, 3, 5, 1]])


class Words(nn.Module):
    """Word embeddings and a head that is not linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.positions, self.kinds = nn.Embedding(6, 3), nn.Embedding(9, 3), nn.Embedding(2, 3)
        self.mix = nn.Linear(3, 3)

    def head(self, x: Tensor) -> Tensor:
        """Scores."""
        return self.mix(x.tanh()).mean(1)


class Scaled(Words):
    def embedded(self, ids: Tensor) -> Tensor:
        """Words, scaled, beside constant positions."""
        return self.words(ids) * 3**0.5 + self.positions.weight[:4]

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embedded(ids))


class Counted(Scaled):
    def embedded(self, ids: Tensor) -> Tensor:
        """Positions counted over the tokens that are not padding."""
        return self.positions(torch.cumsum((ids != 0).to(torch.int64), 1)) + self.words(ids)


class Deep(Scaled):
    def embedded(self, ids: Tensor) -> Tensor:
        """The first sum is a layer's result already."""
        return self.words(ids)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedded(ids)
        return self.head(x + self.mix(x))


class Typed(Words):
    def forward(self, ids: Tensor, kinds: Tensor) -> Tensor:
        return self.head(self.words(ids) + self.kinds(kinds) + self.positions.weight[:4])


def onnx_of(net: nn.Module, *inputs: np.ndarray) -> Model:
    buffer, given = io.BytesIO(), tuple(torch.from_numpy(x) for x in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), given, buffer, opset_version=17, dynamo=False, input_names=["ids", "kinds"][: len(given)]
        )
    return load(buffer.getvalue(), device="cpu")


def test_additions_of_what_tokens_select_belong_to_the_embedding() -> None:
    for make in (Scaled, Counted, Deep):
        net = make()
        e = onnx_of(net, IDS).explain(IDS, method="gradient-x-input", target=1)
        leaf = net.embedded(torch.from_numpy(IDS)).detach().requires_grad_()
        out = net.head(leaf + net.mix(leaf)) if make is Deep else net.head(leaf)
        out[:, 1].sum().backward()
        assert leaf.grad is not None
        np.testing.assert_allclose(e.raw, (leaf * leaf.grad).detach().numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(e.attribution, e.raw.sum(-1), rtol=1e-5, atol=1e-7)


def test_two_token_inputs_keep_their_own_embeddings() -> None:
    net, kinds = Typed(), np.array([[0, 0, 1, 1], [1, 0, 1, 0]])
    e = onnx_of(net, IDS, kinds).explain({"ids": IDS, "kinds": kinds}, method="gradient-x-input", target=0)
    words, types = net.words(torch.from_numpy(IDS)), net.kinds(torch.from_numpy(kinds))
    leaf = (words + types + net.positions.weight[:4]).detach().requires_grad_()
    net.head(leaf)[:, 0].sum().backward()
    assert leaf.grad is not None
    for name, part in (("ids", words), ("kinds", types)):
        expected = (part * leaf.grad).sum(-1).detach().numpy()
        np.testing.assert_allclose(e.attributions[name], expected, rtol=1e-4, atol=1e-6)
