"""The names of a graph: every value made once, before it is used, and in no circle.

Belongs here: scopes, order and cycles of one graph and its subgraphs. Not here: what the nodes do (``_load_ops``).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from onnx import FunctionProto, GraphProto, NodeProto

from analyzer.errors import InputError
from analyzer.importer._load_limits import Limits
from analyzer.importer._load_text import did_you_mean, quoted
from analyzer.importer.subgraphs import subgraphs

RE_EXPORT = "re-export the model"
LONGEST_CYCLE_SHOWN = 6


@dataclass
class Order:
    """Graphs whose nodes don't stand in an order they can run in, each with the order that does."""

    graphs: list[tuple[GraphProto | FunctionProto, list[int]]] = field(default_factory=list)

    def apply(self) -> None:
        """Put the nodes of every such graph in order, innermost first."""
        for graph, order in self.graphs:
            nodes = [NodeProto.FromString(graph.node[index].SerializeToString()) for index in order]
            del graph.node[:]
            graph.node.extend(nodes)


def node_label(node: NodeProto, index: int) -> str:
    """How messages call a node: its name, or its position where it has none."""
    name = quoted(node.name) if node.name else f"#{index}"
    return f"node {name} ({quoted(node.op_type)[1:-1]})"


def check_graph(graph: GraphProto, limits: Limits, order: Order, scopes: tuple[Collection[str], ...] = ()) -> set[str]:
    """Check the names of a graph and of all graphs in it.

    Parameters
    ----------
    scopes
        Names of the enclosing graphs, outermost first.

    Returns
    -------
    set of str
        Names that the graph takes from enclosing graphs.

    Raises
    ------
    InputError
        ``graph.ssa``, ``graph.dangling``, ``graph.cycle``, ``graph.output_missing``, ``model.too_deep``.
    """
    if len(scopes) > limits.depth:
        raise InputError("model.too_deep", f"nests more than {limits.depth} subgraphs", "flatten the If and Loop nodes")
    given = _distinct([entry.name for entry in graph.input], "graph input")
    stored = [tensor.name for tensor in graph.initializer]
    stored += [sparse.values.name for sparse in graph.sparse_initializer]
    given |= _distinct(stored, "initializer")
    return _check_nodes(graph, given, [entry.name for entry in graph.output], limits, order, scopes)


def check_function(function: FunctionProto, limits: Limits, order: Order) -> None:
    """Check the names of a local function's body; raises as :func:`check_graph`."""
    given = _distinct(list(function.input), "function input")
    _check_nodes(function, given, list(function.output), limits, order, ())


def _distinct(names: Sequence[str], what: str) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            raise InputError("graph.ssa", f"the {what} {quoted(name)} is there twice", RE_EXPORT)
        seen.add(name)
    return seen - {""}


def _check_nodes(
    graph: GraphProto | FunctionProto,
    given: set[str],
    outputs: list[str],
    limits: Limits,
    order: Order,
    scopes: tuple[Collection[str], ...],
) -> set[str]:
    producer = _producers(graph, given)
    known = given | producer.keys()
    borrowed: set[str] = set()
    # Per node, the nodes of this graph that must run before it.
    before: list[list[int]] = []
    sorted_already = True
    for index, node in enumerate(graph.node):
        names = [name for name in node.input if name]
        if node.attribute:
            for inner in subgraphs(node):
                names += check_graph(inner, limits, order, (*scopes, known))
        needs = []
        for name in names:
            if (source := producer.get(name)) is not None:
                needs.append(source)
                sorted_already = sorted_already and source < index
            elif name not in given:
                if not any(name in scope for scope in scopes):
                    raise InputError(
                        "graph.dangling",
                        f"{node_label(node, index)} takes {quoted(name)}, which nothing makes",
                        did_you_mean(name, itertools.islice(known, 1000)) or RE_EXPORT,
                    )
                borrowed.add(name)
        before.append(needs)
    for name in outputs:
        if name not in known:
            raise InputError(
                "graph.output_missing",
                f"graph {quoted(graph.name)} has the output {quoted(name)}, which none of its nodes makes",
                did_you_mean(name, itertools.islice(known, 1000)) or RE_EXPORT,
            )
    if not sorted_already:
        order.graphs.append((graph, _runnable_order(graph, before)))
    return borrowed


def _producers(graph: GraphProto | FunctionProto, given: set[str]) -> dict[str, int]:
    producer: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in node.output:
            if not name:
                continue
            if name in producer or name in given:
                other = f"{node_label(graph.node[producer[name]], producer[name])} too" if name in producer else ""
                raise InputError(
                    "graph.ssa",
                    f"{node_label(node, index)} makes {quoted(name)}, which "
                    f"{f'{other} makes' if other else 'is an input or initializer already'}",
                    RE_EXPORT,
                )
            producer[name] = index
    return producer


def _runnable_order(graph: GraphProto | FunctionProto, before: list[list[int]]) -> list[int]:
    """Indices of the nodes in an order they can run in, as near to the stored one as possible (Kahn's algorithm)."""
    after: list[list[int]] = [[] for _ in before]
    waiting = [len(set(needs)) for needs in before]
    for index, needs in enumerate(before):
        for source in set(needs):
            after[source].append(index)
    ready = [index for index, count in enumerate(waiting) if not count]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for follower in after[index]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(before):
        raise _cycle(graph, before, waiting)
    return order


def _cycle(graph: GraphProto | FunctionProto, before: list[list[int]], waiting: list[int]) -> InputError:
    # Every node left over waits for another one left over: walking back must meet one twice.
    index = next(i for i, count in enumerate(waiting) if count)
    seen: dict[int, int] = {}
    path: list[int] = []
    while index not in seen:
        seen[index] = len(path)
        path.append(index)
        index = next(source for source in before[index] if waiting[source])
    circle = path[seen[index] :][::-1]
    shown = [node_label(graph.node[i], i) for i in circle[:LONGEST_CYCLE_SHOWN]]
    more = f" → … ({len(circle)} nodes)" if len(circle) > LONGEST_CYCLE_SHOWN else f" → {shown[0]}"
    return InputError("graph.cycle", f"nodes wait for each other: {' → '.join(shown)}{more}", RE_EXPORT)
