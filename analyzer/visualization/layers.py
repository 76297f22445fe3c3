"""Layers: the inner values that a model can give out, chosen by name, pattern, module or kind of operator.

Belongs here: from texts to values. Not here: a single layer's name (``analyzer.targets.inner``), the values' numbers
(``activations``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from analyzer.errors import UsageError
from analyzer.importer.graph import Graph, Node
from analyzer.importer.modules import origins_of
from analyzer.nearest import did_you_mean
from analyzer.onnx_model import OnnxModel
from analyzer.targets.inner import value_named

_WILD = "*?["


@dataclass(frozen=True)
class Layer:
    """An inner value.

    Attributes
    ----------
    value
        Its name in the file.
    node, operator
        The node that gives it.
    """

    value: str
    node: str
    operator: str


def layers(model: OnnxModel) -> list[Layer]:
    """All values that depend on an input, in running order; those in bodies of If, Loop and functions can't be given out."""
    known = set(model.inputs)
    found = []
    for node in model.graph.nodes:
        read = {*node.inputs}.union(*(graph.captured for graph in node.subgraphs if graph is not node.body))
        if not known.isdisjoint(read):
            known.update(value for value in node.outputs if value)
            found += _given_by(node)
    return found


def chosen(model: OnnxModel, names: str | Sequence[str]) -> list[Layer]:
    """The layers that are meant, each once, in running order.

    Parameters
    ----------
    names
        Each the name of a value, a node or a module, a kind of operator (``Conv``), or a pattern of any of these with ``*``
        and ``?``; a module stands for its last value, a pattern of modules for all that they hold.

    Raises
    ------
    UsageError
        ``layer.unknown``, with the near name; ``layer.in_body`` for what lies in a branch, loop or function.
    """
    graph = model.graph
    every = {layer.value: layer for node in graph.nodes for layer in _given_by(node)}
    wanted: set[str] = set()
    for name in [names] if isinstance(names, str) else names:
        wanted |= _meant(graph, every, str(name))
    return [layer for value, layer in every.items() if value in wanted]


def unreachable(model: OnnxModel) -> int:
    """How many values lie in bodies of If, Loop, Scan and functions."""
    return sum(len(_given_by(node)) for _, node in _inside(model.graph))


def _given_by(node: Node) -> list[Layer]:
    return [Layer(value, node.name, node.op_type) for value in node.outputs if value]


def _meant(graph: Graph, every: dict[str, Layer], name: str) -> set[str]:
    exact = name in every or any(layer.node == name for layer in every.values())
    by_operator = {value for value, layer in every.items() if layer.operator == name}
    if by_operator and not exact:
        return by_operator
    if not exact and any(sign in name for sign in _WILD):
        modules = {node: origin.module for node, origin in origins_of(graph.nodes).items()}
        found = {
            value
            for value, layer in every.items()
            if any(fnmatchcase(text, name) for text in (value, layer.node, layer.operator, modules.get(layer.node, "")))
        }
        if found:
            return found
    try:
        return {value_named(graph, name)}
    except UsageError:
        holder = next(
            (outer for outer, node in _inside(graph) if name in (node.name, node.op_type, *node.outputs)), None
        )
        if holder is not None:
            message = (
                f"{name!r} lies inside {holder}: values in bodies of branches, loops and functions can't be given out"
            )
            raise UsageError("layer.in_body", message, f"name {holder.name!r} itself, or a layer outside it") from None
        near = did_you_mean(name, [text for each in every.values() for text in (each.value, each.node, each.operator)])
        raise UsageError(
            "layer.unknown",
            f"the model has no node, value or kind of operator {name!r}{near}",
            "`onnxplain inspect -v` lists the nodes",
        ) from None


def _inside(graph: Graph) -> Iterator[tuple[Node, Node]]:
    """(node of the graph, node in one of its bodies at any depth) pairs."""
    for node in graph.nodes:
        for body in node.subgraphs:
            yield from ((node, inner) for inner in body.walk())
