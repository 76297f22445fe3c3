"""Which nodes of a trace depend on the explained values, and on what nodes depend.

Belongs here: walks over a trace by what is computed from what. Not here: what a node is (``kinds``).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from torch import fx

from graph_rules import operators as o


def active_nodes(sources: Iterable[fx.Node], output: fx.Node) -> frozenset[fx.Node]:
    """Nodes through which the output depends on the sources by floating-point values, both ends included."""
    below: set[fx.Node] = set()
    for node in output.graph.nodes:
        if node in sources or (_carries(node) and any(a in below for a in node.all_input_nodes)):
            below.add(node)
    return frozenset(computed_from([output], below.__contains__, ends=set(sources)))


def computed_from(
    nodes: Iterable[fx.Node], keep: Callable[[fx.Node], bool] = lambda _: True, ends: Container[fx.Node] = ()
) -> set[fx.Node]:
    """Nodes and all that they are computed from, without what isn't kept and what only that needs.

    Parameters
    ----------
    ends
        Nodes that are kept, but whose own inputs aren't looked at.
    """
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found and keep(node):
            found.add(node)
            if node not in ends:
                waiting.extend(node.all_input_nodes)
    return found


def _carries(node: fx.Node) -> bool:
    """Whether relevance can flow through a node."""
    dtype = node.meta.get("dtype")
    return (dtype is None or dtype.is_floating_point) and o.schema_name(node.target) not in o.INERT


def active_arguments(node: fx.Node, active: Container[fx.Node]) -> list[fx.Node]:
    """The node's floating-point arguments that depend on the explained input, each once, in order."""
    return [argument for argument in node.all_input_nodes if argument in active]
