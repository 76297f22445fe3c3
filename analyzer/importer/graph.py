"""The model as the interpreter walks it: nodes with parsed attributes, graphs, functions.

Belongs here: turning protobufs into plain Python once. Not here: running anything (``interpreter``), reading or
checking files (``loading``), changing the protobufs (nobody does).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from analyzer.errors import InputError
from analyzer.importer import table

ReadTensor = Callable[[TensorProto], np.ndarray]


@dataclass(frozen=True, eq=False)
class Node:
    """One ONNX node with its attributes as Python values.

    Attributes
    ----------
    name
        The node's own name, or ``OpType_i`` where the exporter gave none; unique in its graph.
    version
        Version of the operator set that the node's model or function imports.
    attributes
        Name -> int, float, str, list, ndarray or :class:`Graph`.
    """

    name: str
    op_type: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: NodeProto | None = None
    body: Graph | None = None
    """For a call of a local function: the function's graph with the call's attributes filled in."""

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's value, or ``default`` where the node doesn't set it."""
        return self.attributes.get(name, default)

    def required(self, name: str) -> Any:
        """An attribute that the operator can't do without."""
        if name not in self.attributes:
            raise InputError(
                "op.bad_attribute", f"{self}: the required attribute {name!r} is missing", "re-export the model"
            )
        return self.attributes[name]

    @property
    def subgraphs(self) -> Iterator[Graph]:
        """Graphs in the node's attributes (branches, loop bodies) and its function body."""
        for value in self.attributes.values():
            if isinstance(value, Graph):
                yield value
        if self.body is not None:
            yield self.body

    def __str__(self) -> str:
        kind = f"{self.domain}::{self.op_type}" if self.domain else self.op_type
        return f"{kind} node {self.name!r}"


@dataclass(eq=False)
class Graph:
    """A graph, subgraph or function body: nodes in execution order and what surrounds them."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    initializers: dict[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    """Name -> function that gives the value (read when first needed, never copied where the file allows)."""

    @functools.cached_property
    def captured(self) -> frozenset[str]:
        """Names that the graph reads from the scopes around it."""
        known = {*self.inputs, *self.initializers}
        free: set[str] = set()
        for node in self.nodes:
            for subgraph in node.subgraphs:
                if subgraph is not node.body:
                    free |= subgraph.captured - known
            free |= {name for name in node.inputs if name and name not in known}
            known |= set(node.outputs)
        return frozenset(free | {name for name in self.outputs if name not in known})

    @functools.cached_property
    def last_use(self) -> dict[int, tuple[str, ...]]:
        """Position of a node -> names that nobody reads after it (the graph's outputs excluded)."""
        last: dict[str, int] = {}
        for position, node in enumerate(self.nodes):
            for name in (*node.inputs, *node.outputs):
                last[name] = position
            for subgraph in node.subgraphs:
                if subgraph is not node.body:
                    last.update(dict.fromkeys(subgraph.captured, position))
        drop: dict[int, list[str]] = {}
        for name, position in last.items():
            if name not in self.outputs:
                drop.setdefault(position, []).append(name)
        return {position: tuple(names) for position, names in drop.items()}

    def walk(self) -> Iterator[Node]:
        """All nodes, those of subgraphs and function bodies included."""
        for node in self.nodes:
            yield node
            for subgraph in node.subgraphs:
                yield from subgraph.walk()


def without(graph: Graph, lacking: Sequence[Node]) -> Graph:
    """The graph less some nodes, the outputs that are computed from them, and what lies between."""
    nodes, lost = [], set[str]()
    for node in graph.nodes:
        inner = [*node.subgraphs]
        read = {*node.inputs}.union(*(subgraph.captured for subgraph in inner if subgraph is not node.body))
        within = any(each in lacking for subgraph in inner for each in subgraph.walk())
        if node in lacking or within or read & lost:
            lost |= {name for name in node.outputs if name}
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), outputs=tuple(name for name in graph.outputs if name not in lost))


class _Builder:
    """Builds graphs from protobufs, inlining functions by name."""

    def __init__(self, functions: Iterable[FunctionProto], read: ReadTensor) -> None:
        self.read = read
        self.functions = {(table.canonical_domain(f.domain), f.name, f.overload): f for f in functions}

    def graph(self, proto: GraphProto, versions: Mapping[str, int], bound: Mapping[str, Any]) -> Graph:
        initializers: dict[str, Callable[[], np.ndarray]] = {}
        for tensor in proto.initializer:
            initializers[tensor.name] = functools.cache(functools.partial(self.read, tensor))
        for sparse in proto.sparse_initializer:
            initializers[sparse.values.name] = functools.cache(functools.partial(self._dense, sparse))
        inputs = tuple(value.name for value in proto.input if value.name not in initializers)
        outputs = tuple(value.name for value in proto.output)
        nodes = self.nodes(proto.node, versions, bound)
        return Graph(proto.name, inputs, outputs, nodes, initializers)

    def nodes(
        self, protos: Sequence[NodeProto], versions: Mapping[str, int], bound: Mapping[str, Any]
    ) -> tuple[Node, ...]:
        taken: set[str] = set()
        built = []
        for position, proto in enumerate(protos):
            name = proto.name or f"{proto.op_type}_{position}"
            while name in taken:
                name = f"{name}_{position}"
            taken.add(name)
            built.append(self.node(proto, name, versions, bound))
        return tuple(built)

    def node(self, proto: NodeProto, name: str, versions: Mapping[str, int], bound: Mapping[str, Any]) -> Node:
        attributes: dict[str, Any] = {}
        for attribute in proto.attribute:
            if attribute.ref_attr_name:
                if attribute.ref_attr_name in bound:
                    attributes[attribute.name] = bound[attribute.ref_attr_name]
            else:
                attributes[attribute.name] = self.attribute(attribute, versions, bound)
        domain = table.canonical_domain(proto.domain)
        function = self.functions.get((domain, proto.op_type, proto.overload))
        version = versions.get(domain, 1)
        body = self.function(function, attributes) if function is not None else None
        node = Node(
            name, proto.op_type, domain, version, tuple(proto.input), tuple(proto.output), attributes, proto, body
        )
        if body is None and table.lookup(domain, proto.op_type, version) is None:
            expanded = self.standard_function(node, proto)
            if expanded is not None:
                return expanded
        return node

    def attribute(self, proto: AttributeProto, versions: Mapping[str, int], bound: Mapping[str, Any]) -> Any:
        kind = proto.type
        if kind == AttributeProto.GRAPH:
            return self.graph(proto.g, versions, bound)
        if kind == AttributeProto.GRAPHS:
            return [self.graph(g, versions, bound) for g in proto.graphs]
        if kind == AttributeProto.TENSOR:
            return self.read(proto.t)
        if kind == AttributeProto.SPARSE_TENSOR:
            return self._dense(proto.sparse_tensor)
        value = onnx.helper.get_attribute_value(proto)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, (list, tuple)) or hasattr(value, "__len__"):
            return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]
        return value

    def function(self, proto: FunctionProto, attributes: Mapping[str, Any]) -> Graph:
        versions = _versions(proto.opset_import)
        bound = {a.name: self.attribute(a, versions, {}) for a in proto.attribute_proto} | dict(attributes)
        nodes = self.nodes(proto.node, versions, bound)
        return Graph(proto.name, tuple(proto.input), tuple(proto.output), nodes)

    def standard_function(self, node: Node, proto: NodeProto) -> Node | None:
        """For an operator outside the table that the ONNX standard defines by other operators: that definition."""
        if node.domain not in ("", "ai.onnx.ml") or not onnx.defs.has(node.op_type, domain=node.domain):
            return None
        try:
            schema = onnx.defs.get_schema(node.op_type, node.version, node.domain)
        except onnx.defs.SchemaError:
            return None
        if not schema.has_function:  # type: ignore[attr-defined]  # onnx ships no stub for it
            return None
        function = schema.function_body
        defaults = {
            name: self.attribute(attribute.default_value, {}, {})
            for name, attribute in schema.attributes.items()
            if attribute.default_value.type != AttributeProto.UNDEFINED
        }
        body = self.function(function, defaults | dict(node.attributes))
        return Node(
            node.name, proto.op_type, node.domain, node.version, node.inputs, node.outputs, node.attributes, proto, body
        )

    def _dense(self, sparse: onnx.SparseTensorProto) -> np.ndarray:
        values, indices = self.read(sparse.values), self.read(sparse.indices)
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
        return dense


def _versions(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {table.canonical_domain(entry.domain): entry.version for entry in imports}


def build(proto: ModelProto, read: ReadTensor) -> Graph:
    """The model's main graph. ``read`` gives an initializer's or attribute tensor's value as a read-only array."""
    return _Builder(proto.functions, read).graph(proto.graph, _versions(proto.opset_import), {})
