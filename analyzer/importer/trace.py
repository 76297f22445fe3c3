"""A trace: the model as a flat ``torch.fx`` graph of ATen operators, for one input signature.

Belongs here: making traces and running them plainly. Not here: changing them (``passes``), judging them (``parity``),
explaining with them (``graph_rules``).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from onnx import NodeProto
from torch import Tensor, fx

from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import Graph, Node, without
from analyzer.importer.interpreter import Interpreter, missing, run_graph, unsupported
from analyzer.importer.modules import Origin, locate, origins_of
from analyzer.importer.passes import run_passes
from analyzer.importer.precision import raised
from analyzer.importer.recorder import Recorder
from analyzer.importer.rewriting import PassResult
from analyzer.importer.text import no_derivative, text_ends


@dataclass(frozen=True)
class Trace:
    """One input signature's graph.

    Attributes
    ----------
    module
        Its placeholders are ``inputs`` in order, its result the tuple of ``outputs``.
    values
        ONNX value name -> graph node that computes it, for values that the outputs depend on.
    nodes
        ONNX node name -> graph node of its first output.
    data_dependent
        The ONNX node whose behaviour depends on the input's values, or None. Such a trace is valid for its input only.
    branches
        Whether that behaviour depends on floating-point inputs, so that methods which vary them can't use this trace.
    passes
        What each pass changed and, where it changed nothing, why.
    converted
        ONNX nodes that the onnx2torch fallback ran: such a trace may not be used unverified.
    lacking
        ONNX nodes without a function: they are left out, with the outputs that are computed from them.
    precision
        What coarser types are computed in; None where each is computed in itself, as the model does.
    origins
        ONNX node name -> where in the network it came from, as far as the exporter says.
    cache
        What rules derive from the constants (modified weights); lives as long as the trace.
    """

    module: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, fx.Node]
    nodes: Mapping[str, fx.Node]
    data_dependent: str | None
    passes: tuple[PassResult, ...]
    converted: tuple[str, ...] = ()
    lacking: tuple[Node, ...] = ()
    precision: torch.dtype | None = None
    branches: bool = False
    origins: Mapping[str, Origin] = field(default_factory=dict, repr=False)
    cache: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False, compare=False)

    def run(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs for an input of this signature."""
        with torch.no_grad():
            results = self.module(*[feed[name] for name in self.inputs])
        return dict(zip(self.outputs, results, strict=True))

    @property
    def changes(self) -> tuple[str, ...]:
        """What all passes changed, one line each."""
        return tuple(change for each in self.passes for change in each.changes)

    def find(self, name: str) -> fx.Node | None:
        """The graph node of an ONNX node or value name, or of a module path (:mod:`analyzer.importer.modules`)."""
        exact = self.nodes.get(name) or self.values.get(name)
        placed = locate(name, self._traced) if exact is None else None
        return self.nodes[placed] if placed is not None else exact

    @functools.cached_property
    def _traced(self) -> dict[str, Origin]:
        return {name: origin for name, origin in self.origins.items() if name in self.nodes}


def trace(
    graph: Graph,
    feed: Mapping[str, np.ndarray | Tensor],
    precision: torch.dtype | None = None,
    optimize: bool = True,
    recorder: Recorder | None = None,
) -> Trace:
    """Record the model on a concrete input.

    Parameters
    ----------
    feed
        Input name -> array; arrays are not changed.
    precision
        What coarser types are computed in: ``torch.float32`` for models of half precision, ``torch.float64``.
    optimize
        Whether to run the passes (folding batch normalisation, merging biases).
    recorder
        A recorder of another kind than the one on numbers.

    Raises
    ------
    UnsupportedError
        Naming the ONNX nodes that the operator table lacks, where every output is computed from one of them, or those that
        turn an input's text into numbers.
    """
    lacking = tuple(missing(graph))
    if lacking:
        graph = without(graph, lacking)
        if not graph.outputs:
            raise unsupported(lacking)
    given = [(name, feed[name]) for name in graph.inputs if name in feed]
    if texts := [name for name, value in given if isinstance(value, np.ndarray) and value.dtype.kind in "OSU"]:
        ends = text_ends((node.proto or NodeProto() for node in graph.nodes), texts)
        raise no_derivative(texts, [str(graph.nodes[at]) for at in ends])
    recorder, watched = recorder or Recorder(), _Watched()
    with torch.no_grad(), recorder:
        tensors: dict[str, Tensor] = {}
        for name in (*graph.inputs, *graph.initializers):  # a given initializer is an input like the others
            if name in feed:
                tensors[name] = recorder.placeholder(name, _input(feed[name], precision))
                watched.observe(recorder, name, tensors[name])
        interpreter = Interpreter(recorder, precision, functools.partial(watched.observe, recorder))
        results = run_graph(graph, tensors, interpreter)
        out = {k: v for k, v in results.items() if not isinstance(v, (np.ndarray, list))}  # text, sequences
    data_dependent = recorder.data_dependent
    module = recorder.finish(out)
    replaced, passes = run_passes(module) if optimize else ({}, ())
    in_graph = set(module.graph.nodes)

    def current(nodes: Mapping[str, fx.Node]) -> dict[str, fx.Node]:
        """What computes the values after the passes, for those that still exist."""
        latest = {name: replaced.get(node, node) for name, node in nodes.items()}
        return {name: node for name, node in latest.items() if node in in_graph}

    return Trace(
        module=module,
        inputs=tuple(tensors),
        outputs=tuple(out),
        values=current(watched.values),
        nodes=current(watched.producers(graph)),
        data_dependent=data_dependent,
        passes=passes,
        converted=tuple(str(node) for node in interpreter.converted),
        lacking=lacking,
        precision=precision,
        branches=recorder.branches,
        origins=origins_of(graph.nodes),
    )


class _Watched:
    """Which graph node computes each ONNX value and node, noted while they are recorded."""

    def __init__(self) -> None:
        self.values: dict[str, fx.Node] = {}
        self._first: dict[str, fx.Node] = {}

    def observe(self, recorder: Recorder, name: str, value: Any) -> None:
        """Note the graph node of a value, where it depends on an input."""
        node = recorder.node_of(value) if isinstance(value, Tensor) else None
        if node is not None:
            self.values[name] = node
            self._first.setdefault(node.meta.get("onnx", ""), node)

    def producers(self, graph: Graph) -> dict[str, fx.Node]:
        """ONNX node name -> graph node of its first output; of nodes in subgraphs, the first that was recorded."""
        found = dict(self._first)
        for node in graph.nodes:
            first = next((self.values[name] for name in node.outputs if name in self.values), None)
            if first is not None:
                found[node.name] = first
        return found


def _input(given: np.ndarray | Tensor, precision: torch.dtype | None) -> Tensor:
    value = given if isinstance(given, Tensor) else as_tensor(given)
    return value.to(raised(value.dtype, precision))
