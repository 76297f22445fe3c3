"""A protobuf's graph read forwards: which nodes read a value, and which values are constants.

Belongs here: what following an input through a model's first nodes needs. Not here: what is looked for (``graph_channels``,
``graph_selection``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from onnx import GraphProto, NodeProto, TensorProto, helper


@dataclass(frozen=True)
class GraphReaders:
    """The nodes of a graph by what they read.

    Attributes
    ----------
    readers
        Value name -> the nodes that read it, in order.
    constants
        Value name -> its tensor, of initializers and Constant nodes.
    computed
        Names of the values that depend on an input.
    """

    readers: dict[str, list[NodeProto]]
    constants: dict[str, TensorProto]
    computed: frozenset[str]

    @classmethod
    def of(cls, graph: GraphProto) -> GraphReaders:
        """Those of a graph, without its subgraphs."""
        readers: dict[str, list[NodeProto]] = defaultdict(list)
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                readers[name].append(node)
            if node.op_type == "Constant":
                constants.update((node.output[0], entry.t) for entry in node.attribute if entry.name == "value")
        computed = {value.name for value in graph.input} - constants.keys()
        for node in graph.node:
            if not computed.isdisjoint(node.input):
                computed.update(filter(None, node.output))  # an output that is left out has no name
        return cls(dict(readers), constants, frozenset(computed))

    def of_value(self, name: str) -> list[NodeProto]:
        """The nodes that read a value."""
        return self.readers.get(name, [])


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
