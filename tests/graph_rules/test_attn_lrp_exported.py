"""AttnLRP of exported transformers against the formulas of Achtibat et al. 2024, written out for each architecture.

The reference knows the architectures (BERT, ViT), not the ONNX graphs: it reads nothing of those but the weights. Each
function hands relevance back by one equation of the paper; all of it in double precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

import analyzer

EPSILON = 1e-8


def stable(z: Tensor) -> Tensor:
    return z + EPSILON * torch.where(z >= 0, 1.0, -1.0)


class Given(torch.autograd.Function):
    """A value with an explicit rule: ``hand(R)`` gives the relevance of each argument."""

    @staticmethod
    def forward(ctx: Any, hand: Any, value: Tensor, *arguments: Tensor) -> Tensor:
        """The value."""
        ctx.hand = hand
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """The rule."""
        return None, None, *ctx.hand(grads[0])


def linear(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Epsilon rule, eq. 8."""
    x0, z = x.detach(), x.detach() @ w + b
    return Given.apply(lambda r: (x0 * ((r / stable(z)) @ w.T),), z, x)


def added(x: Tensor, y: Tensor) -> Tensor:
    """Epsilon rule of a sum; a constant takes its share and keeps it."""
    x0, y0 = x.detach(), y.detach()
    z = x0 + y0
    return Given.apply(lambda r: (x0 * r / stable(z), y0 * r / stable(z)), z, x, y)


def product(x: Tensor, y: Tensor) -> Tensor:
    """Each factor of a matrix product takes half, eq. 14 and 15."""
    x0, y0 = x.detach(), y.detach()
    z = x0 @ y0

    def hand(r: Tensor) -> tuple[Tensor, Tensor]:
        s = r / stable(2 * z)
        return x0 * (s @ y0.transpose(-1, -2)), y0 * (x0.transpose(-1, -2) @ s)

    return Given.apply(hand, z, x, y)


def softmax(x: Tensor) -> Tensor:
    """Deep Taylor decomposition, eq. 13."""
    x0, p = x.detach(), x.detach().softmax(-1)
    return Given.apply(lambda r: (x0 * (r - p * r.sum(-1, keepdim=True)),), p, x)


def identity(x: Tensor, value: Tensor) -> Tensor:
    """Elementwise functions and constant factors pass relevance on, eq. 9."""
    return Given.apply(lambda r: (r,), value.detach(), x)


def normal(x: Tensor, w: Tensor, b: Tensor, inner: float) -> Tensor:
    """Layer normalisation as a linear map, the deviation constant, under the epsilon rule."""
    x0 = x.detach()
    scale = w / (x0.var(-1, unbiased=False, keepdim=True) + inner).sqrt()
    z = (x0 - x0.mean(-1, keepdim=True)) * scale + b

    def hand(r: Tensor) -> tuple[Tensor]:
        s = r / stable(z) * scale
        return (x0 * (s - s.mean(-1, keepdim=True)),)

    return Given.apply(hand, z, x)


class Weights:
    """The constants of a file in the order in which its layers run."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path).graph
        self.named = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()).double() for t in graph.initializer
                      if t.data_type == onnx.TensorProto.FLOAT}  # fmt: skip
        users = {name: node for node in graph.node for name in node.input}
        self.layers, self.norms = [], []
        for node in graph.node:
            if node.op_type == "MatMul" and node.input[1] in self.named:
                bias = users[node.output[0]]
                self.layers.append((self.named[node.input[1]], self.named[bias.input[1]]))
            if node.op_type == "LayerNormalization":
                inner = next(a.f for a in node.attribute if a.name == "epsilon")
                self.norms.append((self.named[node.input[1]], self.named[node.input[2]], inner))
            if node.op_type == "Gemm":
                assert next(a.i for a in node.attribute if a.name == "transB") == 1
                weight = self.named[node.input[1]].T
                none = torch.zeros(weight.shape[1]).double()
                self.layers.append((weight, self.named[node.input[2]] if len(node.input) > 2 else none))

    def attention(self, x: Tensor, at: int, heads: int = 2) -> Tensor:
        """Self-attention with the layers ``at`` to ``at + 3``."""
        n, t, width = x.shape
        q, k, v = (linear(x, *self.layers[at + i]).reshape(n, t, heads, -1).transpose(1, 2) for i in range(3))
        scores = product(q, k.transpose(-1, -2))
        mixed = product(softmax(identity(scores, scores * (width // heads) ** -0.5)), v)
        return linear(mixed.transpose(1, 2).reshape(n, t, width), *self.layers[at + 3])

    def forward_part(self, x: Tensor, at: int) -> Tensor:
        """Two layers with a GELU between."""
        up = linear(x, *self.layers[at])
        return linear(identity(up, torch.nn.functional.gelu(up)), *self.layers[at + 1])


def relevance(logits: Tensor, targets: list[int], source: Tensor) -> np.ndarray:
    start = torch.zeros_like(logits)
    start[range(len(targets)), targets] = logits[range(len(targets)), targets].detach()
    (found,) = torch.autograd.grad(logits, source, start)
    return found.numpy()


def explained(folder: Path, name: str, variant: str, feed: dict[str, np.ndarray], targets: list[int]) -> np.ndarray:
    model = analyzer.load(folder / f"{name}__{variant}.onnx")
    named = dict(zip(model.inputs, feed.values(), strict=True))
    e = model.explain(
        named, method="lrp", composite="attn-lrp", epsilon=EPSILON, initial="logit", target=targets, precision="float64"
    )
    return np.asarray(e.raw)


@pytest.mark.parametrize("variant", ["ts_op17", "dynamo_op18", "dynamo_op23", "dynamo_opdef"])
def test_bert(shared: Path, variant: str) -> None:
    folder = shared / "exported"
    io, w = np.load(folder / "hf_bert.npz"), Weights(folder / "hf_bert__dynamo_op23.onnx")
    tokens, mask = io["in0"], io["in1"]
    assert (mask == 1).all()
    ids = torch.from_numpy(tokens)
    words = w.named["m.bert.embeddings.word_embeddings.weight"][ids]
    types = w.named["m.bert.embeddings.token_type_embeddings.weight"][0]
    source = words.clone().requires_grad_()  # the sum is normalised at once: the words are explained
    x = normal(added(source, (types + w.named["embedding_2"]).expand(source.shape)), *w.norms[0])
    for layer in range(2):
        x = normal(added(w.attention(x, 6 * layer), x), *w.norms[1 + 2 * layer])
        x = normal(added(w.forward_part(x, 6 * layer + 4), x), *w.norms[2 + 2 * layer])
    pooled = linear(x[:, 0], *w.layers[-2])
    logits = linear(identity(pooled, pooled.tanh()), *w.layers[-1])
    np.testing.assert_allclose(logits.detach().numpy(), io["out"], atol=1e-5)
    expected = relevance(logits, [1, 0], source)
    found = explained(folder, "hf_bert", variant, {"ids": tokens, "mask": mask}, [1, 0])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("variant", ["ts_op17", "dynamo_op18", "dynamo_op23", "dynamo_opdef"])
def test_vit(shared: Path, variant: str) -> None:
    folder = shared / "exported"
    io, w = np.load(folder / "hf_vit.npz"), Weights(folder / "hf_vit__dynamo_op23.onnx")
    source = torch.from_numpy(io["in0"]).double().requires_grad_()
    n, size = len(source), 16
    patches = source.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).reshape(n, 16, -1)
    kernel = w.named["m.vit.embeddings.patch_embeddings.projection.weight"].reshape(32, -1).T
    places = linear(patches, kernel, torch.zeros(32).double())
    x = torch.cat([w.named["m.vit.embeddings.cls_token"].expand(n, 1, 32), places], 1)
    x = added(x, w.named["m.vit.embeddings.position_embeddings"].expand(n, 17, 32))
    for layer in range(2):
        x = added(x, w.attention(normal(x, *w.norms[2 * layer]), 6 * layer))
        x = added(x, w.forward_part(normal(x, *w.norms[2 * layer + 1]), 6 * layer + 4))
    logits = linear(normal(x, *w.norms[4])[:, 0], *w.layers[-1])
    np.testing.assert_allclose(logits.detach().numpy(), io["out"], atol=1e-5)
    expected = relevance(logits, [1, 0], source)
    found = explained(folder, "hf_vit", variant, {"x": io["in0"]}, [1, 0])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
