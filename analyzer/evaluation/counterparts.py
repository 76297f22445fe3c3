"""Which inner values of two models stand for one another: of a float model and its quantised, half-precision or optimised form.

Belongs here: matching by names, and through quantising and dequantising nodes. Not here: running the models (``drift_by_node``).

A quantiser keeps the names of nodes, and what a node reads is then dequantised: so the value that a node reads in one model
stands for what the node of the same name reads in the other. ReLUs that a quantiser drops, since the range of the layer before
them does their work, take their name along to the layer: the dequantised value stands for what the ReLU gave, the layer's own
result for the layer's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx

from analyzer.inputs.graph_readers import GraphReaders

#: Operators that only change how a value is stored.
STORING = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast"})
_MOST_STEPS = 8


class Wiring:
    """Who gives and who reads the values of a graph; subgraphs aren't looked into."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        reading = GraphReaders.of(graph)
        #: Value -> the nodes that read it.
        self.readers: Mapping[str, list[onnx.NodeProto]] = reading.readers
        #: The values that depend on the inputs, these included.
        self.variable = reading.computed
        self.inputs = [value.name for value in graph.input if value.name in self.variable]
        self.outputs = [value.name for value in graph.output]
        self.maker = {name: node for node in graph.node for name in node.output if name}
        #: Node name, or the name of its first output where it has none -> node.
        self.nodes = {label(node): node for node in graph.node}

    def rectifies(self, value: str, result: str) -> bool:
        """Whether a value is another one, or becomes it through nothing but what a quantiser drops after a layer."""
        for _ in range(_MOST_STEPS):
            node = self.maker.get(result)
            if result == value:
                return True
            if node is None or node.op_type not in ("Relu", "Clip"):
                return False
            result = node.input[0]
        return False

    def stored(self, value: str) -> Iterator[tuple[onnx.NodeProto, str]]:
        """The nodes that a value is only stored anew by, from it backwards, each with what it reads."""
        for _ in range(_MOST_STEPS):
            node = self.maker.get(value)
            if node is None or node.op_type not in STORING:
                return
            value = node.input[0]
            yield node, value


def label(node: onnx.NodeProto) -> str:
    """A node's name, or that of its first output where it has none."""
    return str(node.name or next((name for name in node.output if name), ""))


@dataclass(frozen=True)
class Counterpart:
    """A value of the second model that stands for one of the first.

    Attributes
    ----------
    first, second
        The values' names in each model.
    source
        Where the second only stores another value anew: that value in the second model; else empty.
    scale
        The name of the scale by which it is stored, where it is quantised; else empty.
    """

    first: str
    second: str
    source: str = ""
    scale: str = ""


@dataclass(frozen=True)
class Counterparts:
    """Two models' values that stand for one another.

    Attributes
    ----------
    pairs
        Value of the second model -> its counterpart.
    """

    a: Wiring
    b: Wiring
    pairs: Mapping[str, Counterpart] = field(default_factory=dict)


def counterparts(first: onnx.GraphProto, second: onnx.GraphProto) -> Counterparts:
    """Match the values of two graphs that depend on their inputs; shapes aren't looked at."""
    a, b = Wiring(first), Wiring(second)
    names: dict[str, str] = {}

    def pair(one: str, other: str) -> None:
        if one in a.variable and other in b.variable:
            names.setdefault(other, one)

    for pairs in (_by_name_or_place(a.inputs, b.inputs), _by_name_or_place(a.outputs, b.outputs)):
        for one, other in pairs:
            pair(one, other)
    same = [(a.nodes[name], node) for name, node in b.nodes.items() if name in a.nodes]
    same = [(one, other) for one, other in same if one.op_type == other.op_type and one.domain == other.domain]
    for one, other in same:
        for mine, theirs in zip(one.output, other.output, strict=False):
            if theirs not in a.maker or a.rectifies(mine, theirs):  # else the nodes between were folded into this one
                pair(mine, theirs)
    for name in b.maker:
        pair(name, name)
    for one, other in same:
        for mine, theirs in zip(one.input, other.input, strict=False):
            pair(mine, theirs)
    return Counterparts(a, b, {other: _counterpart(b, one, other) for other, one in names.items()})


def _by_name_or_place(first: list[str], second: list[str]) -> list[tuple[str, str]]:
    if set(first) == set(second):
        return [(name, name) for name in first]
    return list(zip(first, second, strict=False))


def _counterpart(b: Wiring, one: str, other: str) -> Counterpart:
    source, scale = "", ""
    for node, read in b.stored(other):
        source = read
        if node.op_type == "QuantizeLinear":
            scale = node.input[1]
            break
    return Counterpart(one, other, source, scale)
