"""Models of bfloat16 numbers written again with float32 ones.

onnxruntime has next to no bfloat16 operators on the CPU, and numpy has no such type to feed them with; every bfloat16 is a
float32 of the same value. So such a model is run, traced and explained in float32, where nothing is rounded away.

Belongs here: that rewriting of a loaded model. Not here: what a sweep computes half precision in (``precision``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from types import MappingProxyType

import numpy as np
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, TensorProto, TypeProto, numpy_helper

from analyzer.errors import InputError
from analyzer.importer.loading import LoadedModel, tensor_to_numpy
from analyzer.importer.subgraphs import with_subgraphs

SAID = "its bfloat16 numbers are computed in float32"
#: Attributes that name an element type.
_NAMING = ("to", "dtype", "output_dtype", "output_datatype", "softmax_precision", "stash_type")
#: Protobuf holds less than 2 GiB.
_MOST = 2**31 - 2**24


def in_single(loaded: LoadedModel) -> LoadedModel:
    """The model itself if it has no bfloat16 numbers, else the same with float32 ones, its weights in the protobuf.

    Raises
    ------
    InputError
        ``limit.file_size`` where the weights don't fit into one.
    """
    if not any(_has_bfloat16(graph) for graph in _graphs(loaded.proto)):
        return loaded
    proto = ModelProto()
    proto.CopyFrom(loaded.proto)
    for graph in _graphs(proto):
        _rewrite(graph, lambda tensor: tensor_to_numpy(tensor, loaded))
    if proto.ByteSize() > _MOST:
        raise InputError(
            "limit.file_size",
            f"its bfloat16 weights take {proto.ByteSize() / 2**30:.1f} GiB as float32, more than a model in memory may have",
            "convert the model to float16, or to float32 with external data",
        )
    return dataclasses.replace(
        loaded, proto=proto, external=MappingProxyType({}), repaired=True, warnings=(*loaded.warnings, SAID)
    )


def _graphs(proto: ModelProto) -> Iterator[GraphProto | FunctionProto]:
    for body in (proto.graph, *proto.functions):
        yield from with_subgraphs(body)


def _types(graph: GraphProto | FunctionProto) -> Iterator[TypeProto.Tensor]:
    """The types of tensors, and of those in sequences and optionals, that a graph declares."""
    declared = [value.type for value in graph.value_info]
    if isinstance(graph, GraphProto):
        declared += [value.type for value in (*graph.input, *graph.output)]
    while declared:
        kind = declared.pop()
        if kind.HasField("tensor_type"):
            yield kind.tensor_type
        for inner in ("sequence_type", "optional_type"):
            if kind.HasField(inner):
                declared.append(getattr(kind, inner).elem_type)


def _tensors(graph: GraphProto | FunctionProto) -> Iterator[TensorProto]:
    """Initializers and constants."""
    if isinstance(graph, GraphProto):
        yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _naming(graph: GraphProto | FunctionProto) -> Iterator[AttributeProto]:
    """Attributes that name bfloat16."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _NAMING and attribute.i == TensorProto.BFLOAT16:
                yield attribute


def _has_bfloat16(graph: GraphProto | FunctionProto) -> bool:
    declared = any(kind.elem_type == TensorProto.BFLOAT16 for kind in _types(graph))
    return declared or any(t.data_type == TensorProto.BFLOAT16 for t in _tensors(graph)) or any(_naming(graph))


def _rewrite(graph: GraphProto | FunctionProto, values: Callable[[TensorProto], np.ndarray]) -> None:
    for kind in _types(graph):
        if kind.elem_type == TensorProto.BFLOAT16:
            kind.elem_type = TensorProto.FLOAT
    for attribute in _naming(graph):
        attribute.i = TensorProto.FLOAT
    for tensor in _tensors(graph):
        coarse = tensor.data_type == TensorProto.BFLOAT16
        if not coarse and tensor.data_location != TensorProto.EXTERNAL:
            continue
        array = values(tensor)
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32) if coarse else array, tensor.name))
