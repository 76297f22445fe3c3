"""Which inputs may hold NaN for a missing value: those that something in the graph is made for it.

Belongs here: following inputs through a protobuf's nodes. Not here: whether a score is finite in the end
(``analyzer.explain.finiteness``).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import GraphProto, NodeProto, helper

#: Operators that hand NaN on to where it came in.
_HANDS_ON = frozenset(
    (
        "Identity", "Cast", "Concat", "Split", "Slice", "Gather", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose",
        "ArrayFeatureExtractor", "FeatureVectorizer", "Scaler", "Add", "Sub", "Mul", "Div", "Where",
    )
)  # fmt: skip
_TREES = frozenset(("TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"))


def takes_missing(graph: GraphProto) -> frozenset[str]:
    """The inputs whose NaN reaches an imputer of NaN, trees with branches for it, or a test for it."""
    return frozenset(value.name for value in graph.input if _reaches(graph.node, value.name))


def _reaches(nodes: Iterable[NodeProto], name: str) -> bool:
    known = {name}
    for node in nodes:  # in an order they can run in
        if known.isdisjoint(node.input):
            continue
        if _made_for_missing(node):
            return True
        if node.op_type in _HANDS_ON:
            known.update(node.output)
    return False


def _made_for_missing(node: NodeProto) -> bool:
    attributes = {entry.name: entry for entry in node.attribute}
    if node.op_type == "Imputer":
        replaced = attributes.get("replaced_value_float")
        return replaced is not None and bool(np.isnan(helper.get_attribute_value(replaced)))
    if node.op_type in _TREES:
        branches = attributes.get("nodes_missing_value_tracks_true")
        return branches is not None and any(branches.ints)
    return node.op_type == "IsNaN"
