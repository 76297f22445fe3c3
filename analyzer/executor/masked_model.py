"""A prelude joined to a model: one graph from a clean input and a few numbers per evaluation to the wanted values.

Belongs here: the ONNX model that results. Not here: what the prelude computes (``preludes``), sessions (``streams``).

The model's opset stays: preludes are written in operators as they are since opset 7. Weights that lie in files stay there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import EncodeError
from numpy.typing import NDArray
from onnx import helper

from analyzer.executor.mask_ops import Builder, Prelude

Array = NDArray[Any]
_OLDEST, _SELECTS, _EXPANDS = 7, 9, 8
_FLOATS, _WHOLE = ("float16", "float32", "float64"), ("int32", "int64", "uint8")
_MOST_BYTES = 2**31 - 2**20


class CannotComposeError(Exception):
    """The reason why masks must be made on the host."""


@dataclass(frozen=True)
class Wiring:
    """How a prelude is joined to a model; hashable.

    Attributes
    ----------
    prelude
        What makes the masks.
    name, dtype, shape
        The input that is changed, its element type, and the shape of one sample.
    others
        Inputs that go along with every evaluation: name -> (element type, shape with a batch of 1, batch axis).
    constant
        Names of inputs without a batch axis.
    wanted
        Names of the values to give out.
    batch
        The model's fixed batch, or None.
    zero
        Whether what is removed becomes zero everywhere, so that no replacement is needed.
    """

    prelude: Prelude
    name: str
    dtype: str
    shape: tuple[int, ...]
    others: tuple[tuple[str, str, tuple[int, ...], int], ...]
    constant: tuple[str, ...]
    wanted: tuple[str, ...]
    batch: int | None
    zero: bool


@dataclass(frozen=True)
class Composed:
    """A model behind a prelude.

    Attributes
    ----------
    content
        The serialised model.
    rows, fixed
        Name in the prelude -> name of the graph's input.
    clean, gone
        The graph's inputs for the unchanged sample and its replacement, a batch of 1; ``gone`` is empty for zero.
    """

    content: bytes
    rows: Mapping[str, str]
    fixed: Mapping[str, str]
    clean: str
    gone: str


def compose(proto: onnx.ModelProto, wiring: Wiring) -> Composed:
    """Put a prelude before a model.

    Parameters
    ----------
    proto
        A valid model, nodes in an order they can run in. Not changed.

    Raises
    ------
    CannotComposeError
        With the reason: an opset too old, an element type that can't be selected, a model too large to be written.
    """
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    _check(opset, wiring)
    build = Builder(_prefix(proto.graph))
    inputs: list[onnx.ValueInfoProto] = []

    def given(role: str, dtype: Any, shape: Iterable[int | str | None]) -> str:
        name = f"{build.prefix}{role}"
        inputs.append(
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
        )
        return name

    count: int | str = wiring.batch or f"{build.prefix}batch"
    prelude = wiring.prelude
    rows = {role: given(role, dtype, (count, *shape)) for role, (dtype, shape) in prelude.rows.items()}
    fixed = {role: given(role, dtype, shape) for role, (dtype, shape) in prelude.fixed.items()}
    clean = given("clean", wiring.dtype, (1, *wiring.shape))
    gone = "" if wiring.zero else given("gone", wiring.dtype, (1, *wiring.shape))
    _blend(build, prelude.nodes(build, {**rows, **fixed}), clean, gone, wiring, opset)
    for name, dtype, shape, axis in wiring.others:
        alone = given(f"other_{name}", dtype, shape)
        if wiring.batch == 1:
            build("Identity", alone, result=name)
        else:
            _repeated(build, alone, next(iter(rows.values())), axis, len(shape), name)
    model = _rewired(proto, build.nodes, inputs, wiring)
    try:
        content = bytes(model.SerializeToString()) if model.ByteSize() < _MOST_BYTES else b""
    except (EncodeError, ValueError):
        content = b""
    if not content:
        raise CannotComposeError("the model is too large to be written with a prelude")
    return Composed(content, rows, fixed, clean, gone)


def other_input(composed: Composed, name: str) -> str:
    """What the graph calls an input that goes along, a batch of 1."""
    return f"{composed.clean.removesuffix('clean')}other_{name}"


def _check(opset: int, wiring: Wiring) -> None:
    if opset < _OLDEST:
        raise CannotComposeError(f"opset {opset} is older than {_OLDEST}")
    if wiring.dtype not in _FLOATS and (wiring.dtype not in _WHOLE or opset < _SELECTS):
        raise CannotComposeError(f"{wiring.dtype} can't be selected in opset {opset}")
    if wiring.others and opset < _EXPANDS and wiring.batch != 1:
        raise CannotComposeError(f"inputs can't be repeated in opset {opset}")


def _prefix(graph: onnx.GraphProto) -> str:
    """A beginning that no name of the graph has, subgraphs included."""
    prefix, names = "prelude_", _names(graph)
    while any(name.startswith(prefix) for name in names):
        prefix = "_" + prefix
    return prefix


def _names(graph: onnx.GraphProto) -> set[str]:
    found = {value.name for value in (*graph.input, *graph.initializer)}
    for node in graph.node:
        found.update((node.name, *node.input, *node.output))
        for inner in _subgraphs(node):
            found |= _names(inner)
    return found


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    every = [(attribute.g,) if attribute.HasField("g") else tuple(attribute.graphs) for attribute in node.attribute]
    return [graph for graphs in every for graph in graphs]


def _blend(build: Builder, mask: str, clean: str, gone: str, wiring: Wiring, opset: int) -> None:
    """The changed input under the model's own name for it."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(wiring.dtype))
    real, zero = wiring.dtype in _FLOATS, not gone
    if not wiring.prelude.whole and not real:
        mask = build("Not", build("Less", mask, build.constant(np.float32(0.5))))
    if not real or (wiring.prelude.whole and not zero and opset >= _SELECTS):
        gone = gone or build.constant(np.zeros((), wiring.dtype))
        build("Where", mask, clean, gone, result=wiring.name)
        return
    if not wiring.prelude.whole and wiring.dtype == "float16":  # rounded once, at the end
        work, result = onnx.TensorProto.FLOAT, ""
        clean, gone = build("Cast", clean, to=work), gone and build("Cast", gone, to=work)
    else:
        work, result = kind, wiring.name
    weight = build("Cast", mask, to=work) if wiring.prelude.whole or work != onnx.TensorProto.FLOAT else mask
    if zero:
        mixed = build("Mul", clean, weight, result=result)
    elif wiring.prelude.whole:
        rest = build("Cast", build("Not", mask), to=work)
        mixed = build("Add", build("Mul", clean, weight), build("Mul", gone, rest), result=result)
    else:
        mixed = build("Add", gone, build("Mul", weight, build("Sub", clean, gone)), result=result)
    if not result:
        build("Cast", mixed, to=kind, result=wiring.name)


def _repeated(build: Builder, alone: str, rows: str, axis: int, rank: int, name: str) -> None:
    """An input with a batch of 1, once per evaluation."""
    count = build("Gather", build("Shape", rows), build.constant(np.zeros(1, np.int64)), axis=0)
    ones = [build.constant(np.ones(size, np.int64)) for size in (axis, rank - axis - 1) if size]
    parts = [*ones[: 1 if axis else 0], count, *ones[1 if axis else 0 :]]
    shape = build("Concat", *parts, axis=0) if len(parts) > 1 else count
    build("Expand", alone, shape, result=name)


def _rewired(
    proto: onnx.ModelProto, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], wiring: Wiring
) -> onnx.ModelProto:
    """The model with inputs, nodes and outputs put in; what no wanted value needs is left out."""
    graph = proto.graph
    needed, chosen = set(wiring.wanted), []
    for node in reversed([*nodes, *graph.node]):
        if needed.intersection(node.output):
            chosen.append(node)
            needed.update(node.input)
            for inner in _subgraphs(node):
                needed |= _names(inner)
    declared = {value.name: value for value in (*graph.value_info, *graph.output)}
    changed = {wiring.name, *(name for name, *_ in wiring.others)}
    made = helper.make_graph(
        chosen[::-1],
        graph.name or "graph",
        [*inputs, *(value for value in graph.input if value.name in wiring.constant)],
        [declared.get(name, onnx.ValueInfoProto(name=name)) for name in wiring.wanted],
        [tensor for tensor in graph.initializer if tensor.name in needed],
        value_info=[value for value in graph.value_info if value.name not in changed],
        sparse_initializer=[tensor for tensor in graph.sparse_initializer if tensor.values.name in needed],
    )
    made.quantization_annotation.extend(graph.quantization_annotation)
    model = onnx.ModelProto(ir_version=max(proto.ir_version, 4), graph=made)  # before 4, initializers were inputs too
    model.opset_import.extend(proto.opset_import)
    model.functions.extend(proto.functions)
    return model
