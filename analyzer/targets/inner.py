"""Inner units: values inside a model that are explained instead of an output, found by name.

Belongs here: from the name of a node, a value or a module to an ONNX value. Not here: explaining it (``analyzer.methods``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyzer.errors import UsageError
from analyzer.importer.modules import locate, origins_of
from analyzer.nearest import nearest

if TYPE_CHECKING:
    from analyzer.importer.graph import Graph


def value_named(graph: Graph, name: str) -> str:
    """The ONNX value that a name stands for: itself, a node's first output, or what a module's last node gives.

    Raises
    ------
    UsageError
        ``layer.unknown`` with the near name.
    """
    by_value = {value: value for node in graph.nodes for value in node.outputs if value}
    by_node = {node.name: node.outputs[0] for node in graph.nodes if node.outputs}
    found = by_value.get(name) or by_node.get(name)
    if found is None:
        node_name = locate(name, origins_of(graph.nodes))
        found = by_node.get(node_name) if node_name is not None else None
    if found is None:
        close = nearest(name, [*by_value, *by_node], 0.5)
        suggestion = f" (did you mean {close}?)" if close else ""
        raise UsageError(
            "layer.unknown",
            f"the model has no node or value {name!r}{suggestion}",
            "`onnxplain inspect -v` lists the nodes",
        )
    return found
