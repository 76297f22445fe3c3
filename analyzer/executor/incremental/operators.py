"""The table of operators that can be computed in part.

Belongs here: operator -> function that says how. Not here: those functions (``pointwise``, ``windowed``).
"""

from __future__ import annotations

from collections.abc import Callable

from onnx import NodeProto

from analyzer.executor.incremental import pointwise, windowed
from analyzer.executor.incremental.locality import Local, Look, NotLocal

_POINTWISE = frozenset([
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "Cast", "Ceil", "Celu",
    "Clip", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual",
    "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max",
    "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu",
    "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan",
    "Tanh", "ThresholdedRelu", "Where", "Xor",
])  # fmt: skip
_REDUCTIONS = frozenset([
    "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
])  # fmt: skip


def local(node: NodeProto, look: Look) -> Local:
    """How a node that reads changed values is computed in part.

    Raises
    ------
    NotLocal
        With the reason, where it can't be.
    """
    if node.domain not in ("", "ai.onnx"):
        raise NotLocal(f"{node.op_type} of {node.domain}")
    if node.op_type != "Split" and not any(name in look.graph.read for name in node.output[1:]):
        lone = NodeProto()
        lone.CopyFrom(node)
        lone.output[:] = node.output[:1]
        node = lone
    if node.op_type in _POINTWISE:
        return pointwise.pointwise(node, look)
    if node.op_type in _REDUCTIONS:
        return pointwise.reduction(node, look)
    if node.op_type not in _OPERATORS:
        raise NotLocal(f"{node.op_type} mixes positions")
    return _OPERATORS[node.op_type](node, look)


_OPERATORS: dict[str, Callable[[NodeProto, Look], Local]] = {
    "AveragePool": windowed.average_pool,
    "BatchNormalization": pointwise.normalisation,
    "Concat": pointwise.concat,
    "Conv": windowed.convolution,
    "Dropout": pointwise.dropout,
    "Gather": pointwise.gather,
    "LRN": lambda node, look: pointwise.channelwise(node, look, [1]),
    "LayerNormalization": pointwise.layer_normalisation,
    "LogSoftmax": pointwise.softmax,
    "MatMul": pointwise.matmul,
    "MaxPool": windowed.max_pool,
    "Pad": windowed.pad,
    "Resize": windowed.resize,
    "Slice": pointwise.slice_,
    "Softmax": pointwise.softmax,
    "Split": pointwise.split,
    "Transpose": pointwise.transpose,
    "Upsample": windowed.resize,
}
