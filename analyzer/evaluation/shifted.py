"""A model that takes inputs with a constant added and computes what the model computes without it.

The constant is taken off again in the bias of the first layer, and what pads the input there becomes the constant: the two models
compute the same numbers from then on.

Belongs here: that rewriting. Not here: what explanations make of it (``metrics.input_invariance``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from analyzer.errors import UnsupportedError
from analyzer.evaluation.measure import Array
from analyzer.evaluation.randomised import reloaded, writable_copy
from analyzer.inputs.graph_readers import GraphReaders, attributes_of
from analyzer.model import Model

#: Operators by which a constant that was added stays one.
_KEEPS_CONSTANT = frozenset(("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"))


def shifted(model: Model, names: list[str], shift: float) -> Model:
    """The model with inputs of which some have ``shift`` added to every value.

    Raises
    ------
    UnsupportedError
        ``metric.first_layer`` where what reads one of them first isn't a convolution or product with constant weights.
    """
    proto = writable_copy(model)
    graph = proto.graph
    reading = GraphReaders.of(graph)
    for name in names:
        for node, source in list(_first(reading, name)):
            if node.op_type == "Conv":
                _convolution(graph, reading, node, shift)
            elif node.op_type in ("Gemm", "MatMul") and node.input[0] == source and node.input[1] in reading.constants:
                _product(graph, reading, node, shift)
            else:
                raise _refused(node, name)
    return reloaded(model, proto)


def _first(reading: GraphReaders, name: str) -> Iterator[tuple[NodeProto, str]]:
    """The nodes that work on an input first, each with the value that it reads it by."""
    waiting = [name]
    while waiting:
        value = waiting.pop()
        for node in reading.of_value(value):
            if node.op_type in _KEEPS_CONSTANT and node.input[0] == value:
                waiting.append(node.output[0])
            else:
                yield node, value


def _convolution(graph: GraphProto, reading: GraphReaders, node: NodeProto, shift: float) -> None:
    """Take the constant off in the bias, and pad with it."""
    given = attributes_of(node)
    auto, constants = given.get("auto_pad", b"NOTSET"), [name in reading.constants for name in node.input[1:] if name]
    if auto not in (b"NOTSET", b"VALID", b"") or not all(constants):
        raise _refused(node, node.input[0])
    weight = numpy_helper.to_array(reading.constants[node.input[1]])
    old = numpy_helper.to_array(reading.constants[node.input[2]]) if len(node.input) > 2 and node.input[2] else 0.0
    wide = old - shift * weight.reshape(len(weight), -1).sum(axis=1, dtype=np.float64)
    name = _constant(graph, f"{node.output[0]}_shifted_bias", wide.astype(weight.dtype))
    pads = list(given.get("pads", []))
    if any(pads):
        half = len(pads) // 2
        around = np.array([0, 0, *pads[:half], 0, 0, *pads[half:]], np.int64)
        padded = f"{node.output[0]}_padded"
        inputs = [
            node.input[0],
            _constant(graph, f"{padded}_pads", around),
            _constant(graph, f"{padded}_value", np.asarray(shift, weight.dtype)),
        ]
        at = next(at for at, each in enumerate(graph.node) if each is node or each.output[:] == node.output[:])
        graph.node.insert(at, helper.make_node("Pad", inputs, [padded], name=padded))
        node = graph.node[at + 1]
        node.input[0] = padded
        kept = [entry for entry in node.attribute if entry.name != "pads"]
        del node.attribute[:]
        node.attribute.extend(kept)
    del node.input[2:]
    node.input.append(name)


def _product(graph: GraphProto, reading: GraphReaders, node: NodeProto, shift: float) -> None:
    """Take the constant off behind a matrix product."""
    given = attributes_of(node) if node.op_type == "Gemm" else {}
    if given.get("transA"):
        raise _refused(node, node.input[0])
    weight = numpy_helper.to_array(reading.constants[node.input[1]])
    summed = weight.sum(axis=-1 if given.get("transB") else -2, dtype=np.float64) * given.get("alpha", 1.0)
    off = _constant(graph, f"{node.output[0]}_shifted_bias", (-shift * summed).astype(weight.dtype))
    at = next(at for at, each in enumerate(graph.node) if each.output[:] == node.output[:])
    output, unshifted = node.output[0], f"{node.output[0]}_unshifted"
    graph.node[at].output[0] = unshifted
    graph.node.insert(at + 1, helper.make_node("Add", [unshifted, off], [output], name=f"{output}_shift"))


def _constant(graph: GraphProto, name: str, values: Array) -> str:
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return name


def _refused(node: NodeProto, name: str) -> UnsupportedError:
    return UnsupportedError(
        "metric.first_layer",
        f"{name!r} is first read by the {node.op_type} node {node.name!r}, which has no bias to take a constant off in",
        "input-invariance needs a convolution without automatic padding, or a matrix product, with constant weights first",
    )
