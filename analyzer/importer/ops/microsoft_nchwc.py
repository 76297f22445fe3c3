"""Operators on blocked channels (``com.microsoft.nchwc``), which onnxruntime writes into files that it has optimised.

Values there lie in memory as (batch, channels / B, height, width, B), B channels beside each other, though their shape is told as
(batch, channels, height, width) with the channels filled up to a multiple of B. A trace has no memory layout to gain from: it
keeps (batch, channels, height, width) with the channels filled up, and lays only the weights out anew. B belongs to the
processor, not to the file: it is what onnxruntime has here.

Sources: onnxruntime's ``nchwc_transformer.cc`` (which operators, how weights are padded) and ``MlasReorderFilter*``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.ops.microsoft_fused import activated
from analyzer.importer.ops.quantization import standard
from analyzer.importer.table import OperatorFunction, operator

NCHWC = "com.microsoft.nchwc"
#: No processor's block is larger.
_MOST = 64


@functools.cache
def block_size() -> int:
    """How many channels onnxruntime puts beside each other on this processor: seen from what it does with two places."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, _MOST, 1, 2]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("ReorderInput", ["x"], ["y"], domain=NCHWC)], "g", values[:1], values[1:]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(NCHWC, 1)], ir_version=8
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    places = np.tile(np.array([0, 1], np.float32), _MOST).reshape(1, _MOST, 1, 2)
    return int(np.argmax(session.run(None, {"x": places})[0].reshape(-1)))


@operator("ReorderInput", domain=NCHWC)
def reorder_input(node: Node, x: Tensor) -> Tensor:
    """Channels filled up with zeros."""
    x = x.movedim(-1, 1) if node.attr("channels_last", 0) else x
    missing = -x.shape[1] % block_size()
    return F.pad(x, [0, 0] * (x.dim() - 2) + [0, missing]) if missing else x


@operator("ReorderOutput", domain=NCHWC)
def reorder_output(node: Node, x: Tensor) -> Tensor:
    """The channels that there are."""
    channels = node.required("channels")
    x = x if x.shape[1] == channels else x.narrow(1, 0, channels)
    return x.movedim(1, -1) if node.attr("channels_last", 0) else x


@operator("Conv", domain=NCHWC)
def conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None) -> Tensor:
    """Convolution, a sum with ``z``, an activation; the input may also be a plain one of few channels."""
    y = standard("Conv", 11)(node, x, _plain(w), b)
    return activated(node, y if z is None else y + z, node.attr("activation_params") or ())


def _plain(w: Tensor) -> Tensor:
    """Weights (out, in, kernel...) from blocked ones: of input channels that don't fill a block, only outputs are blocked."""
    block, (out, inside), kernel = block_size(), w.shape[:2], list(w.shape[2:])
    count = len(kernel)
    if inside % block:
        apart = w.reshape(out // block, inside, *kernel, block)
        return apart.movedim(-1, 1).reshape(w.shape)
    apart = w.reshape(out // block, inside // block, *kernel, block, block)
    order = [0, count + 3, 1, count + 2, *range(2, count + 2)]
    return apart.permute(order).reshape(w.shape)


def _pooling(name: str, since: int) -> OperatorFunction:
    """The standard operator, which pools every channel by itself."""

    def pooled(node: Node, x: Tensor) -> Tensor:
        y = standard(name, since)(node, x)
        values: Tensor = y[0] if isinstance(y, tuple) else y
        return values

    return pooled


for _name, _since in (("MaxPool", 12), ("AveragePool", 11), ("GlobalMaxPool", 1), ("GlobalAveragePool", 1)):
    operator(_name, domain=NCHWC)(_pooling(_name, _since))


@operator("Upsample", domain=NCHWC)
def upsample(node: Node, x: Tensor) -> Tensor:
    """Nearest or linear, by whole factors."""
    scales: Sequence[int] = node.required("scales")
    attributes = {**node.attributes, "nearest_mode": "floor"}
    factors = torch.tensor(scales, dtype=torch.float32)
    y: Tensor = standard("Resize", 13)(replace(node, attributes=attributes), x, None, factors)
    return y
