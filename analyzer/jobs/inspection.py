"""What a model takes, gives and contains, and which methods work on it.

Belongs here: facts about a model for people and programs. Not here: printing (``cli``), finding the facts of a trace
(``importer``, ``graph_rules``).
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from analyzer.errors import AnalyzerError, InputError
from analyzer.targets.resolve import scored_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.model import Model

#: What a free dimension becomes in a trial input: the sides of pictures; other axes, tried one after the other.
_FREE_SIDE, _FREE_LENGTHS = 224, (16, 1, 256)
_WHOLE_NUMBERS = tuple(getattr(onnx.TensorProto, n) for n in ("INT32", "INT64", "BOOL", "UINT32", "UINT64", "STRING"))


def inspect(model: Model, try_methods: bool = True, list_nodes: bool = False) -> dict[str, Any]:
    """Facts about a model, JSON-ready.

    Parameters
    ----------
    try_methods
        Trace the model on a trial input and say which methods work; imports torch.
    list_nodes
        Also all nodes, as ``node_list``.

    Returns
    -------
    dict
        ``file``, ``inputs``, ``outputs``, ``operators``, ``parameters``, ``explained``, ``methods`` and more.
    """
    from analyzer.targets.detection.finding import looks_like_a_detector

    proto = model.proto
    count, size = weights(model)
    scored: dict[str, Any]
    try:
        found = scored_value(model)
        scored = {"output": found.output, "value": found.value, "kind": found.kind, "taken_off": found.squashed_by}
    except AnalyzerError as problem:
        scored = {"error": str(problem)}
    facts: dict[str, Any] = {
        "file": {
            "path": str(model.path) if model.path else None,
            "sha256": model.sha256,
            "bytes": model.size,
            "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
            "ir_version": proto.ir_version,
            "opsets": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
            "graph": proto.graph.name,
            "metadata": model.metadata,
        },
        "inputs": {name: {"dtype": s.dtype, "shape": list(s.shape)} for name, s in model.inputs.items()},
        "outputs": {name: {"dtype": s.dtype, "shape": list(s.shape)} for name, s in model.outputs.items()},
        "nodes": sum(operators(model).values()),
        "operators": operators(model),
        "parameters": count,
        "weight_bytes": size,
        "functions": len(proto.functions),
        "labels": len(model.labels) if model.labels else None,
        "preprocess": model.preprocess.to_dict() if model.preprocess else None,
        "decode": model.decode.to_dict() if model.decode else None,
        "detector": model.decode is not None or looks_like_a_detector(model),
        "warnings": list(model.loaded.warnings),
        "explained": scored,
    }
    if try_methods:
        facts |= _methods(model)
    if list_nodes:
        facts["node_list"] = [
            {"graph": where, "name": node.name, "operator": _operator(node), "inputs": list(node.input),
             "outputs": list(node.output)}
            for where, node in _nodes(model)
        ]  # fmt: skip
    return facts


def operators(model: Model) -> dict[str, int]:
    """Operator -> how many nodes have it, most frequent first; other domains as ``domain::Operator``.

    Nodes inside If, Loop and Scan count, and those of the model's functions once each.
    """
    return dict(collections.Counter(_operator(node) for _, node in _nodes(model)).most_common())


def weights(model: Model) -> tuple[int, int]:
    """Number of weights, and bytes of all constants.

    Weights are the elements of initializers and constants of floating-point or quantised type, and the numbers that
    trees and linear models of ``ai.onnx.ml`` keep in attributes.
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
    """All nodes with where they are: ``""`` for the main graph, the path of nodes and attributes, or a function."""
    pending: list[tuple[str, Iterable[onnx.NodeProto]]] = [("", model.proto.graph.node)]
    pending += [(function.name, function.node) for function in model.proto.functions]
    while pending:
        where, nodes = pending.pop(0)
        for node in nodes:
            yield where, node
            for attribute, graph in _subgraphs(node):
                pending.append((f"{where}/{node.name or node.op_type}.{attribute}".lstrip("/"), graph.node))


def _subgraphs(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.name, attribute.g


def _tensors(model: Model) -> Iterator[onnx.TensorProto]:
    """Initializers and constants of the graph, its subgraphs and functions."""
    inner = (graph for _, node in _nodes(model) for _, graph in _subgraphs(node))
    for graph in itertools.chain([model.proto.graph], inner):
        yield from graph.initializer
        yield from (sparse.values for sparse in graph.sparse_initializer)
    for _, node in _nodes(model):
        if node.op_type == "Constant":
            yield from (a.t for a in node.attribute if a.type == onnx.AttributeProto.TENSOR)


def _item_bytes(data_type: int) -> float:
    name = onnx.TensorProto.DataType.Name(data_type)
    if name.endswith(("INT4", "E2M1")):
        return 0.5
    return 0 if name == "STRING" else onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize


def trial_input(model: Model, length: int = 16, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random values that fit the model's inputs: a batch of one, pictures of 224 pixels, ``length`` on other axes."""
    rng = np.random.default_rng(seed)
    feed: dict[str, NDArray[Any]] = {}
    for name, spec in model.inputs.items():
        free = [axis for axis, size in enumerate(spec.shape) if not isinstance(size, int)]
        first = spec.shape[0] if spec.shape else 1
        # an axis before the batch is fixed and isn't 1, as in a recurrent state (layers, batch, width)
        batch = 0 if not isinstance(first, int) or first == 1 else free[0] if free else None
        usual = _FREE_SIDE if len(spec.shape) == 4 else length
        sizes = [size if isinstance(size, int) else usual for size in spec.shape]
        shape = [1 if axis == batch else size for axis, size in enumerate(sizes)]
        if spec.dtype.startswith(("float", "bfloat")):
            feed[name] = rng.standard_normal(shape).astype(spec.dtype if spec.dtype != "bfloat16" else np.float32)
        else:
            feed[name] = np.ones(shape, "str" if spec.dtype == "string" else spec.dtype)
    return feed


def _methods(model: Model) -> dict[str, Any]:
    """Which methods work: those of the runtime where the model runs, white-box ones where it can be traced."""
    from analyzer.methods import registry

    feed, reason = _running_feed(model)
    verdicts: dict[str, dict[str, Any]] = {}
    parity, refusal = None, None
    if feed is not None:
        try:
            parity = model.backends.tracer.require(feed)
        except Exception as problem:
            refusal = _failure(problem)
    perturbed = _try(model, feed, "occlusion") if feed is not None else None
    for name, info in registry.methods().items():
        if feed is None:
            verdicts[name] = {"works": None, "reason": f"not tried: no trial input fits ({reason})"}
        elif info.needs == "runtime" and perturbed is not None:
            verdicts[name] = dict(perturbed)  # they all run the model in the same way
        elif info.derived_from in verdicts:
            verdicts[name] = dict(verdicts[info.derived_from])
        else:
            verdicts[name] = refusal or _try(model, feed, name)
    layer = next((v["layer"] for v in verdicts.values() if v.get("layer")), None)
    return {"methods": verdicts, "parity": parity.to_dict() if parity else None, "cam_layer": layer}


def _running_feed(model: Model) -> tuple[dict[str, NDArray[Any]] | None, str]:
    """A trial input that the model runs on; else None and why the first didn't fit."""
    reasons = []
    for length in _FREE_LENGTHS:
        try:
            feed = trial_input(model, length)
            model.predict(feed)
            return feed, ""
        except (AnalyzerError, TypeError, ValueError) as problem:
            reasons.append(str(problem))
    return None, reasons[0]


def running_feed(model: Model) -> dict[str, NDArray[Any]]:
    """A trial input that the model runs on.

    Raises
    ------
    InputError
        ``inspect.no_trial`` where none fits.
    """
    feed, reason = _running_feed(model)
    if feed is None:
        raise InputError("inspect.no_trial", f"no trial input fits the model ({reason})", "give an input")
    return feed


def _try(model: Model, feed: dict[str, NDArray[Any]], name: str) -> dict[str, Any]:
    """Explain the trial input with few evaluations."""
    longest = max(next(iter(feed.values())).shape[1:], default=1)
    few = {
        "integrated-gradients": {"steps": 1},
        "smoothgrad": {"samples": 1},
        "occlusion": {"window": -(-longest // 2)},
    }
    quick: dict[str, Any] = few.get(name, {})
    try:
        done = model.explain(feed, method=name, **quick)
    except Exception as problem:
        return _failure(problem)
    return {"works": True, "reason": "", "layer": done.record.get("layer")}


def _failure(problem: Exception) -> dict[str, Any]:
    """The verdict on a method that failed; a fault of our own must not hide what else is known about the model."""
    known = isinstance(problem, AnalyzerError)
    return {"works": False, "reason": str(problem) if known else f"{type(problem).__name__}: {problem} [internal]"}
