"""Which value of a model is explained: finding the scores behind a final softmax or sigmoid.

Belongs here: reading the end of an ONNX graph. Not here: picking a class of it (``target``), running anything.
Knows protobufs only, so that perturbation methods need nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx

from analyzer.errors import UnsupportedError, UsageError

Kind = Literal["logit", "probability", "value"]

_SQUASHING = {"Softmax", "LogSoftmax", "Sigmoid"}
_MOVING = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Transpose"}
_FLOATING = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
}


@dataclass(frozen=True)
class Scored:
    """The value that is explained.

    Attributes
    ----------
    output
        The graph output that it belongs to.
    value
        The ONNX value that holds the scores: the output itself, or what its final softmax or sigmoid reads.
    kind
        What the scores are.
    squashed_by
        The operator that ends the output and was taken off, or None.
    """

    output: str
    value: str
    kind: Kind
    squashed_by: str | None = None


def probabilities_of(graph: onnx.GraphProto, output: str) -> str:
    """For an output that ZipMap turns into dictionaries: the tensor of probabilities; else the output itself."""
    for node in graph.node:
        if output in node.output and node.op_type == "ZipMap":
            return str(node.input[0])
        if output in node.output and node.op_type == "Identity":
            return probabilities_of(graph, node.input[0])
    return output


def explained(graph: onnx.GraphProto, output: str | None, score: str) -> Scored:
    """The value that an explanation of ``output`` is about.

    Parameters
    ----------
    output
        Name of a graph output; None chooses the first floating-point one.
    score
        ``logit`` takes a softmax, log-softmax or sigmoid that ends the graph off, ``probability`` keeps it.

    Raises
    ------
    UsageError
        ``score.unknown``, ``target.unknown_output``.
    UnsupportedError
        ``model.no_scores`` for a model without a floating-point output.
    """
    if score not in ("logit", "probability"):
        raise UsageError("score.unknown", f"unknown score {score!r}", "use logit or probability")
    name = output or _first_floating(graph)
    if name not in {o.name for o in graph.output}:
        known = ", ".join(o.name for o in graph.output)
        raise UsageError("target.unknown_output", f"the model has no output {name!r}", f"its outputs: {known}")
    value = probabilities_of(graph, name)
    squashing = _squashing(graph, value)
    if squashing is not None:
        if score == "logit":
            return Scored(name, squashing.input[0], "logit", squashing.op_type)
        return Scored(name, value, "probability")
    if value != name or _from_classifier(graph, value):
        return Scored(name, value, "probability")
    return Scored(name, value, "value" if score == "probability" else "logit")


def _first_floating(graph: onnx.GraphProto) -> str:
    for output in graph.output:
        kind = output.type.tensor_type.elem_type
        if output.type.HasField("sequence_type") or kind in _FLOATING:
            return str(output.name)
    for output in graph.output:
        if probabilities_of(graph, output.name) != output.name or not output.type.tensor_type.elem_type:
            return str(output.name)
    raise UnsupportedError(
        "model.no_scores", "the model has no floating-point output to explain", "name an inner value with layer="
    )


def _producer(graph: onnx.GraphProto, value: str) -> onnx.NodeProto | None:
    return next((node for node in graph.node if value in node.output), None)


def _squashing(graph: onnx.GraphProto, value: str) -> onnx.NodeProto | None:
    for _ in range(16):
        node = _producer(graph, value)
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in _SQUASHING:
            return node
        if node.op_type not in _MOVING:
            return None
        value = node.input[0]
    return None


def _from_classifier(graph: onnx.GraphProto, value: str) -> bool:
    node = _producer(graph, value)
    return node is not None and node.domain == "ai.onnx.ml" and node.op_type.endswith("Classifier")
