"""Running the nodes of a trace: in order up to the explained output, or only what lies between two values.

Belongs here: feeding values from node to node and freeing them. Not here: what is recorded for a reverse sweep (``sweep``,
``gradient_sweep``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from graph_rules import position
from graph_rules.kinds import computed_from
from graph_rules.rule import Plan

Values = dict[fx.Node, Any]


def execute(
    plan: Plan,
    inputs: Sequence[Tensor],
    overrides: Mapping[fx.Node, Tensor],
    wanted: Iterable[fx.Node],
    compute: Callable[[fx.Node, Values], Any],
    enter: Callable[[Any], Any] | None = None,
) -> Values:
    """Run the trace up to the explained output; every value is freed after the last node that reads it.

    Parameters
    ----------
    inputs
        One tensor per placeholder, in order.
    overrides
        Values to put in place of what nodes compute.
    compute
        Runs one call, given the values of the nodes before it.
    enter
        Applied to the values of the plan's sources.

    Returns
    -------
    dict
        The wanted nodes that ran, with their values.
    """
    values: Values = {}
    found: Values = {}
    feed, last, wanted = iter(inputs), last_reads(plan), set(wanted)
    for node in plan.module.graph.nodes:
        if node.op == "output":
            break
        if node.op == "placeholder":
            values[node] = next(feed)
        elif node.op == "get_attr":
            values[node] = getattr(plan.module, str(node.target))
        elif node in last:
            position.enter(node)
            values[node] = compute(node, values)
        if node in overrides:
            values[node] = overrides[node].to(values[node].dtype)
        if enter is not None and node in plan.sources:
            values[node] = enter(values[node])
        if node in wanted:
            found[node] = values[node]
        for name in last.get(node, ()):
            values.pop(name, None)
        if node is plan.output:
            break
    position.enter(None)
    return found


def evaluate(plan: Plan, overrides: Mapping[fx.Node, Tensor], wanted: fx.Node) -> Tensor:
    """The value of one node where others are given; only what lies between is run, other inputs are zeros."""
    values: Values = dict(overrides)
    stack = [wanted]
    with torch.no_grad():
        while stack:
            node = stack[-1]
            if node not in values:
                todo = [a for a in node.all_input_nodes if a not in values]
                if todo:
                    stack.extend(todo)
                    continue
                values[node] = value_of(plan, node, values, next(iter(overrides.values())).device)
            stack.pop()
    result: Tensor = values[wanted]
    return result


def value_of(plan: Plan, node: fx.Node, values: Mapping[fx.Node, Any], device: torch.device | None = None) -> Any:
    """A node's value from those of the nodes that it reads; zeros for a placeholder."""
    if node.op == "get_attr":
        return getattr(plan.module, str(node.target))
    if node.op == "placeholder":
        return torch.zeros(node.meta["shape"], dtype=node.meta["dtype"], device=device)
    args, kwargs = map_arg(node.args, values.__getitem__), map_arg(node.kwargs, values.__getitem__)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def last_reads(plan: Plan) -> dict[fx.Node, list[fx.Node]]:
    """Node that must run -> nodes that no other reads after it. Nodes that the output doesn't need are absent."""

    def compute() -> dict[fx.Node, list[fx.Node]]:
        needed = computed_from([plan.output])
        seen: set[fx.Node] = {plan.output}
        reads: dict[fx.Node, list[fx.Node]] = {}
        for node in reversed(plan.module.graph.nodes):
            if node in needed:
                fresh = [a for a in node.all_input_nodes if a not in seen and a.op == "call_function"]
                seen.update(fresh)
                reads[node] = fresh
        return reads

    found: dict[fx.Node, list[fx.Node]] = plan.cached(("last reads", plan.output), compute)
    return found
