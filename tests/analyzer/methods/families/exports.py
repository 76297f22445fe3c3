"""Every export of a family's network."""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from tests.analyzer.methods.families.declared import FAMILIES

#: Name -> exporter, opset, whether constants are folded.
EXPORTS = {
    "legacy-13": (False, 13, True), "legacy-17": (False, 17, True), "legacy-17-unfolded": (False, 17, False),
    "legacy-20": (False, 20, True), "dynamo-18": (True, 18, True), "dynamo-18-unfolded": (True, 18, False),
    "dynamo-21": (True, 21, True), "dynamo-23": (True, 23, True),
}  # fmt: skip


def network(name: str) -> tuple[nn.Module, Tensor]:
    """A family's network in evaluation mode, with statistics that normalise, and an input."""
    make, shape = FAMILIES[name]
    torch.manual_seed(4)
    net = make().eval()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    return net, torch.randn(shape)


def exported(net: nn.Module, x: Tensor, how: str) -> bytes:
    """The network's file by one of :data:`EXPORTS`."""
    dynamo, opset, folded = EXPORTS[how]
    options: dict[str, Any] = {"optimize": folded} if dynamo else {"do_constant_folding": folded}
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), file, dynamo=dynamo, opset_version=opset, verbose=False, **options)
    return file.getvalue()
