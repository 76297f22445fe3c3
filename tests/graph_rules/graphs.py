"""Small torch functions as recorded graphs, and one sweep over them. Not here: rules, what they should give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from analyzer.importer.recorder import Recorder
from graph_rules import sweep
from graph_rules.rule import Plan, Rule
from graph_rules.tables import RuleTable

aten = torch.ops.aten


@dataclass
class Recorded:
    """A function written down as a graph, with the inputs that it was recorded on."""

    module: fx.GraphModule
    inputs: tuple[Tensor, ...]

    @property
    def placeholders(self) -> list[fx.Node]:
        """The graph's inputs."""
        return list(self.module.graph.find_nodes(op="placeholder"))

    @property
    def output(self) -> fx.Node:
        """The node of the function's (first) result."""
        results = next(node for node in self.module.graph.nodes if node.op == "output").args[0]
        found: fx.Node = results[0]  # type: ignore[index, assignment]
        return found

    def of(self, target: Any) -> list[fx.Node]:
        """The nodes of one operator, in order."""
        return [node for node in self.module.graph.nodes if node.op == "call_function" and node.target is target]


def record(function: Callable[..., Tensor], *inputs: Tensor) -> Recorded:
    """The function's graph."""
    recorder = Recorder()
    with torch.no_grad(), recorder:
        placed = [recorder.placeholder(f"x{i}", value) for i, value in enumerate(inputs)]
        out = function(*placed)
        results = {"y": out}
    return Recorded(recorder.finish(results), inputs)


def plan_of(graph: Recorded, rules: RuleTable | Rule, sources: Sequence[fx.Node] | None = None) -> Plan:
    """A plan with a table, or with one rule for every node."""
    stops = tuple(graph.placeholders if sources is None else sources)
    if isinstance(rules, Rule):
        return ruled(graph, lambda node: rules, sources=stops)
    return sweep.plan(graph.module, stops, graph.output, rules.assign(graph.output, stops))


def ruled(
    graph: Recorded,
    choose: Callable[[fx.Node], Rule],
    output: fx.Node | None = None,
    sources: Sequence[fx.Node] | None = None,
) -> Plan:
    """A plan with a rule chosen for each node."""
    stops, output = tuple(graph.placeholders if sources is None else sources), output or graph.output
    return sweep.plan(graph.module, stops, output, {n: choose(n) for n in sweep.ruled_nodes(output, stops)})


def swept(
    graph: Recorded,
    rules: RuleTable | Rule,
    relevance: Tensor | None = None,
    sources: Sequence[fx.Node] | None = None,
) -> list[Tensor]:
    """Relevance of every source after one forward pass and one sweep; the output's relevance is 1 unless given."""
    plan = plan_of(graph, rules, sources)
    run = sweep.forward(plan, graph.inputs)
    found = sweep.backward(run, torch.ones_like(run.value) if relevance is None else relevance)
    return [found[node] for node in plan.sources]


def tensor(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
