"""Holding a model's trace against onnxruntime on an input.

Belongs here: running both and, where they disagree, the values between; which of these is the first that isn't finite. Not
here: comparing arrays (``importer.parity``), what becomes of a model that fails (``tracer``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import AnalyzerError
from analyzer.executor.session import Session

if TYPE_CHECKING:
    from analyzer.importer.parity import Parity
    from analyzer.onnx_model import OnnxModel

Array = NDArray[Any]
Feed = Mapping[str, Array]


def hold_against_runtime(
    model: OnnxModel, run_trace: Callable[[dict[str, Array]], dict[str, Array]], feed: dict[str, Array]
) -> Parity:
    """Every numeric output of the trace beside onnxruntime's, and the first ONNX node that differs where they disagree."""
    from analyzer.importer.parity import compare, first_difference, tolerance_of

    tolerance = tolerance_of(model.graph)
    expected = {k: v for k, v in model.values(feed, model.compared).items() if _numeric(v)}
    parity = compare(run_trace(feed), expected, tolerance)
    if parity.ok:
        return parity
    where = first_difference(
        model.graph, every_value(model, feed), functools.partial(inner_values, model, feed), tolerance
    )
    return type(parity)(parity.error, tolerance, parity.outputs, where)


def every_value(model: OnnxModel, feed: Feed) -> dict[str, Array]:
    """Every value that the interpreter computes, by name."""
    import torch

    from analyzer.importer.conversion import as_tensor, to_numpy
    from analyzer.importer.interpreter import Interpreter, run_graph

    seen: dict[str, Array] = {}

    def observe(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            seen[name] = to_numpy(value)

    with torch.no_grad():
        run_graph(model.graph, {k: as_tensor(v) for k, v in feed.items()}, Interpreter(observe=observe))
    return seen


def inner_values(model: OnnxModel, feed: Feed, names: Sequence[str]) -> dict[str, Any]:
    """onnxruntime's values of inner names, graph optimisations off so that they exist."""
    source, folder = model.source()
    outputs = {o.name for o in model.proto.graph.output}
    expose = [name for name in names if name not in outputs]
    session = Session(source, "cpu", expose, folder, model.threads, optimize=False)
    return session.run({k: v for k, v in feed.items() if k in session.inputs}, names)


def first_nonfinite(model: OnnxModel, feed: Feed) -> str:
    """Which node is the first whose value isn't finite, in words behind a colon; empty where that can't be found out."""
    nodes = [node for node in model.graph.nodes if node.outputs and node.outputs[0]]
    try:
        values = inner_values(model, feed, [node.outputs[0] for node in nodes])
    except AnalyzerError:  # a value that can't be given out
        return ""
    for node in nodes:
        value = values[node.outputs[0]]
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
            return f": {node.op_type} node {node.name!r} is the first whose value isn't finite"
    return ""


def _numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
