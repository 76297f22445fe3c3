"""Files that onnxruntime has optimised, with blocked channels: explained as the file that they were made from."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import analyzer
from analyzer.importer.ops.microsoft_nchwc import NCHWC, block_size

F = nn.functional


class Pools(nn.Module):
    """Few, many and uneven channels, a depthwise layer, a sum, averages and maxima of windows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 32, 3, 2, 1)
        self.depthwise, self.narrow = nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.Conv2d(32, 20, 1)
        self.wide, self.same, self.head = nn.Conv2d(20, 64, (1, 3)), nn.Conv2d(64, 64, 1), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.first(x)), 2)
        x = torch.relu(self.second(x))
        x = x + torch.sigmoid(self.depthwise(x))
        x = F.avg_pool2d(F.hardtanh(self.narrow(x), -0.5, 0.7), 2, 1)
        x = self.wide(x)
        x = torch.relu(x + self.same(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


class Joined(nn.Module):
    """Groups, joined branches, resampling, a maximum over all places, channels last behind a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.groups = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3, 1, 1, groups=2)
        self.left, self.right = nn.Conv2d(64, 32, 1), nn.Conv2d(64, 32, 3, 1, 1)
        self.last, self.head = nn.Conv2d(64, 24, 1), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.groups(torch.relu(self.first(x))))
        x = torch.cat([self.left(x), torch.relu(self.right(x))], 1)
        x = F.interpolate(F.interpolate(x, scale_factor=2), scale_factor=2, mode="bilinear")
        x = self.last(x)
        return self.head(x.permute(0, 2, 3, 1).mean((1, 2))) + F.adaptive_max_pool2d(x, 1).flatten(1)[:, :3]  # type: ignore[no-any-return]


def optimized(net: nn.Module, x: Tensor, folder: Path) -> tuple[Path, Path]:
    """The export, and onnxruntime's file of it for this processor."""
    plain, blocked = folder / "plain.onnx", folder / "blocked.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            net.eval(), (x,), plain, dynamo=False, opset_version=17, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(blocked), 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    return plain, blocked


@pytest.mark.parametrize("made", [Pools, Joined])
def test_they_are_explained_as_what_they_were_made_from(made: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 18, 16)
    plain, blocked = (p for p in optimized(made(), x, tmp_path))
    inside = {node.op_type for node in onnx.load(blocked).graph.node if node.domain == NCHWC}
    if not inside:
        pytest.skip("onnxruntime doesn't block channels on this processor")
    assert {"Conv", "ReorderOutput"} <= inside
    one, other = (analyzer.load(path, device="cpu") for path in (plain, blocked))
    assert other.verify(x.numpy()).error < 1e-5
    for method in ("gradient", "lrp", "deeplift", "occlusion"):
        want, got = (model.explain(x.numpy(), method, target=1).attribution for model in (one, other))
        assert want.any()
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max(), err_msg=method)


def test_the_block_is_a_power_of_two() -> None:
    assert block_size() in (1, 4, 8, 16, 32)
