"""Which axis of an input the graph itself takes for channels: by the first layer that says so.

Belongs here: following inputs through a protobuf's first nodes. Not here: what the sizes of a shape suggest (``layout``), what
axes of inner values count (``graph_rules.axis_flow``, which needs a trace).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from analyzer.inputs.graph_readers import GraphReaders, attributes_of

#: Layers whose first input is (batch, channels, places...).
CHANNELS_FIRST = frozenset(
    (
        "Conv", "ConvInteger", "ConvTranspose", "FusedConv", "QLinearConv", "BatchNormalization", "InstanceNormalization",
        "GroupNormalization", "LRN", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool",
    )
)  # fmt: skip
#: Layers whose first input has its features on the last axis.
CHANNELS_LAST = frozenset(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM", "Attention", "LayerNormalization"))
#: Products, which do so where their second factor is a weight.
PRODUCTS = frozenset(("MatMul", "FusedMatMul", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulNBits"))
#: Operators that leave every axis where it is.
KEEPS_AXES = frozenset(
    (
        "Identity", "Cast", "Relu", "Tanh", "Sigmoid", "Clip", "Neg", "Abs", "Sqrt", "Exp", "Log", "Dropout", "Pad",
        "Add", "Sub", "Mul", "Div", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
    )
)  # fmt: skip

#: For every axis of a value, the axis of the input that it is; None for one that was put in.
_Axes = Sequence[int | None]


def channels_by_graph(graph: GraphProto) -> dict[str, int]:
    """Input name -> its channel axis, for inputs of rank 3 and more about which the graph says something.

    The first convolution, pooling, normalisation, recurrent or attention layer, or product with a weight, that an input meets
    decides. What is reshaped before is left to the sizes.
    """
    reading = GraphReaders.of(graph)
    found = {}
    for value in graph.input:
        rank = len(value.type.tensor_type.shape.dim)
        axis = _channels(value.name, list(range(rank)), reading) if rank >= 3 else None
        if axis:  # axis 0 counts the samples
            found[value.name] = axis
    return found


def _channels(name: str, axes: _Axes, reading: GraphReaders) -> int | None:
    """The channel axis of an input by the nodes that read it, nearest first."""
    waiting, seen = [(name, axes)], {name}
    while waiting:
        name, axes = waiting.pop(0)
        for node in reading.of_value(name):
            position = _channel_position(node, name, len(axes), reading.constants)
            if position is not None:
                return axes[position]
            moved = _moved(node, axes, reading.constants)
            if moved is not None and node.output[0] not in seen:
                seen.add(node.output[0])
                waiting.append((node.output[0], moved))
    return None


def _channel_position(node: NodeProto, name: str, rank: int, constants: Mapping[str, TensorProto]) -> int | None:
    """Where a node has the channels of what it reads; None where it doesn't say."""
    if not node.input or node.input[0] != name or rank < 3:
        return None
    if node.op_type in CHANNELS_FIRST:
        return 1
    weighted = node.op_type in PRODUCTS and len(node.input) > 1 and node.input[1] in constants
    return rank - 1 if weighted or node.op_type in CHANNELS_LAST else None


def _moved(node: NodeProto, axes: _Axes, constants: Mapping[str, TensorProto]) -> _Axes | None:
    """The axes of a node's first output; None where they can't be told."""
    attributes = attributes_of(node)
    if node.op_type == "Transpose":
        order = attributes.get("perm", range(len(axes))[::-1])
        return [axes[at] for at in order] if len(order) == len(axes) else None
    if node.op_type == "Unsqueeze":
        where = attributes.get("axes")
        if where is None and len(node.input) > 1 and node.input[1] in constants:
            where = numpy_helper.to_array(constants[node.input[1]]).ravel().tolist()
        if where is None:
            return None
        rank, rest = len(axes) + len(where), iter(axes)
        new = {at % rank for at in where}
        return [None if at in new else next(rest) for at in range(rank)]
    return axes if node.op_type in KEEPS_AXES else None
