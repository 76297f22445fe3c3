"""Small networks whose feature maps aren't (batch, channels, height, width). Not here: what their maps should be."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from analyzer import Model, load


class Attention(nn.Module):
    """Self-attention over the last but one axis."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q * 0.5 @ k.transpose(-2, -1), -1) @ v
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return out


class Block(nn.Module):
    """Attention and a perceptron, each behind a normalisation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Patches(nn.Module):
    """A vision transformer's trunk: a class token, registers, patches of 4 x 4."""

    def __init__(self, registers: int, mean: bool, last: bool = False) -> None:
        super().__init__()
        self.registers, self.mean, self.last = registers, mean, last
        self.patch_embed = nn.Conv2d(3, 8, 4, 4)
        self.cls, self.reg = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, registers, 8))
        self.pos = nn.Parameter(torch.randn(1, 12, 8))
        self.blocks = nn.ModuleList([Block(8, 2), Block(8, 2)])
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2) + self.pos
        beside = [self.cls.expand(x.shape[0], -1, -1), self.reg.expand(x.shape[0], -1, -1)]
        x = torch.cat([x, *beside] if self.last else [*beside, x], 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        out: Tensor = self.head(x[:, 1 + self.registers :].mean(1) if self.mean else x[:, -3 if self.last else 0])
        return out


class Windows(nn.Module):
    """Two blocks of attention in windows of 2 x 2, the second one shifted, on (batch, rows, columns, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed, self.blocks = nn.Conv2d(3, 8, 2, 2), nn.ModuleList([Block(8, 2), Block(8, 2)])
        self.merge, self.norm, self.head = nn.Linear(32, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 5)

    def windowed(self, block: nn.Module, x: Tensor) -> Tensor:
        batch, rows, columns, width = x.shape
        cut = x.reshape(batch, rows // 2, 2, columns // 2, 2, width).transpose(2, 3).reshape(-1, 4, width)
        back = block(cut).reshape(batch, rows // 2, columns // 2, 2, 2, width).transpose(2, 3)
        return back.reshape(batch, rows, columns, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.windowed(self.blocks[0], self.patch_embed(x).permute(0, 2, 3, 1))
        x = torch.roll(self.windowed(self.blocks[1], torch.roll(x, (-1, -1), (1, 2))), (1, 1), (1, 2))
        corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        out: Tensor = self.head(self.norm(self.merge(torch.cat(corners, -1))).mean((1, 2)))
        return out


class ChannelsLast(nn.Module):
    """(batch, height, width, channels) from end to end, as TensorFlow's exports and ConvNeXt's blocks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 1, 1, groups=6)
        self.norm, self.up, self.act, self.down = nn.LayerNorm(6), nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6)
        self.scale, self.final, self.head = nn.Parameter(torch.rand(6)), nn.ReLU(), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.permute(0, 3, 1, 2))
        block = self.norm(self.depth(x).permute(0, 2, 3, 1))
        x = x.permute(0, 2, 3, 1) + self.scale * self.down(self.act(self.up(block)))
        out: Tensor = self.head(self.final(x).mean((1, 2)))
        return out


class Tower(nn.Module):
    """A picture's embedding."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.first, self.last, self.out = nn.Conv2d(channels, 6, 3, 2, 1), nn.ReLU(), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.last(self.first(x)).mean((2, 3)))
        return out


class Siamese(nn.Module):
    """Two pictures through the same tower; how alike they are."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = Tower()

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        return (self.tower(one) * self.tower(two)).sum(1, keepdim=True)


class Stacked(nn.Module):
    """Two pictures as one of six channels, and a vector that shifts the features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.shift = nn.Conv2d(6, 6, 3, 2, 1), nn.ReLU(), nn.Linear(3, 6)
        self.out = nn.Linear(6, 5)

    def forward(self, vector: Tensor, one: Tensor, two: Tensor) -> Tensor:
        x = self.last(self.conv(torch.cat([one, two], 1)) + self.shift(vector)[:, :, None, None])
        out: Tensor = self.out(x.mean((2, 3)))
        return out


class TextAndPicture(nn.Module):
    """A text's embedding times a picture's; the text comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.block, self.out, self.tower = nn.Embedding(20, 8), Block(8, 2), nn.Linear(8, 4), Tower()

    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> Tensor:
        text = self.out(self.block(self.words(input_ids))[:, 0])
        return self.tower(pixel_values) @ text.t()


def made(net: nn.Module, seed: int = 0) -> nn.Module:
    """A network with large weights, so that its normalisations and gates matter."""
    torch.manual_seed(seed)
    for value in net.parameters():
        nn.init.normal_(value, std=0.5)
    return net.eval()


def exported(net: nn.Module, x: dict[str, np.ndarray], dynamic: bool = True) -> Model:
    """The network through an ONNX file."""
    buffer, axes = io.BytesIO(), {name: {0: "batch"} for name in [*x, "y"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, tuple(torch.from_numpy(value) for value in x.values()), buffer, input_names=list(x), output_names=["y"],
            dynamic_axes=axes if dynamic else None, opset_version=17, dynamo=False,
        )  # fmt: skip
    return load(buffer.getvalue(), device="cpu")


def at_module(
    net: nn.Module, module: nn.Module, x: dict[str, np.ndarray], target: int, call: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    """What a module gives and the derivatives of a score by it, by autograd; ``call``: which of its calls."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: object, out: Tensor) -> None:
        out.retain_grad()
        seen.append(out)

    handle = module.register_forward_hook(keep)
    net(*(torch.from_numpy(value) for value in x.values()))[:, target].sum().backward()
    handle.remove()
    grad = seen[call].grad
    assert grad is not None
    return seen[call].detach().numpy(), grad.numpy()
