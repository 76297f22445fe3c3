"""An ONNX graph with the shapes of a concrete run: what depends on what, and parts of it as models of their own.

Belongs here: reading and cutting protobufs. Not here: which operators can be computed in part (``operators``).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, numpy_helper

from analyzer.importer.checked_files import CheckedFiles
from analyzer.importer.subgraphs import subgraphs
from analyzer.importer.table import RANDOM

Array = NDArray[Any]
_SMALL = 4096


@dataclass(frozen=True)
class Source:
    """A model file and how it is run.

    Attributes
    ----------
    proto
        The model; weights may be references to external data.
    files
        What the weights are read from, as it was checked.
    device, threads
        As of :class:`analyzer.executor.session.Session`.
    """

    proto: onnx.ModelProto
    files: CheckedFiles | None = None
    device: str = "cpu"
    threads: int = 0


class Graph:
    """A model's graph for inputs of given shapes.

    Parameters
    ----------
    source
        The model.
    shapes
        Input name -> concrete shape.

    Attributes
    ----------
    nodes
        In an order in which they can run.
    weights
        Initializer name -> tensor.
    shapes, kinds
        Value name -> shape and ONNX element type, where shape inference knows all of it.
    read
        Values that a node reads or the model gives out.
    constant
        Values that depend on no input.
    opset
        Version of the standard operators.
    """

    def __init__(self, source: Source, shapes: Mapping[str, Sequence[int]]) -> None:
        self.source, graph = source, source.proto.graph
        self.nodes: list[NodeProto] = list(graph.node)
        self.weights: dict[str, TensorProto] = {t.name: t for t in graph.initializer if t.name not in shapes}
        self.sparse = {t.values.name for t in graph.sparse_initializer}
        self.given: tuple[str, ...] = tuple(shapes)
        self.opset = next((o.version for o in source.proto.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.shapes, self.kinds = _inferred(source.proto, shapes, self.weights)
        self.producer = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        self.read = {name for node in self.nodes for name in reads(node)} | {v.name for v in graph.output}
        self.constant = {*self.weights, *self.sparse}
        for node in self.nodes:
            if all(name in self.constant for name in reads(node)) and not _random(node):
                self.constant.update(name for name in node.output if name)

    def dependent(self, name: str) -> set[str]:
        """All values that depend on a value, itself included."""
        found = {name}
        for node in self.nodes:
            if any(value in found for value in reads(node)):
                found.update(value for value in node.output if value)
        return found

    def value(self, name: str) -> Array | None:
        """A small constant's value; None where it is computed, large or lies outside the protobuf."""
        tensor = self.weights.get(name)
        if tensor is None and name in self.producer:
            node = self.nodes[self.producer[name]]
            attribute = node.attribute[0] if node.op_type == "Constant" and len(node.attribute) == 1 else None
            if node.op_type == "Identity":
                return self.value(node.input[0])
            if attribute is not None and attribute.name != "value":
                held = onnx.helper.get_attribute_value(attribute)
                return np.asarray(held) if attribute.name.startswith(("value_int", "value_float")) else None
            tensor = attribute.t if attribute is not None else None
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL or int(np.prod(tensor.dims)) > _SMALL:
            return None
        return numpy_helper.to_array(tensor)

    def needed(self, wanted: Iterable[str], given: Iterable[str]) -> list[int]:
        """The nodes that compute values from given ones, as positions in running order."""
        known, found, open_ = set(given), set(), list(wanted)
        while open_:
            name = open_.pop()
            index = self.producer.get(name)
            if name in known or index is None or index in found:
                continue
            found.add(index)
            open_.extend(reads(self.nodes[index]))
        return sorted(found)

    def part(self, nodes: Sequence[NodeProto], given: Mapping[str, ValueInfoProto], wanted: Sequence[str]) -> bytes:
        """Nodes as a model of their own, with the constants that they read.

        Parameters
        ----------
        nodes
            In running order; they may differ from the graph's in attributes and names.
        given
            Input name -> its type.
        wanted
            Names of the outputs.
        """
        names = {name for node in nodes for name in reads(node)} | set(wanted)
        missing = [n for n in names if n in self.constant and n not in given]
        extra = [self.nodes[index] for index in self.needed(missing, self.weights)]
        names |= {name for node in extra for name in reads(node)}
        made, full = onnx.ModelProto(), self.source.proto
        made.ir_version = full.ir_version
        made.opset_import.extend(full.opset_import)
        made.functions.extend(full.functions)
        made.graph.name = "part"
        made.graph.node.extend([*extra, *nodes])
        made.graph.input.extend(given.values())
        made.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(wanted))
        made.graph.initializer.extend(t for name, t in self.weights.items() if name in names and name not in given)
        made.graph.sparse_initializer.extend(t for t in full.graph.sparse_initializer if t.values.name in names)
        content: bytes = made.SerializeToString()
        return content

    @functools.cached_property
    def declared(self) -> dict[str, ValueInfoProto]:
        """The graph's inputs as declared."""
        return {v.name: v for v in self.source.proto.graph.input if v.name in self.given}

    def free(self, name: str) -> ValueInfoProto:
        """A graph input that stands for a value, of any size."""
        return onnx.helper.make_tensor_value_info(name, self.kinds[name], [None] * len(self.shapes[name]))


def reads(node: NodeProto) -> Iterator[str]:
    """Names of the values that a node reads, those that its subgraphs take from outside included."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        yield from (name for inner in graph.node for name in reads(inner) if name not in own)
        yield from (v.name for v in graph.output if v.name not in own)


def _random(node: NodeProto) -> bool:
    return node.op_type in RANDOM


def _standard(node: NodeProto, functions: Set[str]) -> bool:
    """Whether ONNX's inference may see a node: in other domains it crashes where an input's type is unknown."""
    if node.domain not in ("", "ai.onnx") and node.domain not in functions:
        return False
    return all(_standard(inner, functions) for graph in subgraphs(node) for inner in graph.node)


def _inferred(
    proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], weights: Mapping[str, TensorProto]
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Shapes and element types of all values that ONNX's shape inference can tell; large weights stay out of it."""
    lean = onnx.ModelProto(ir_version=max(proto.ir_version, 8))  # before 4, initializers had to be inputs
    lean.opset_import.extend(proto.opset_import)
    lean.functions.extend(proto.functions)
    lean.graph.name = "shapes"
    lean.graph.node.extend(node for node in proto.graph.node if _standard(node, {f.domain for f in proto.functions}))
    for value in proto.graph.input:
        if value.name in shapes:
            kind = value.type.tensor_type.elem_type
            lean.graph.input.append(onnx.helper.make_tensor_value_info(value.name, kind, list(shapes[value.name])))
    for name, tensor in weights.items():
        if int(np.prod(tensor.dims)) <= _SMALL and tensor.data_location != TensorProto.EXTERNAL:
            lean.graph.initializer.append(tensor)
        else:
            info = onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            lean.graph.input.append(info)
    lean.graph.output.extend(ValueInfoProto(name=v.name) for v in proto.graph.output)
    with contextlib.suppress(Exception):  # a model that onnxruntime runs but onnx can't follow: nothing is known of it
        lean = onnx.shape_inference.infer_shapes(lean, data_prop=True)
    known: dict[str, tuple[int, ...]] = {name: tuple(t.dims) for name, t in weights.items()}
    kinds: dict[str, int] = {name: t.data_type for name, t in weights.items()}
    for value in [*lean.graph.input, *lean.graph.value_info, *lean.graph.output]:
        tensor = value.type.tensor_type
        if tensor.elem_type and tensor.HasField("shape"):
            sizes = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
            if all(size >= 0 for size in sizes):
                known[value.name], kinds[value.name] = tuple(sizes), tensor.elem_type
    return known, kinds
