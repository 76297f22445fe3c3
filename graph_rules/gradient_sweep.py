"""The sweep whose rules are all the plain derivative: one autograd graph of the trace.

Belongs here: the joint pass and its reverse sweep. Not here: sweeps with any other rule (``sweep``, which also decides
between the two). A joint pass spares the bookkeeping node by node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx

from graph_rules import vjp
from graph_rules.execution import Values, execute, value_of
from graph_rules.rule import Needs, Plan


def possible(plan: Plan) -> bool:
    """Whether a plan's sweep is a gradient. One that is being recorded needs its calls one by one."""
    return not plan.static and all(rule.needs is Needs.VJP_ONLY for rule in plan.rules.values())


def forward(
    plan: Plan, inputs: Sequence[Tensor], overrides: Mapping[fx.Node, Tensor], wanted: Iterable[fx.Node]
) -> tuple[Values, dict[fx.Node, Any]]:
    """Values of the wanted nodes, detached, and their edges in autograd's graph (None without a derivative)."""

    def compute(node: fx.Node, values: Values) -> Any:
        with torch.set_grad_enabled(node in plan.rules or node.target is getitem):
            return value_of(plan, node, values)

    def enter(value: Tensor) -> Tensor:
        with torch.enable_grad():
            return vjp.start(value)

    found = execute(plan, inputs, overrides, wanted, compute, enter)
    return {node: value.detach() for node, value in found.items()}, {n: vjp.Edge.of(v) for n, v in found.items()}


def backward(
    output: fx.Node,
    edges: Mapping[fx.Node, Any],
    relevance: Tensor,
    wanted: Iterable[fx.Node],
    values: Mapping[fx.Node, Tensor],
    retain_graph: bool,
) -> dict[fx.Node, Tensor]:
    """The vector-Jacobian product at the wanted nodes; zeros where the output doesn't depend on one."""
    reached = [node for node in wanted if edges[node] is not None]
    grads = vjp.vjp(edges[output], [edges[node] for node in reached], relevance, retain_graph)
    found = dict(zip(reached, grads, strict=True))
    return found | {node: torch.zeros_like(values[node]) for node in wanted if node not in found}
