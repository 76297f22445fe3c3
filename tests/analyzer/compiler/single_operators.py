"""Models of one operator made fit to be explained: a batch of one in front, scores that weigh everything behind.

Belongs here: the wrapping. Not here: the models themselves (``operator_cases``, the onnx package's node tests).
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from tests.graph_rules.operator_cases import Feed, Form

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
CLASSES = 3
#: The newest that onnxruntime runs.
OPSET, IR = 26, 13
#: Floating-point inputs of which an operator's course depends, so that no fixed graph holds them.
READ = {"Pad": ("value", "v"), "Resize": ("roi", "scales"), "Upsample": ("scales",), "OneHot": ("indices", "depth")}
#: Where the onnx package's numbers saturate, so that derivatives are rounding alone: what they are multiplied by.
SMALL = {"RNN": 0.1}


def wrapped(form: Form) -> Form:
    """The model with inputs of shape (1, …) and ``scores`` of shape (1, 3), a weighing of all floating-point outputs.

    Integers and truth values, which are shapes, axes and indices, are baked in as exporters do.
    """
    blob, feed = form
    model = onnx.ModelProto()
    model.CopyFrom(blob)
    model.ir_version = min(model.ir_version, IR)
    for entry in model.opset_import:
        if not entry.domain:
            entry.version = min(entry.version, OPSET)
    graph, made, given = model.graph, onnx.ModelProto().graph, {}
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    put: list[onnx.NodeProto] = []
    for value in graph.input:
        array = feed.get(value.name)
        named = any(value.name in READ.get(node.op_type, ()) for node in graph.node)
        if array is None or named or value.type.tensor_type.elem_type not in FLOATS:
            if array is not None:
                made.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
            else:
                made.input.append(value)
            continue
        array = np.asarray(array) * np.asarray(SMALL.get(graph.node[0].op_type, 1), np.asarray(array).dtype)
        given[f"{value.name}_batch"] = array[None]
        kind = value.type.tensor_type.elem_type
        made.input.append(helper.make_tensor_value_info(f"{value.name}_batch", kind, [1, *array.shape]))
        put += _reshaped(made, f"{value.name}_batch", value.name, array.shape, opset)
    put += list(graph.node)
    parts = []
    for value, found in zip(graph.output, _results(model, feed), strict=True):
        if isinstance(found, np.ndarray) and found.dtype in (np.float32, np.float64) and found.size:
            put += _reshaped(made, value.name, f"{value.name}_flat", (1, found.size), opset)
            put.append(
                helper.make_node("Cast", [f"{value.name}_flat"], [f"{value.name}_32"], to=onnx.TensorProto.FLOAT)
            )
            name = f"{value.name}_weights"
            weights = np.random.default_rng(found.size).uniform(-1, 1, (found.size, CLASSES)).astype(np.float32)
            made.initializer.append(numpy_helper.from_array(weights, name))
            put.append(helper.make_node("MatMul", [f"{value.name}_32", name], [f"{value.name}_scores"]))
            parts.append(f"{value.name}_scores")
    put.append(helper.make_node("Concat", parts, ["scores"], axis=1))
    made.output.append(helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, CLASSES * len(parts)]))
    made.node.extend(put)
    made.initializer.extend(graph.initializer)
    made.name = graph.name
    graph.CopyFrom(made)
    return model, given


def _reshaped(graph: onnx.GraphProto, name: str, to: str, shape: tuple[int, ...], opset: int) -> list[onnx.NodeProto]:
    if opset < 5:
        return [helper.make_node("Reshape", [name], [to], shape=list(shape))]
    graph.initializer.append(numpy_helper.from_array(np.asarray(shape, np.int64), f"{to}_shape"))
    return [helper.make_node("Reshape", [name, f"{to}_shape"], [to])]


def _results(model: onnx.ModelProto, feed: Feed) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    return list(session.run(None, {key: np.asarray(value) for key, value in feed.items() if key in wanted}))
