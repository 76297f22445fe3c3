"""What a model's output is, told by the nodes that make it: probabilities, fitted values.

Belongs here: reading the last nodes of an ONNX graph. Not here: which value is explained (``scores``).
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from analyzer.model_facts import producer

#: Operators that leave numbers as they are.
REARRANGING = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Transpose"}
_SUMS = ("ReduceSum", "ReduceL1")
#: How many nodes are looked at behind one another.
_DEEPEST = 8


def is_distribution(graph: onnx.GraphProto, value: str, depth: int = 0) -> bool:
    """Whether values are non-negative shares of one, or means of such: normalised by their sum, or exp(log p).

    So end nearest neighbours, naive Bayes, calibrated and averaged classifiers that are written out node by node.
    """
    node = producer(graph, value)
    if node is None or depth > _DEEPEST:
        return False
    kind, inputs = node.op_type, list(node.input)
    if kind in REARRANGING:
        return is_distribution(graph, inputs[0], depth + 1)
    if kind == "Softmax" or (kind == "Normalizer" and any(a.name == "norm" and a.s == b"L1" for a in node.attribute)):
        return True
    if kind == "Exp":
        inner = producer(graph, inputs[0])
        return (
            inner is not None
            and inner.op_type == "Sub"
            and _maker(graph, inner.input[1], ("ReduceLogSumExp",)) is not None
        )
    if kind == "Div" and (total := _maker(graph, inputs[1], _SUMS)) is not None:
        return bool({*_trail(graph, inputs[0])} & {*_trail(graph, total.input[0])})
    if kind in ("Div", "Mul") and _is_constant(graph, inputs[1]):
        summed = producer(graph, inputs[0])
        adding = summed is not None and summed.op_type in ("Sum", "Add")
        return summed is not None and adding and all(is_distribution(graph, each, depth + 1) for each in summed.input)
    return kind == "Mean" and all(is_distribution(graph, each, depth + 1) for each in inputs)


def is_regression(graph: onnx.GraphProto, value: str) -> bool:
    """Whether values are what was fitted: a regressor's, or the one output of a model that has no classes.

    A fitted pipeline with classes gives their labels beside their scores, so one that gives a single output of numbers is a
    regression.
    """
    at = value
    for _ in range(_DEEPEST):
        node = producer(graph, at)
        if node is None or node.op_type not in (*REARRANGING, "Add", "Mul", "Div"):
            break
        at = node.input[0]
    if node is not None and node.domain == "ai.onnx.ml" and node.op_type.endswith("Regressor"):
        return True
    fitted = any(each.domain == "ai.onnx.ml" for each in graph.node)
    classifies = any(each.op_type.endswith("Classifier") or each.op_type == "ZipMap" for each in graph.node)
    return fitted and not classifies and len(graph.output) == 1


def _trail(graph: onnx.GraphProto, value: str) -> Iterator[str]:
    """A value and what it is, rearranged, clipped or with a guard against zero added, step by step."""
    for _ in range(_DEEPEST):
        yield value
        node = producer(graph, value)
        if node is None or node.op_type not in (*REARRANGING, "Add", "Clip", "Max", "Expand"):
            return
        value = node.input[0]


def _maker(graph: onnx.GraphProto, value: str, operators: tuple[str, ...]) -> onnx.NodeProto | None:
    """The node that makes a value, looked for along its trail, where it is one of some operators."""
    made = (producer(graph, each) for each in _trail(graph, value))
    return next((node for node in made if node is not None and node.op_type in operators), None)


def _is_constant(graph: onnx.GraphProto, value: str) -> bool:
    node = producer(graph, value)
    return any(tensor.name == value for tensor in graph.initializer) or (
        node is not None and node.op_type == "Constant"
    )
