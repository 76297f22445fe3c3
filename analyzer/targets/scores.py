"""Which value of a model is explained: finding the scores behind a final softmax or sigmoid.

Belongs here: reading the end of an ONNX graph. Not here: picking a class (``language``), running anything. Reads protobufs
only, so that perturbation methods need nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from analyzer.errors import UnsupportedError, UsageError
from analyzer.model_facts import probabilities_of, producer
from analyzer.targets.origin import REARRANGING, is_distribution, is_regression

Kind = Literal["logit", "probability", "log-probability", "value"]

_SQUASHING = {"Softmax", "LogSoftmax", "Sigmoid"}
_RESHAPING = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_MIXED: tuple[int, ...] = ()
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
        The final operator of the output that was removed to get at the scores, or None.
    regression
        Whether the values are what was fitted, not scores of classes.
    permutation
        Where axes are transposed between that operator and the output: output axis -> axis of ``value``; else None.
    """

    output: str
    value: str
    kind: Kind
    squashed_by: str | None = None
    permutation: tuple[int, ...] | None = None
    regression: bool = False

    def laid_out(self, scores: NDArray[Any], output: NDArray[Any]) -> NDArray[Any] | None:
        """The scores in the layout of the output, which targets index; None where their batch axes differ."""
        permuted = scores if self.permutation is None else scores.transpose(self.permutation)
        if permuted.ndim and output.ndim and len(permuted) != len(output):
            return None
        return permuted.reshape(output.shape)

    def pulled_back(self, weights: NDArray[Any], scores: NDArray[Any]) -> NDArray[Any]:
        """Weights on the output's elements as weights on the scores; undoes :meth:`laid_out`."""
        if self.permutation is None:
            return weights.reshape(scores.shape or (1,))
        permuted = weights.reshape([scores.shape[axis] for axis in self.permutation])
        return permuted.transpose(np.argsort(self.permutation))


def scored_in(graph: onnx.GraphProto, output: str | None, score: str) -> Scored:
    """The value with the scores of ``output``.

    Parameters
    ----------
    output
        Name of a graph output; None chooses the first floating-point one.
    score
        ``logit`` stands for the input of a final softmax, log-softmax or sigmoid, ``probability`` for its result.

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
    squashing, permutation = _squashing(graph, value)
    if squashing is not None:
        if score == "logit" and permutation is not _MIXED:
            return Scored(name, squashing.input[0], "logit", squashing.op_type, permutation)
        return Scored(name, value, "log-probability" if squashing.op_type == "LogSoftmax" else "probability")
    if value != name or _from_classifier(graph, value) or is_distribution(graph, value):
        return Scored(name, value, "probability")
    if is_regression(graph, value):
        return Scored(name, value, "value", regression=True)
    return Scored(name, value, "logit" if score == "logit" and _has_classes(graph, name) else "value")


def _has_classes(graph: onnx.GraphProto, output: str) -> bool:
    """Whether the output can hold one score per class: two axes (trailing ones of size 1 aside), the second longer than 1."""
    shape = next(o.type.tensor_type.shape for o in graph.output if o.name == output)
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in shape.dim]
    while len(sizes) > 2 and sizes[-1] == 1:
        sizes.pop()
    return not sizes or (len(sizes) == 2 and sizes[1] != 1)


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


def _squashing(graph: onnx.GraphProto, value: str) -> tuple[onnx.NodeProto | None, tuple[int, ...] | None]:
    """The operator that squashes a value, and the transposition of axes after it; ``_MIXED`` where they are reshaped as well."""
    permutation: tuple[int, ...] | None = None
    reshaped = False
    for _ in range(16):
        node = producer(graph, value)
        if node is None or node.domain not in ("", "ai.onnx"):
            return None, None
        if node.op_type in _SQUASHING:
            return node, _MIXED if reshaped and permutation is not None else permutation
        if node.op_type not in REARRANGING:
            return None, None
        reshaped |= node.op_type in _RESHAPING
        if node.op_type == "Transpose":
            axes = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), _MIXED)
            reshaped |= axes is _MIXED  # it reverses axes whose number isn't known here
            permutation = axes if permutation is None or reshaped else tuple(axes[axis] for axis in permutation)
        value = node.input[0]
    return None, None


def _from_classifier(graph: onnx.GraphProto, value: str) -> bool:
    """Whether the value comes from a classifier of the domain ``ai.onnx.ml``, normalised or not."""
    for _ in range(16):
        node = producer(graph, value)
        if node is None or (node.op_type not in REARRANGING and node.domain != "ai.onnx.ml"):
            return False
        if node.op_type.endswith("Classifier"):
            return True
        if node.domain == "ai.onnx.ml" and node.op_type != "Normalizer":
            return False
        value = node.input[0]
    return False
