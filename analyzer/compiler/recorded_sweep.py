"""A sweep while it is recorded: the torch engine's forward and reverse pass in tensors, the model's outputs beside it.

Belongs here: one sweep. Not here: what a method makes of it (``recipes``, ``sweeps``).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from analyzer.engines.torch_engine import Engine
from graph_rules import deeplift, sweep
from graph_rules.tables import RuleTable

Weigh = Callable[[Tensor], Tensor]


@dataclass
class SweepBench:
    """One recording in progress.

    Attributes
    ----------
    inputs
        The trace's inputs by name, as they are recorded.
    weigh
        Gives the target's weights on the scores.
    outputs
        The model's own outputs, filled in by the first sweep.
    overrides
        Values in place of what nodes compute.
    scores
        The scores, filled in by every sweep.
    """

    engine: Engine
    inputs: dict[str, Tensor]
    weigh: Weigh
    outputs: dict[str, Tensor] | None = None
    overrides: dict[fx.Node, Tensor] = field(default_factory=dict)
    scores: Tensor | None = None

    def sweep(
        self, table: RuleTable, initial: str = "one", at: Sequence[tuple[str, fx.Node]] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Relevance and values by source or layer, and the weights; as :meth:`Engine.sweep`, in tensors."""
        engine = self.engine
        stops = list(at) if at is not None else [(s.name, s.node) for s in engine.sources]
        plan = replace(engine._plan(table, tuple(node for _, node in stops)), static=True)
        keep = _computed(plan.output) if self.outputs is None else set()
        feed = [self.inputs[name] for name in engine.trace.inputs]
        run = sweep.forward(plan, feed, self.overrides, keep=keep)
        if self.outputs is None:
            self.outputs = self._finished(run.values)
        self.scores = run.value
        weights = self.weigh(run.value)
        found = sweep.backward(run, weights * run.value if initial == "logit" else weights)
        return (
            {label: found[node] for label, node in stops},
            {label: run.sources[node] for label, node in stops},
            weights,
        )

    def difference(
        self, table: RuleTable, starts: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor, dict[str, list[tuple[Tensor, Tensor]]]]:
        """As :meth:`Engine.difference`: multipliers and values by source, the scores at ``starts``, what selects."""
        engine = self.engine
        nodes = {source.name: source.node for source in engine.sources}
        plan = replace(engine._plan(table, tuple(nodes.values())), static=True)
        feed = [self.inputs[name] for name in engine.trace.inputs]
        first = sweep.forward(plan, feed, self.overrides, keep=_computed(plan.output))
        self.outputs, self.scores = self._finished(first.values), first.value
        second = sweep.forward(plan, feed, {nodes[name]: value for name, value in starts.items()})
        run = sweep.compare(first, second)
        selections = deeplift.selections(run)
        found = sweep.backward(run, self.weigh(run.value))
        relevance = {name: found[node] for name, node in nodes.items()}
        return relevance, {name: run.sources[node] for name, node in nodes.items()}, second.value, selections

    def _finished(self, kept: Mapping[fx.Node, Any]) -> dict[str, Tensor]:
        """The model's outputs: what the sweep's forward pass left is taken, the rest is run."""
        trace = self.engine.trace
        values = dict(kept)
        for node, name in zip(trace.module.graph.find_nodes(op="placeholder"), trace.inputs, strict=True):
            values[node] = self.inputs[name]
        given = next(node for node in trace.module.graph.nodes if node.op == "output").args[0]
        missing = _lacking([node for node in given if isinstance(node, fx.Node)], values)
        with torch.no_grad():
            for node in trace.module.graph.nodes:
                if node.op == "get_attr":
                    values[node] = getattr(trace.module, str(node.target))
                elif node in missing:
                    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                    values[node] = node.target(*args, **kwargs)
            return dict(zip(trace.outputs, fx.node.map_arg(given, values.__getitem__), strict=True))


def _computed(output: fx.Node) -> set[fx.Node]:
    """Calls with one tensor as result that a node depends on, itself included."""
    return {node for node in _lacking([output], ()) if "shape" in node.meta}


def _lacking(wanted: Sequence[fx.Node], known: Container[fx.Node]) -> set[fx.Node]:
    """Calls that must run for some nodes where others are known."""
    found: set[fx.Node] = set()
    stack = list(wanted)
    while stack:
        node = stack.pop()
        if node not in found and node not in known and node.op == "call_function":
            found.add(node)
            stack.extend(node.all_input_nodes)
    return found
