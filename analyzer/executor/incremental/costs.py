"""What computing costs, in multiply-adds: the model by which stages are chosen and a gain is predicted.

Belongs here: the cost of a node and of moving an element. Not here: choosing (``plan``).

The constants are ratios measured with onnxruntime's CPU kernels: a float moved costs as much as some tens of the
multiply-adds of a convolution, since those run from registers.
"""

from __future__ import annotations

import math

from onnx import NodeProto, helper

from analyzer.executor.incremental.graph import Graph

#: Cutting an element out of a map or writing it into one; handing it to a session and back.
MOVE = 60.0
#: Cutting one crop, whatever its size.
CUT = 4e5
#: An element that a pointwise operator or pooling writes.
TOUCH = 15.0
#: Starting a session once; reading one weight from memory, once per start.
RUN, STREAM = 4e6, 30.0
#: Making a session; loading one weight into it.
SESSION, LOAD = 2.5e8, 800.0
#: A multiply-add of a depthwise convolution: bound by memory.
DEPTHWISE = 8.0
#: Operators that are merged into the one before them.
_FREE = frozenset([
    "BatchNormalization", "Clip", "Constant", "Dropout", "Flatten", "Identity", "Relu", "Reshape", "Squeeze",
    "Unsqueeze",
])  # fmt: skip


def work(node: NodeProto, graph: Graph) -> float:
    """Multiply-adds of a node for one run; what isn't known costs nothing."""
    shapes = graph.shapes
    made = max((math.prod(shapes[name]) for name in node.output if name in shapes), default=0)
    if node.op_type in _FREE:
        return 0.0
    if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in shapes:
        kernel = shapes[node.input[1]]
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        positions = made if node.op_type == "Conv" else math.prod(shapes.get(node.input[0], (0,)))
        return positions * math.prod(kernel[1:]) * (DEPTHWISE if groups > 1 and kernel[1] < 4 else 1.0)
    if node.op_type == "Gemm" and node.input[1] in shapes and node.input[0] in shapes:
        transposed = any(a.name == "transA" and helper.get_attribute_value(a) for a in node.attribute)
        return float(made * shapes[node.input[0]][0 if transposed else 1])
    if node.op_type == "MatMul" and node.input[0] in shapes:
        return float(made * shapes[node.input[0]][-1])
    if node.op_type in ("MaxPool", "AveragePool"):
        window = next((math.prod(a.ints) for a in node.attribute if a.name == "kernel_shape"), 1)
        return made * (TOUCH + window)
    if node.op_type.startswith(("Global", "Reduce")) and node.input[0] in shapes:
        return math.prod(shapes[node.input[0]]) * TOUCH / 2
    return made * TOUCH
