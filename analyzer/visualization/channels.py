"""Which axis of an inner value counts channels, by the node that gives it.

Belongs here: going backwards through operators that keep their axes. Not here: which operators have their channels where
(``analyzer.inputs.graph_channels``), axes of traced values (``graph_rules.axis_flow``).
"""

from __future__ import annotations

from onnx import NodeProto

from analyzer.inputs.graph_channels import CHANNELS_FIRST, CHANNELS_LAST, KEEPS_AXES, PRODUCTS
from analyzer.inputs.graph_readers import attributes_of
from analyzer.onnx_model import OnnxModel

#: Beside the operators that keep their axes, those that keep the number of them, which is enough here.
_KEEPS_ORDER = KEEPS_AXES | {
    "Concat", "Slice", "Split", "Resize", "Upsample", "LeakyRelu", "Elu", "Selu", "Gelu", "HardSwish", "HardSigmoid",
    "Softplus", "Softmax", "PRelu", "Mish", "Swish", "Erf", "Pow", "Max", "Min", "Sum", "Where", "Softsign",
}  # fmt: skip
_DEEPEST = 64


def channel_axis(model: OnnxModel, value: str, rank: int) -> int | None:
    """The axis that counts an inner value's channels or features; None for a value of rank 0 or 1.

    Where no layer says it, the last one up to rank 3, else the second.
    """
    if rank < 2:
        return None
    makers = {name: node for node in model.proto.graph.node for name in node.output if name}
    inputs = set(model.inputs)
    order = list(range(rank))  # axis of the value that was asked for -> axis of the value that is looked at
    usual = rank - 1 if rank <= 3 else 1
    for _ in range(_DEEPEST):
        node = makers.get(value)
        if node is None:
            break
        if node.op_type in CHANNELS_FIRST:
            return order.index(1)
        if node.op_type in CHANNELS_LAST or node.op_type in PRODUCTS or node.op_type == "Gemm":
            return order.index(rank - 1)
        if node.op_type == "Transpose":
            permuted = attributes_of(node).get("perm", list(range(rank))[::-1])
            if len(permuted) != rank:
                break
            order = [permuted[axis] for axis in order]
        elif node.op_type not in _KEEPS_ORDER:
            break
        value = _followed(node, makers, inputs)
    if value in inputs and rank == len(model.inputs[value].shape):
        channels = model.axes(
            value, [size if isinstance(size, int) else 2 for size in model.inputs[value].shape]
        ).channels
        return order.index(channels) if channels is not None else usual
    return usual


def _followed(node: NodeProto, makers: dict[str, NodeProto], inputs: set[str]) -> str:
    """The input whose axes are looked at next: the first that is computed."""
    computed = [
        name for name in node.input if name in inputs or (name in makers and makers[name].op_type != "Constant")
    ]
    return str(computed[0]) if computed else ""
