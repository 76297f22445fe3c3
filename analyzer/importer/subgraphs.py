"""The graphs inside a graph: branches of If, bodies of Loop and Scan.

Belongs here: walking protobufs. Not here: what is looked for (``validation``, ``analyzer.executor``), names and scopes
(``_load_graph``), parsed graphs (``graph``). Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes: branches and loop bodies."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH or attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def with_subgraphs(graph: GraphProto | FunctionProto) -> Iterator[GraphProto | FunctionProto]:
    """A graph and all graphs in it, at any depth; no recursion, so that deep nesting can't exhaust the stack."""
    waiting: list[GraphProto | FunctionProto] = [graph]
    while waiting:
        current = waiting.pop()
        yield current
        for node in current.node:
            if node.attribute:
                waiting.extend(subgraphs(node))
