"""Nodes that are certain to ask for more memory than there is.

A hundred bytes of model can ask for terabytes: ``ConstantOfShape`` of a stored shape. Where the size is stored in the
model it is judged here, before anything runs; sizes that depend on the input are the running limits' business.

Belongs here: lower bounds for the size of a node's output from stored values alone. Not here: real shape inference.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto

from analyzer.errors import InputError
from analyzer.importer import external
from analyzer.importer._load_functions import plain_domain
from analyzer.importer._load_graph import node_label
from analyzer.importer._load_limits import Limits, human
from analyzer.importer._load_tensors import element_type, to_numpy
from analyzer.importer.subgraphs import subgraphs

# A shape, a list of repeats or pads: never long.
LONGEST_VALUE = 256
BEYOND_ALL = 2**70
Numbers = list[float]
Look = Callable[[int], Numbers | None]
# Name -> value of small constants; None where a name of the graph hides one of an enclosing graph.
Known = ChainMap[str, Numbers | None]


def check_memory(graph: GraphProto | FunctionProto, limits: Limits, outer: Known | None = None) -> None:
    """Refuse nodes of a graph, subgraphs included, whose output can't fit.

    Raises
    ------
    InputError
        ``limit.memory``.
    """
    known: Known = ChainMap() if outer is None else outer.new_child()
    if isinstance(graph, GraphProto):
        for tensor in graph.initializer:
            _remember(known, tensor.name, tensor)
    for index, node in enumerate(graph.node):
        if plain_domain(node.domain):
            continue
        if node.op_type == "Constant":
            _remember_constant(known, node)
        elif bound := BOUNDS.get(node.op_type):
            names = list(node.input)

            def look(position: int, names: Sequence[str] = names) -> Numbers | None:
                return known.get(names[position]) if position < len(names) else None

            # A product of stored sizes may be too large for a float, or infinite.
            size = min(bound(node, look), BEYOND_ALL)
            if size > limits.memory_bytes:
                raise InputError(
                    "limit.memory",
                    f"{node_label(node, index)} makes a tensor of at least {human(int(size))}, "
                    f"the budget is {human(limits.memory_bytes)}",
                    "use a smaller model or a machine with more memory",
                )
        for inner in subgraphs(node) if node.attribute else ():
            check_memory(inner, limits, known)


def _remember(known: Known, name: str, tensor: TensorProto) -> None:
    known[name] = None
    small = len(tensor.dims) <= 1 and math.prod(tensor.dims) <= LONGEST_VALUE
    if small and not external.is_external(tensor) and tensor.data_type != TensorProto.STRING:
        values = to_numpy(tensor, None)
        if values.dtype.kind in "iuf":
            known[name] = [float(v) if values.dtype.kind == "f" else int(v) for v in values.reshape(-1)]


def _remember_constant(known: Known, node: NodeProto) -> None:
    for attribute in node.attribute:
        name = node.output[0] if node.output else ""
        if attribute.name == "value" and attribute.HasField("t"):
            _remember(known, name, attribute.t)
        elif attribute.name == "value_int":
            known[name] = [attribute.i]
        elif attribute.name == "value_ints" and len(attribute.ints) <= LONGEST_VALUE:
            known[name] = list(attribute.ints)
        elif attribute.name == "value_float":
            known[name] = [attribute.f]


def _attribute(node: NodeProto, name: str) -> AttributeProto | None:
    return next((attribute for attribute in node.attribute if attribute.name == name), None)


def _itemsize(code: int) -> int:
    element = element_type(code)
    return element.dtype.itemsize if element else 1


def _filled(sizes: Numbers | None) -> float:
    return math.prod(max(size, 0) for size in sizes) if sizes else 0


def _constant_of_shape(node: NodeProto, look: Look) -> float:
    value = _attribute(node, "value")
    return _filled(look(0)) * (_itemsize(value.t.data_type) if value else 4)


def _random(node: NodeProto, _: Look) -> float:
    shape, dtype = _attribute(node, "shape"), _attribute(node, "dtype")
    return _filled(list(shape.ints[:LONGEST_VALUE])) * (_itemsize(dtype.i) if dtype else 4) if shape else 0


def _range(_: NodeProto, look: Look) -> float:
    start, limit, step = look(0), look(1), look(2)
    if not (start and limit and step) or not step[0]:
        return 0
    span = (limit[0] - start[0]) / step[0]
    return max(span, 0) if math.isfinite(span) else 0


def _sizes_of_resize(_: NodeProto, look: Look) -> float:
    return _filled(look(3))


def _pad(node: NodeProto, look: Look) -> float:
    attribute = _attribute(node, "pads") or _attribute(node, "paddings")
    pads = list(attribute.ints[:LONGEST_VALUE]) if attribute else look(1) or []
    half = len(pads) // 2
    # With every axis of the data at least 1 long, which only an empty tensor hasn't.
    return math.prod(max(1 + a + b, 1) for a, b in zip(pads[:half], pads[half:], strict=False))


BOUNDS: Mapping[str, Callable[[NodeProto, Look], float]] = {
    "ConstantOfShape": _constant_of_shape,
    "Expand": lambda _, look: _filled(look(1)),
    "Tile": lambda _, look: _filled(look(1)),
    "OneHot": lambda _, look: _filled(look(1)),
    "RandomNormal": _random,
    "RandomUniform": _random,
    "Range": _range,
    "Resize": _sizes_of_resize,
    "Pad": _pad,
}
