"""Small models with something inside. Not here: what is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

#: A convolution whose channel 1 never fires.
PICTURES = """
<ir_version: 8, opset_import: ["": 17]>
net (float[n, 2, 6, 6] x) => (float[n, 3] y) {
    [body_conv] body_conv_output = Conv <pads = [1, 1, 1, 1]> (x, k, kb)
    [body_relu] body_relu_output = Relu (body_conv_output)
    [pool] pooled = GlobalAveragePool (body_relu_output)
    [flat] flattened = Flatten (pooled)
    [positive] above = Greater (flattened, zero)
    [size] size = Shape (x)
    [head] y = MatMul (flattened, w)
}"""
#: What PICTURES calls its first layers -> what the TorchScript exporter would: names that the text form can't hold.
_EXPORTED = {
    "body_conv": "/body/body.0/Conv", "body_conv_output": "/body/body.0/Conv_output_0",
    "body_relu": "/body/body.1/Relu", "body_relu_output": "/body/body.1/Relu_output_0",
    "pool": "/pool/GlobalAveragePool",
}  # fmt: skip
#: A branch with bodies, and a sequence.
NESTED = """
<ir_version: 8, opset_import: ["": 17]>
net (float[n, 4] x) => (float[n, 4] y) {
    [parts] pieces = SplitToSequence <axis = 1> (x)
    [joined] again = ConcatFromSequence <axis = 1> (pieces)
    [total] total = ReduceSum <keepdims = 0> (again)
    [sign] positive = Greater (total, zero)
    [choice] picked = If (positive) <
        then_branch = then_graph () => (float[n, 4] t) { [inner_relu] t = Relu (again) },
        else_branch = else_graph () => (float[n, 4] e) { [inner_neg] e = Neg (again) }
    >
    [last] y = Tanh (picked)
}"""


def model(text: str, **weights: Any) -> onnx.ModelProto:
    """A model from its text, with initializers."""
    made = parser.parse_model(text)
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items())
    return made


def pictures() -> onnx.ModelProto:
    """:data:`PICTURES` with weights, its first layers named as the TorchScript exporter names them."""
    rng = np.random.default_rng(3)
    bias = np.array([0.1, -1000, 0, 0.2], np.float32)
    made = model(
        PICTURES, k=rng.standard_normal((4, 2, 3, 3)).astype(np.float32), kb=bias, zero=np.zeros(1, np.float32),
        w=rng.standard_normal((4, 3)).astype(np.float32),
    )  # fmt: skip
    for node in made.graph.node:
        node.name = _EXPORTED.get(node.name, node.name)
        node.input[:] = [_EXPORTED.get(name, name) for name in node.input]
        node.output[:] = [_EXPORTED.get(name, name) for name in node.output]
    return made


def nested() -> onnx.ModelProto:
    """:data:`NESTED` with weights."""
    return model(NESTED, zero=np.float32(0))
