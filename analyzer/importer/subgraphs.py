"""The graphs inside a graph: branches of If, bodies of Loop and Scan.

Belongs here: walking protobufs. Not here: what is looked for (``validation``, ``analyzer.executor``), names and scopes
(``_load_graph``), parsed graphs (``graph``). Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes: branches and loop bodies."""
    for _, graph in named_subgraphs(node):
        yield graph


def named_subgraphs(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The graphs in a node's attributes, each with the attribute's name."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH or attribute.HasField("g"):
            yield attribute.name, attribute.g
        for graph in attribute.graphs:
            yield attribute.name, graph


def with_subgraphs(graph: GraphProto | FunctionProto) -> Iterator[GraphProto | FunctionProto]:
    """A graph and all graphs in it, at any depth; no recursion, so that deep nesting can't exhaust the stack."""
    waiting: list[GraphProto | FunctionProto] = [graph]
    while waiting:
        current = waiting.pop()
        yield current
        for node in current.node:
            if node.attribute:
                waiting.extend(subgraphs(node))
