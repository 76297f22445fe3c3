"""Implementation invariance: every export of one network gives the same relevance, whatever the exporter folded."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analyzer import Model, load

SHARED = Path(__file__).resolve().parents[4] / "shared"
VARIANTS = ("opset17_legacy", "opset17_legacy_nofold", "opset18_dynamo", "opset18_dynamo_noopt")
NETS = ("vgg", "resnet", "gapnet", "mobilenet", "mlp", "textcnn", "transformer", "generator")
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("gradient", {}), ("guided-backprop", {}), ("deep-taylor", {}), ("deeplift", {}),
    ("deeplift", {"variant": "reveal-cancel"}),
    *(("lrp", {"composite": name}) for name in ("epsilon", "epsilon-plus", "epsilon-plus-flat", "gamma", "alpha-beta",
                                                "attn-lrp")),
]  # fmt: skip


class Residual(nn.Module):
    """Convolution with normalisation, a skip connection, overlapping pooling, a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.conv, self.norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.pool, self.gate = nn.MaxPool2d(3, 2, 1), nn.Linear(6, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.pool(torch.relu(self.norm(self.conv(x)) + x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        out: Tensor = self.head(nn.functional.silu(x).mean((2, 3)))
        return out


class Encoder(nn.Module):
    """Attention and a feed-forward block written with everyday functions."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out(torch.softmax(q @ k.transpose(1, 2) / 8**0.5, -1) @ v)
        x = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
        out: Tensor = self.head(x.mean(1))
        return out


def agree(models: list[Model], x: np.ndarray, method: str, params: dict[str, Any], target: str = "top1") -> None:
    first, *others = (m.explain(x, method, target, precision="float64", **params).raw for m in models)
    assert np.abs(first).max() > 0
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=5e-6 * np.abs(first).max())


@pytest.fixture(scope="module", params=[(Residual, (2, 3, 10, 10)), (Encoder, (2, 5, 8))], ids=["residual", "encoder"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Model], np.ndarray]:
    made, shape = request.param
    torch.manual_seed(1)
    net, x = made(), torch.randn(shape)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    folder, kinds = tmp_path_factory.mktemp("exports"), [(False, True), (False, False), (True, True), (True, False)]
    for i, (dynamo, optimized) in enumerate(kinds):
        how: dict[str, Any] = {"optimize": optimized} if dynamo else {"do_constant_folding": optimized}
        torch.onnx.export(
            net.eval(), (x,), folder / f"{i}.onnx", dynamo=dynamo, verbose=False, external_data=False,
            opset_version=18 if dynamo else 17, **how,
        )  # fmt: skip
    return [load(folder / f"{i}.onnx") for i in range(len(kinds))], x.numpy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("method", "params"), METHODS, ids=lambda v: v if isinstance(v, str) else str([*v.values()]))
def test_exports_made_here(live: tuple[list[Model], np.ndarray], method: str, params: dict[str, Any]) -> None:
    agree(*live, method, params)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the reference networks, which lie beside the repository")
@pytest.mark.parametrize(("method", "params"), METHODS, ids=lambda v: v if isinstance(v, str) else str([*v.values()]))
@pytest.mark.parametrize("net", NETS)
def test_exports_of_the_reference_networks(net: str, method: str, params: dict[str, Any]) -> None:
    target = "output[:,1,8,8]" if net == "generator" else "top1"
    agree(*reference(net), method, params, target)


@functools.cache
def reference(net: str) -> tuple[list[Model], np.ndarray]:
    folder = SHARED / "golden" / net
    return [load(folder / f"model_{variant}.onnx") for variant in VARIANTS], np.load(folder / "io.npz")["input"][:1]
