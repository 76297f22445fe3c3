"""What a model takes, gives and contains, and which methods work on it.

Belongs here: facts about a model, JSON-ready. Not here: which methods work (``suitability``, ``trials``), printing (``cli``),
rules of its nodes (``rule_assignment``).
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import onnx

from analyzer.errors import AnalyzerError
from analyzer.importer.subgraphs import named_subgraphs, with_subgraphs
from analyzer.jobs.suitability import looked_at
from analyzer.jobs.trials import tried
from analyzer.targets.resolve import scored_value

if TYPE_CHECKING:
    from analyzer.model import Model

_WHOLE_NUMBERS = tuple(getattr(onnx.TensorProto, n) for n in ("INT32", "INT64", "BOOL", "UINT32", "UINT64", "STRING"))


#: How it is found out which methods work: by looking at the model, by running them all, or not at all.
Verdicts = Literal["look", "try", "none"]


def inspect(model: Model, verdicts: Verdicts = "look", list_nodes: bool = False) -> dict[str, Any]:
    """Facts about a model, JSON-ready.

    Parameters
    ----------
    verdicts
        Whether, and how, it is found out which methods work; both ways import torch.
    list_nodes
        Also all nodes, as ``node_list``.

    Raises
    ------
    InputError
        ``runtime.load_failed``.

    Returns
    -------
    dict
        ``file``, ``inputs``, ``outputs``, ``operators``, ``parameters``, ``explained``, ``methods`` and more.
    """
    from analyzer.targets.detection.finding import looks_like_a_detector

    require_loadable(model)
    counts = operators(model)
    parameters, weight_bytes = weights(model)
    facts: dict[str, Any] = {
        "file": _file_facts(model),
        "inputs": {name: {"dtype": s.dtype, "shape": list(s.shape)} for name, s in model.inputs.items()},
        "outputs": {name: {"dtype": s.dtype, "shape": list(s.shape)} for name, s in model.outputs.items()},
        "nodes": sum(counts.values()),
        "operators": counts,
        "parameters": parameters,
        "weight_bytes": weight_bytes,
        "functions": len(model.proto.functions),
        "labels": len(model.labels) if model.labels else None,
        "preprocess": model.preprocess.to_dict() if model.preprocess else None,
        "decode": model.decode.to_dict() if model.decode else None,
        "detector": model.decode is not None or looks_like_a_detector(model),
        "warnings": list(model.loaded.warnings),
        "explained": _explained(model),
    }
    if verdicts == "try":
        facts |= tried(model)
    elif verdicts == "look":
        facts |= looked_at(model)
    if list_nodes:
        facts["node_list"] = [
            {"graph": path, "name": node.name, "operator": _operator(node), "inputs": list(node.input),
             "outputs": list(node.output)}
            for path, node in _nodes(model)
        ]  # fmt: skip
    return facts


def require_loadable(model: Model) -> None:
    """Refuse a model that onnxruntime can't load.

    Raises
    ------
    InputError
        ``runtime.load_failed``.
    """
    from analyzer.executor.session import Session

    source, files = model.source()
    Session(source, files=files, threads=1, optimize=False)


def _file_facts(model: Model) -> dict[str, Any]:
    proto = model.proto
    return {
        "path": str(model.path) if model.path else None,
        "sha256": model.sha256,
        "bytes": model.size,
        "producer": producer(model),
        "ir_version": proto.ir_version,
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        "graph": proto.graph.name,
        "metadata": model.metadata,
    }


def _explained(model: Model) -> dict[str, Any]:
    """The value that is explained by default, or why there is none."""
    try:
        found = scored_value(model)
    except AnalyzerError as problem:
        return {"error": str(problem)}
    return {"output": found.output, "value": found.value, "kind": found.kind, "taken_off": found.squashed_by}


def producer(model: Model) -> str:
    """The program that wrote the file, with its version; empty where the file doesn't name it."""
    return f"{model.proto.producer_name} {model.proto.producer_version}".strip()


def operators(model: Model) -> dict[str, int]:
    """Operator -> how many nodes have it, most frequent first; other domains as ``domain::Operator``.

    Nodes inside If, Loop and Scan count, and those of the model's functions once each.
    """
    return dict(collections.Counter(_operator(node) for _, node in _nodes(model)).most_common())


def weights(model: Model) -> tuple[int, int]:
    """Number of weights, and bytes of all constants.

    Weights are the elements of initializers and constants of floating-point or quantised type, and the numbers that
    trees and linear models of ``ai.onnx.ml`` have in attributes.
    """
    count = size = 0
    for tensor in _tensors(model):
        elements = math.prod(tensor.dims)
        size += math.ceil(elements * _item_bytes(tensor.data_type))
        if tensor.dims and tensor.data_type not in _WHOLE_NUMBERS:
            count += elements
    for _, node in _nodes(model):
        if node.domain == "ai.onnx.ml":
            floats = sum(len(attribute.floats) for attribute in node.attribute)
            count, size = count + floats, size + 4 * floats
    return count, size


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _nodes(model: Model) -> Iterator[tuple[str, onnx.NodeProto]]:
    """All nodes with the path of their graph: ``""`` for the main graph, else nodes and attributes, or a function's name."""
    pending: list[tuple[str, Iterable[onnx.NodeProto]]] = [("", model.proto.graph.node)]
    pending += [(function.name, function.node) for function in model.proto.functions]
    while pending:
        path, nodes = pending.pop(0)
        for node in nodes:
            yield path, node
            for attribute, graph in named_subgraphs(node):
                pending.append((f"{path}/{node.name or node.op_type}.{attribute}".lstrip("/"), graph.node))


def _tensors(model: Model) -> Iterator[onnx.TensorProto]:
    """Initializers and constants of the graph, its subgraphs and functions."""
    for body in (model.proto.graph, *model.proto.functions):
        for graph in with_subgraphs(body):
            if isinstance(graph, onnx.GraphProto):
                yield from graph.initializer
                yield from (sparse.values for sparse in graph.sparse_initializer)
            for node in graph.node:
                if node.op_type == "Constant":
                    yield from (a.t for a in node.attribute if a.type == onnx.AttributeProto.TENSOR)


def _item_bytes(data_type: int) -> float:
    name = onnx.TensorProto.DataType.Name(data_type)
    if name.endswith(("INT4", "E2M1")):
        return 0.5
    return 0 if name == "STRING" else onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize
