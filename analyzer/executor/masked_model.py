"""A model with mask operators before it: one graph from an input and a few numbers per evaluation to the wanted outputs.

Belongs here: the ONNX model that results. Not here: what the operators compute (``mask_ops``), sessions (``session_pool``).

The model's opset stays: mask operators are written as they are since opset 7. Weights that lie in files stay there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import EncodeError
from onnx import helper

from analyzer.executor.mask_ops import Builder, MaskOps
from analyzer.importer.subgraphs import subgraphs, with_subgraphs

_OLDEST_OPSET, _WHERE_SINCE, _EXPAND_SINCE = 7, 9, 8
_FLOATS, _INTEGERS = ("float16", "float32", "float64"), ("int32", "int64", "uint8")
_LARGEST_BYTES = 2**31 - 2**20


class CannotMaskError(Exception):
    """The reason why masks must be made on the host."""


@dataclass(frozen=True)
class MaskedModelSpec:
    """What a masked model is made of, besides the model; hashable.

    Attributes
    ----------
    mask_ops
        What makes the masks.
    name, dtype, shape
        The masked input, its element type, and the shape of one sample.
    others
        Inputs that go along with every evaluation: name -> (element type, shape with a batch of 1, batch axis).
    constant
        Names of inputs without a batch axis.
    outputs
        Names of the values to give out.
    fixed_batch
        The batch size of a model that takes no other, or None.
    zero
        Whether masked elements become zero everywhere, so that no replacement is needed.
    """

    mask_ops: MaskOps
    name: str
    dtype: str
    shape: tuple[int, ...]
    others: tuple[tuple[str, str, tuple[int, ...], int], ...]
    constant: tuple[str, ...]
    outputs: tuple[str, ...]
    fixed_batch: int | None
    zero: bool


@dataclass(frozen=True)
class MaskedModel:
    """A model with mask operators before it.

    Attributes
    ----------
    content
        The serialised model.
    rows, fixed
        Name among the mask's rows or fixed arrays -> name of the graph's input.
    original, replacement
        The graph's inputs for the unchanged sample and what replaces it, a batch of 1; ``replacement`` is empty for zero.
    others
        Name of an input that goes along -> name of the graph's input for it, a batch of 1.
    """

    content: bytes
    rows: Mapping[str, str]
    fixed: Mapping[str, str]
    original: str
    replacement: str
    others: Mapping[str, str]


def build_masked_model(proto: onnx.ModelProto, spec: MaskedModelSpec) -> MaskedModel:
    """Put mask operators before a model.

    Parameters
    ----------
    proto
        A valid model, nodes in an order they can run in. Not changed.

    Raises
    ------
    CannotMaskError
        With the reason: an opset too old, an element type that can't be selected, a model too large to be written.
    """
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    _check(opset, spec)
    build = Builder(_unused_prefix(proto.graph))
    inputs: list[onnx.ValueInfoProto] = []

    def add_input(role: str, dtype: Any, shape: Iterable[int | str | None]) -> str:
        name = f"{build.prefix}{role}"
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    count: int | str = spec.fixed_batch or f"{build.prefix}batch"
    mask_ops = spec.mask_ops
    rows = {role: add_input(role, dtype, (count, *shape)) for role, (dtype, shape) in mask_ops.rows.items()}
    fixed = {role: add_input(role, dtype, shape) for role, (dtype, shape) in mask_ops.fixed.items()}
    original = add_input("original", spec.dtype, (1, *spec.shape))
    replacement = "" if spec.zero else add_input("replacement", spec.dtype, (1, *spec.shape))
    others = {name: add_input(f"other_{name}", dtype, shape) for name, dtype, shape, _ in spec.others}
    _blend(build, mask_ops.nodes(build, {**rows, **fixed}), original, replacement, spec, opset)
    for name, _, shape, axis in spec.others:
        if spec.fixed_batch == 1:
            build("Identity", others[name], result=name)
        else:
            _repeat(build, others[name], next(iter(rows.values())), axis, len(shape), name)
    content = _serialized(_assembled(proto, build.nodes, inputs, spec))
    return MaskedModel(content, rows, fixed, original, replacement, others)


def _check(opset: int, spec: MaskedModelSpec) -> None:
    if opset < _OLDEST_OPSET:
        raise CannotMaskError(f"opset {opset} is older than {_OLDEST_OPSET}")
    if spec.dtype not in _FLOATS and (spec.dtype not in _INTEGERS or opset < _WHERE_SINCE):
        raise CannotMaskError(f"{spec.dtype} can't be selected in opset {opset}")
    if spec.others and opset < _EXPAND_SINCE and spec.fixed_batch != 1:
        raise CannotMaskError(f"inputs can't be repeated in opset {opset}")


def _serialized(model: onnx.ModelProto) -> bytes:
    try:
        content = bytes(model.SerializeToString()) if model.ByteSize() < _LARGEST_BYTES else b""
    except (EncodeError, ValueError):
        content = b""
    if not content:
        raise CannotMaskError("the model is too large to be written with mask operators")
    return content


def _unused_prefix(graph: onnx.GraphProto) -> str:
    """A beginning that no name of the graph has, subgraphs included."""
    prefix, names = "masking_", set(_names(graph))
    while any(name.startswith(prefix) for name in names):
        prefix = "_" + prefix
    return prefix


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of inputs, initializers, nodes and what they read and make, subgraphs included."""
    for each in with_subgraphs(graph):
        assert isinstance(each, onnx.GraphProto)
        yield from (value.name for value in chain(each.input, each.initializer))
        for node in each.node:
            yield from (node.name, *node.input, *node.output)


def _blend(build: Builder, mask: str, original: str, replacement: str, spec: MaskedModelSpec, opset: int) -> None:
    """Write the masked input under the model's own name for it."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    is_float, zero, binary = spec.dtype in _FLOATS, not replacement, spec.mask_ops.binary
    if not binary and not is_float:
        mask = build("Not", build("Less", mask, build.constant(np.float32(0.5))))
    if not is_float or (binary and not zero and opset >= _WHERE_SINCE):
        replacement = replacement or build.constant(np.zeros((), spec.dtype))
        build("Where", mask, original, replacement, result=spec.name)
        return
    if not binary and spec.dtype == "float16":  # rounded once, at the end
        work, result = onnx.TensorProto.FLOAT, ""
        original, replacement = build("Cast", original, to=work), replacement and build("Cast", replacement, to=work)
    else:
        work, result = kind, spec.name
    weight = build("Cast", mask, to=work) if binary or work != onnx.TensorProto.FLOAT else mask
    if zero:
        mixed = build("Mul", original, weight, result=result)
    elif binary:
        complement = build("Cast", build("Not", mask), to=work)
        mixed = build("Add", build("Mul", original, weight), build("Mul", replacement, complement), result=result)
    else:
        difference = build("Sub", original, replacement)
        mixed = build("Add", replacement, build("Mul", weight, difference), result=result)
    if not result:
        build("Cast", mixed, to=kind, result=spec.name)


def _repeat(build: Builder, single: str, rows: str, axis: int, rank: int, name: str) -> None:
    """Write an input that has a batch of 1 once per evaluation."""
    count = build("Gather", build("Shape", rows), build.constant(np.zeros(1, np.int64)), axis=0)
    ones = [build.constant(np.ones(size, np.int64)) for size in (axis, rank - axis - 1) if size]
    parts = [*ones[: 1 if axis else 0], count, *ones[1 if axis else 0 :]]
    shape = build("Concat", *parts, axis=0) if len(parts) > 1 else count
    build("Expand", single, shape, result=name)


def _assembled(
    proto: onnx.ModelProto, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], spec: MaskedModelSpec
) -> onnx.ModelProto:
    """The model with these nodes before its own and these inputs; what no wanted output needs is left out."""
    graph = proto.graph
    needed, chosen = set(spec.outputs), []
    for node in reversed([*nodes, *graph.node]):
        if needed.intersection(node.output):
            chosen.append(node)
            needed.update(node.input)
            for inner in subgraphs(node):
                needed.update(_names(inner))
    declared = {value.name: value for value in (*graph.value_info, *graph.output)}
    changed = {spec.name, *(name for name, *_ in spec.others)}
    made = helper.make_graph(
        chosen[::-1],
        graph.name or "graph",
        [*inputs, *(value for value in graph.input if value.name in spec.constant)],
        [declared.get(name, onnx.ValueInfoProto(name=name)) for name in spec.outputs],
        [tensor for tensor in graph.initializer if tensor.name in needed],
        value_info=[value for value in graph.value_info if value.name not in changed],
        sparse_initializer=[tensor for tensor in graph.sparse_initializer if tensor.values.name in needed],
    )
    made.quantization_annotation.extend(graph.quantization_annotation)
    model = onnx.ModelProto(ir_version=max(proto.ir_version, 4), graph=made)  # before 4, initializers were inputs too
    model.opset_import.extend(proto.opset_import)
    model.functions.extend(proto.functions)
    return model
