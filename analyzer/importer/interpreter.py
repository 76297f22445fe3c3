"""The walk over an ONNX graph that calls the operator table, node by node.

Belongs here: scopes, calling operator functions, subgraphs and functions, freeing values that are no longer read. Not here:
operators (``ops``), recording (``recorder``), comparing with onnxruntime (``parity``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analyzer.errors import AnalyzerError, InputError, UnsupportedError
from analyzer.importer import quantized, quantized_nodes, table
from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import Graph, Node
from analyzer.importer.precision import computed_in, raised
from analyzer.importer.recorder import Recorder

Observer = Callable[[str, Any], None]


@dataclass
class Scope:
    """Values by name, inside the scopes around them."""

    interpreter: Interpreter
    values: dict[str, Any] = field(default_factory=dict)
    outer: Scope | None = None
    path: str = ""

    def __getitem__(self, name: str) -> Any:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        raise InputError("graph.dangling", f"the value {name!r} is read but never produced", "re-export the model")

    def run(self, graph: Graph, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Run a subgraph that sees this scope's values; gives its outputs."""
        inner = Scope(self.interpreter, dict(zip(graph.inputs, inputs, strict=False)), self, self.path)
        return self.interpreter.run(graph, inner)


class Interpreter:
    """Runs graphs on torch tensors.

    Parameters
    ----------
    recorder
        Where given, each node's name and type become the provenance of what it records.
    precision
        Where given, initializers and casts of coarser floating-point types become this one.
    observe
        Called with every value's name and tensor as it is computed.

    Attributes
    ----------
    converted
        Nodes that the onnx2torch fallback ran; what they computed must be verified.
    """

    def __init__(
        self,
        recorder: Recorder | None = None,
        precision: torch.dtype | None = None,
        observe: Observer | None = None,
    ) -> None:
        self.recorder = recorder
        self.precision = precision
        self.observe = observe
        self.converted: list[Node] = []

    def run(self, graph: Graph, scope: Scope) -> tuple[Any, ...]:
        """Run a graph whose inputs are in ``scope``; gives its outputs in order."""
        for name, read in graph.initializers.items():
            if name not in scope.values:
                scope.values[name] = self._initializer(name, read())
        for position, node in enumerate(graph.nodes):
            for name, value in zip(node.outputs, self.call(node, scope), strict=False):
                if name:
                    scope.values[name] = value
                    if self.observe is not None:
                        self.observe(scope.path + name, quantized.observed(value, self.recorder is not None))
            for name in graph.last_use.get(position, ()):
                scope.values.pop(name, None)
        return tuple(scope[name] for name in graph.outputs)

    def call(self, node: Node, scope: Scope) -> tuple[Any, ...]:
        """Run one node."""
        inputs = tuple(scope[name] if name else None for name in node.inputs)
        if node.body is not None:
            inner = Scope(self, {}, None, f"{scope.path}{node.name}/")
            names = node.body.inputs
            inner.values.update(zip(names, inputs + (None,) * (len(names) - len(inputs)), strict=False))
            return self.run(node.body, inner)
        function = table.lookup(node.domain, node.op_type, node.version)
        if function is None:
            function = self._fallback(node)
        if self.recorder is not None:
            self.recorder.provenance = {"onnx": scope.path + node.name, "op": node.op_type}
        try:
            if table.is_control(node.domain, node.op_type):
                out = function(node, *inputs, scope=scope)
            else:
                out = quantized_nodes.call(function, node, inputs)
        except AnalyzerError:
            raise
        except Exception as problem:
            raise InputError(
                "op.failed",
                f"{node} failed in the trace: {type(problem).__name__}: {str(problem)[:300]}",
                "perturbation methods such as occlusion work without a trace",
            ) from problem
        values = out if isinstance(out, tuple) else (out,)
        return values if self.precision is None else tuple(self._precise(value) for value in values)

    def _precise(self, value: Any) -> Any:
        """Constants and ranges give a type of their own accord."""
        return value.to(raised(value.dtype, self.precision)) if isinstance(value, Tensor) else value

    def _initializer(self, name: str, array: np.ndarray) -> Any:
        if array.dtype.kind in "OSU":
            return array  # text stays an array: class names, of which an operator gives the position
        value = self._precise(as_tensor(array))
        if self.recorder is not None:
            self.recorder.names[value.data_ptr()] = name
        return value

    def _fallback(self, node: Node) -> Callable[..., Any]:
        from analyzer.importer import onnx2torch_fallback

        if not onnx2torch_fallback.has(node):
            raise unsupported([node])
        if node not in self.converted:
            self.converted.append(node)
        return onnx2torch_fallback.run


def unsupported(nodes: Sequence[Node]) -> UnsupportedError:
    """The error that names operators without a function."""
    if all(node.op_type in table.RANDOM for node in nodes):
        return UnsupportedError(
            "op.random",
            f"{nodes[0]} draws at random: no trace of what it leads to can be held against onnxruntime",
            "explain a value before it, export the model without it, or use a perturbation method",
        )
    named = ", ".join(f"{node} (opset {node.version})" for node in nodes[:5])
    more = f" and {len(nodes) - 5} more" if len(nodes) > 5 else ""
    return UnsupportedError(
        "op.unsupported",
        f"the trace has no function for {named}{more}",
        "perturbation methods such as occlusion or lime work without a trace",
    )


def missing(graph: Graph) -> list[Node]:
    """Nodes that neither the table nor the onnx2torch fallback has a function for, in execution order."""
    outside = [
        node
        for node in graph.walk()
        if node.body is None and table.lookup(node.domain, node.op_type, node.version) is None
    ]
    if not outside:
        return []
    from analyzer.importer import onnx2torch_fallback

    return [node for node in outside if not onnx2torch_fallback.has(node)]


def run_graph(graph: Graph, feed: Mapping[str, Tensor], interpreter: Interpreter) -> dict[str, Any]:
    """Run a main graph; gives its outputs by name."""
    scope = Scope(interpreter, dict(feed))
    with computed_in(interpreter.precision):
        outputs = [quantized.plain(value) for value in interpreter.run(graph, scope)]
    return dict(zip(graph.outputs, outputs, strict=True))
