"""A small transformer whose explanations can be computed by modified gradients, and its ONNX files.

Not here: what the explanations should be (the tests say that).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Wrap = Callable[[Tensor], Tensor]


def same(x: Tensor) -> Tensor:
    """The identity."""
    return x


class Halved(torch.autograd.Function):
    """The identity with half the derivative: each factor of a product takes half."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        """The value."""
        return x.clone()

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        """Half the gradient."""
        return grads[0] / 2


def proportional(function: Wrap) -> Wrap:
    """An activation whose derivative is f(x) / x, so that gradient times input passes it unchanged."""
    return lambda x: x * (function(x) / x).detach()


class Attention(nn.Module):
    """Self-attention and a GELU network, normalised before, with skip connections."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width, bias), nn.Linear(2 * width, width, bias)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wrap: dict[str, Wrap] = {}

    def normal(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Layer normalisation; for the reference with a constant deviation."""
        if "deviation" not in self.wrap:
            out: Tensor = norm(x)
            return out
        deviation = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        return (x - x.mean(-1, keepdim=True)) / self.wrap["deviation"](deviation) * norm.weight + norm.bias

    def forward(self, x: Tensor) -> Tensor:
        product, weights, act = (
            self.wrap.get(k, d) for k, d in (("product", same), ("weights", same), ("act", functional.gelu))
        )
        batch, tokens, width = x.shape
        normal = self.normal(x, self.norm1)
        q, k, v = (f(normal).reshape(batch, tokens, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = product(q @ k.transpose(-1, -2)) * (width // self.heads) ** -0.5
        mixed = weights(scores.softmax(-1)) @ v
        mixed = mixed if "weights" in self.wrap else product(mixed)
        x = x + self.o(mixed.transpose(1, 2).reshape(batch, tokens, width))
        out: Tensor = x + self.down(act(self.up(self.normal(x, self.norm2))))
        return out


class Transformer(nn.Module):
    """Two blocks, a mean over tokens, one linear layer; on embeddings, or on tokens with positions."""

    def __init__(self, bias: bool = True, words: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 8) if words else None
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.blocks = nn.Sequential(Attention(8, 2, bias), Attention(8, 2, bias))
        self.head = nn.Linear(8, 3, bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.embedding is not None:
            x = self.embedding(x) + self.position
        out: Tensor = self.head(self.blocks(x).mean(1))
        return out

    def wrapped(self, **wrap: Wrap) -> Transformer:
        """The same network with modified derivatives."""
        for block in self.blocks:
            assert isinstance(block, Attention)
            block.wrap = wrap
        return self


def made(bias: bool = True, words: int = 0) -> Transformer:
    """A transformer with weights that are always the same; biases and scales aren't trivial."""
    torch.manual_seed(3)
    net = Transformer(bias, words).eval()
    for block in net.blocks:
        assert isinstance(block, Attention)
        for norm in (block.norm1, block.norm2):
            nn.init.normal_(norm.weight, 1.0, 0.2)
            nn.init.normal_(norm.bias, 0.0, 0.2 if bias else 0.0)
    return net


def gradient_times_input(net: nn.Module, x: np.ndarray, target: int) -> np.ndarray:
    """In double precision."""
    leaf = torch.from_numpy(x).double().requires_grad_()
    net.double()(leaf)[:, target].sum().backward()
    net.float()
    assert leaf.grad is not None
    return (leaf * leaf.grad).detach().numpy()


def onnx_files(net: nn.Module, x: np.ndarray) -> dict[str, bytes]:
    """The network as the exporters of torch write it: fused or written out, optimised or not."""
    made: dict[str, bytes] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, opset, fold in (("legacy-17", 17, True), ("legacy-17-nofold", 17, False), ("legacy-14", 14, True)):
            buffer = io.BytesIO()
            torch.onnx.export(
                net, (torch.from_numpy(x),), buffer, opset_version=opset, dynamo=False, do_constant_folding=fold,
                input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            )  # fmt: skip
            made[name] = buffer.getvalue()
        for name, optimize in (("dynamo-18", True), ("dynamo-18-noopt", False)):
            program = torch.onnx.export(
                net, (torch.from_numpy(x),), opset_version=18, dynamo=True, optimize=optimize, verbose=False,
                input_names=["x"], output_names=["y"],
            )  # fmt: skip
            assert program is not None
            made[name] = program.model_proto.SerializeToString()
    return made
