"""What a rule table looks at in a node: ONNX name and operator, kind, whether it is a first or last layer, depth.

Belongs here: these facts, found once per trace and explained output. Not here: selectors that go by them (``selectors``).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from operator import getitem

from torch import fx

from graph_rules.applicability import LAYERS
from graph_rules.kinds import active_nodes, kind
from graph_rules.sweep import ruled_nodes


@dataclass(frozen=True)
class NodeInfo:
    """What a rule table looks at in a node.

    Attributes
    ----------
    name, operator
        Of the ONNX node that it came from.
    kind
        One of :data:`graph_rules.kinds.KINDS`.
    positions
        ``first`` for a layer (convolution or linear) that no other one lies before, and ``first-convolution`` if it is one;
        ``last`` for the last one.
    depth
        Layers on the longest path from the explained input to the node, itself included, over layers on the longest path
        from there to the explained output: 0 at the input, 1 at the output and at the last layer; the k-th of n layers in a
        row lies at k / n, and what follows it as deep. In a graph without layers every node counts as one.
    siblings
        The kinds of all nodes that the ONNX node became, movements aside.
    folded
        The ONNX node that was folded into this one, a batch normalisation say; empty where none was.
    """

    name: str
    operator: str
    kind: str
    positions: tuple[str, ...]
    depth: float
    siblings: frozenset[str] = frozenset()
    folded: str = ""


def node_infos(output: fx.Node, sources: tuple[fx.Node, ...]) -> dict[fx.Node, NodeInfo]:
    """What there is to know of every node that needs a rule, in the order of execution."""
    active = active_nodes(sources, output)
    inner = [n for n in output.graph.nodes if n in active and n not in sources and n.op == "call_function"]
    kinds = {node: kind(node, active) for node in inner}
    positions = _positions(output, {node: what for node, what in kinds.items() if what in LAYERS})
    depths = _depths(inner, kinds, active)
    names = {node: str(node.meta.get("onnx", node.name)) for node in ruled_nodes(output, sources)}
    siblings: dict[str, set[str]] = {}
    for node, name in names.items():
        siblings.setdefault(name, set()).update({kinds[node]} - {"movement"})
    return {
        node: NodeInfo(
            name, str(node.meta.get("op", node.target)), kinds[node], positions.get(node, ()), depths[node],
            frozenset(siblings[name]), str(node.meta.get("folded") or ""),
        )
        for node, name in names.items()
    }  # fmt: skip


def _depths(inner: list[fx.Node], kinds: dict[fx.Node, str], active: Container[fx.Node]) -> dict[fx.Node, float]:
    layered = any(what in LAYERS for what in kinds.values())
    count: dict[fx.Node, int] = {}
    for node in inner:
        below = max((count.get(a, 0) for a in node.all_input_nodes if a in active), default=0)
        count[node] = below + (kinds[node] in LAYERS if layered else node.target is not getitem)
    longest = max(count[inner[-1]], 1) if inner else 1
    return {node: number / longest for node, number in count.items()}


def _positions(output: fx.Node, layers: Mapping[fx.Node, str]) -> dict[fx.Node, tuple[str, ...]]:
    below: set[fx.Node] = set()
    first: set[fx.Node] = set()
    ordered = [node for node in output.graph.nodes if node in layers]
    for node in output.graph.nodes:
        if any(a in below for a in node.all_input_nodes):
            below.add(node)
        elif node in layers:
            first.add(node)
            below.add(node)
    held = {
        "first": first, "last": set(ordered[-1:]),
        "first-convolution": {node for node in first if layers[node] == "convolution"},
    }  # fmt: skip
    return {node: tuple(name for name, nodes in held.items() if node in nodes) for node in ordered}
