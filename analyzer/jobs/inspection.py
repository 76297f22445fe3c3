"""What a model takes, gives and contains, and which methods work on it.

Belongs here: facts about a model, JSON-ready. Not here: printing (``cli``), rules of its nodes (``rule_assignment``).
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from analyzer.errors import AnalyzerError, InputError
from analyzer.importer.subgraphs import named_subgraphs, with_subgraphs
from analyzer.targets.resolve import scored_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.model import Model

#: Sizes of free axes in a trial input: height and width of pictures; all other axes, in the order in which they are tried.
_FREE_SIDE, _FREE_LENGTHS = 224, (16, 1, 256)
_WHOLE_NUMBERS = tuple(getattr(onnx.TensorProto, n) for n in ("INT32", "INT64", "BOOL", "UINT32", "UINT64", "STRING"))


def inspect(model: Model, try_methods: bool = True, list_nodes: bool = False) -> dict[str, Any]:
    """Facts about a model, JSON-ready.

    Parameters
    ----------
    try_methods
        Run every method on a trial input to find out which work; imports torch.
    list_nodes
        Also all nodes, as ``node_list``.

    Returns
    -------
    dict
        ``file``, ``inputs``, ``outputs``, ``operators``, ``parameters``, ``explained``, ``methods`` and more.
    """
    from analyzer.targets.detection.finding import looks_like_a_detector

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
    if try_methods:
        facts |= _methods(model)
    if list_nodes:
        facts["node_list"] = [
            {"graph": path, "name": node.name, "operator": _operator(node), "inputs": list(node.input),
             "outputs": list(node.output)}
            for path, node in _nodes(model)
        ]  # fmt: skip
    return facts


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


def trial_input(model: Model, length: int = 16, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random values that fit the model's inputs: a batch of one, pictures of 224 pixels, ``length`` on other axes."""
    rng = np.random.default_rng(seed)
    feed: dict[str, NDArray[Any]] = {}
    for name, spec in model.inputs.items():
        free = [axis for axis, size in enumerate(spec.shape) if not isinstance(size, int)]
        first = spec.shape[0] if spec.shape else 1
        # an axis before the batch is fixed and isn't 1, as in a recurrent state (layers, batch, width)
        batch = 0 if not isinstance(first, int) or first == 1 else free[0] if free else None
        default_size = _FREE_SIDE if len(spec.shape) == 4 else length
        sizes = [size if isinstance(size, int) else default_size for size in spec.shape]
        shape = [1 if axis == batch else size for axis, size in enumerate(sizes)]
        if spec.dtype.startswith(("float", "bfloat")):
            feed[name] = rng.standard_normal(shape).astype(spec.dtype if spec.dtype != "bfloat16" else np.float32)
        else:
            feed[name] = np.ones(shape, "str" if spec.dtype == "string" else spec.dtype)
    return feed


def _methods(model: Model) -> dict[str, Any]:
    """Which methods work: perturbation methods where the model runs, white-box methods where it can be traced."""
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
    text = any(spec.dtype == "string" for spec in model.inputs.values())
    for name, info in registry.methods().items():
        if feed is None:
            verdicts[name] = {"works": None, "reason": f"not tried: no trial input fits ({reason})"}
        elif info.needs == "runtime" and perturbed is not None and (not text or "text" in info.modalities):
            verdicts[name] = dict(perturbed)  # all of them run the model in the same way
        elif info.derived_from in verdicts:
            verdicts[name] = dict(verdicts[info.derived_from])
        else:
            verdicts[name] = (refusal if info.needs == "trace" else None) or _try(model, feed, name)
    layer = next((v["layer"] for v in verdicts.values() if v.get("layer")), None)
    return {"methods": verdicts, "parity": parity.to_dict() if parity else None, "cam_layer": layer}


def _running_feed(model: Model) -> tuple[dict[str, NDArray[Any]] | None, str]:
    """A trial input that the model runs on; else None and why the first one failed."""
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
    text = any(value.dtype.kind in "OSU" for value in feed.values())
    params: dict[str, Any] = {} if text else few.get(name, {})
    try:
        done = model.explain(feed, method=name, **params)
    except Exception as problem:
        return _failure(problem)
    return {"works": True, "reason": "", "layer": done.record.get("layer")}


def _failure(problem: Exception) -> dict[str, Any]:
    """The verdict on a method that failed; an internal error must not hide the other facts about the model."""
    known = isinstance(problem, AnalyzerError)
    return {"works": False, "reason": str(problem) if known else f"{type(problem).__name__}: {problem} [internal]"}
