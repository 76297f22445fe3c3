"""A trace's outputs from a pass that ran only as far as the explained scores.

Belongs here: which calls of a trace are still to be run, and running them. Not here: forward passes of a sweep
(``graph_rules.sweep``).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from analyzer.importer.trace import Trace
from graph_rules.kinds import computed_from


def outputs_after(
    trace: Trace, inputs: Mapping[str, Tensor], computed_values: Mapping[fx.Node, Any]
) -> dict[str, Tensor]:
    """The model's outputs by name: values that a pass has computed are taken over, the rest is run."""
    graph = trace.module.graph
    values = dict(computed_values)
    for node, name in zip(graph.find_nodes(op="placeholder"), trace.inputs, strict=True):
        values[node] = inputs[name]
    results = next(node for node in graph.nodes if node.op == "output").args[0]
    missing = _missing([node for node in results if isinstance(node, fx.Node)], values)
    with torch.no_grad():
        for node in graph.nodes:
            if node.op == "get_attr":
                values[node] = getattr(trace.module, str(node.target))
            elif node in missing:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                values[node] = node.target(*args, **kwargs)
        outputs = fx.node.map_arg(results, values.__getitem__)
        return {k: v for k, v in zip(trace.outputs, outputs, strict=True) if isinstance(v, Tensor)}


def frontier(trace: Trace, output: fx.Node) -> list[fx.Node] | None:
    """The values of a pass as far as ``output`` from which the trace's outputs follow without running anything twice.

    None where one of them isn't a single tensor.
    """
    results = next(node for node in trace.module.graph.nodes if node.op == "output").args[0]
    ends = [node for node in results if isinstance(node, fx.Node)]
    ran = _missing([output], ())
    behind = _missing(ends, ran)
    reads = (argument for node in behind for argument in node.all_input_nodes)
    found = list(dict.fromkeys(node for node in (*ends, *reads) if node in ran))
    return found if all("shape" in node.meta for node in found) else None


def computed(output: fx.Node) -> set[fx.Node]:
    """The calls with a single tensor as result that a node depends on, itself included."""
    return {node for node in _missing([output], ()) if "shape" in node.meta}


def _missing(wanted: Sequence[fx.Node], known: Container[fx.Node]) -> set[fx.Node]:
    """The calls that must run for some nodes where the values of others are known."""
    return computed_from(wanted, lambda node: node not in known and node.op == "call_function")
