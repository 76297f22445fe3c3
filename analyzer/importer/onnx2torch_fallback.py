"""The fallback for operators: onnx2torch's converters, for nodes that the operator table has no function for.

Belongs here: importing onnx2torch where torchvision's native part doesn't load, and running one of its converters on one
node. Not here: deciding whether the result may stand: that is ``parity``'s, and a trace that used this module is never
given out unverified.

onnx2torch imports torchvision for two operators that the table has itself. PyPI's torchvision doesn't load beside a CPU-only
torch (``operator torchvision::nms does not exist``); declaring the two missing schemas before the import is enough.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.recorder import recorded, without_recording

_declared: list[torch.library.Library] = []


def _declare_torchvision() -> None:
    """Make ``import torchvision`` succeed without its native part. The schemas have no implementation: calling them fails."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)


@functools.cache
def available() -> bool:
    """Whether onnx2torch can be imported here; imports it."""
    try:
        import torchvision
    except ImportError:
        return False
    except RuntimeError:
        _declare_torchvision()
        try:
            import torchvision  # noqa: F401
        except (ImportError, RuntimeError):
            return False
    try:
        import onnx2torch.converter  # noqa: F401
    except (ImportError, RuntimeError):
        return False
    return True


def has(node: Node) -> bool:
    """Whether onnx2torch has a converter for the node."""
    return node.proto is not None and _standard(node) and available() and _converter(node) is not None


def _standard(node: Node) -> bool:
    """A quick look before the import: onnx2torch has converters for the standard domain alone."""
    return node.domain == "" and onnx.defs.has(node.op_type)


def _converter(node: Node) -> Callable[..., Any] | None:
    from onnx2torch.node_converters.registry import get_converter

    try:
        found: Callable[..., Any] = get_converter(node.op_type, node.version, node.domain)
    except NotImplementedError:
        return None
    return found


def run(node: Node, *inputs: Tensor | None) -> tuple[Tensor, ...]:
    """Convert one node and run it; what doesn't depend on the model's input is given to it as a constant.

    Raises
    ------
    NotImplementedError
        The converter refuses this node.
    """
    from onnx2torch.onnx_graph import OnnxGraph

    assert node.proto is not None
    values = {name: value for name, value in zip(node.inputs, inputs, strict=False) if name and value is not None}
    constants = {name: value for name, value in values.items() if not recorded(value)}
    with without_recording():
        graph = onnx.helper.make_graph(
            [node.proto],
            "node",
            [_info(name, value) for name, value in values.items() if name not in constants],
            [onnx.ValueInfoProto(name=name) for name in node.outputs if name],
            [numpy_helper.from_array(np.ascontiguousarray(v.numpy()), k) for k, v in constants.items()],
        )
        wrapped = OnnxGraph(graph)
        converter = _converter(node)
        assert converter is not None
        converted = converter(next(iter(wrapped.nodes.values())), wrapped)
        converted.torch_module.eval()
    out = converted.torch_module(*[values[name] for name in converted.onnx_mapping.inputs if name])
    return tuple(out) if isinstance(out, (tuple, list)) else (out,)


def _info(name: str, value: Tensor) -> onnx.ValueInfoProto:
    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(str(value.dtype).removeprefix("torch.")))
    return onnx.helper.make_tensor_value_info(name, dtype, list(value.shape))
