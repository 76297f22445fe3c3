"""Sign analysis: which values of a trace are never negative, proven without running it.

Belongs here: following signs through a trace. Not here: what an operator does to signs (``operators``), rules that use it,
and anything that looks at numbers of one input.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from graph_rules.operators import OPERATORS, Sign
from graph_rules.rule import Plan


def nonnegative(node: Any, plan: Plan) -> bool:
    """Whether a node's values can be proven to be at least zero for every input."""
    if not isinstance(node, fx.Node):
        return isinstance(node, (int, float)) and node >= 0
    known: bool = plan.cached(("nonnegative", node), lambda: _prove(node, plan))
    return known


def _prove(node: fx.Node, plan: Plan) -> bool:
    if node.op == "get_attr":
        return bool((getattr(plan.module, str(node.target)) >= 0).all())
    row = OPERATORS.get(node.target) if node.op == "call_function" else None
    if row is None or row.sign is Sign.ANY:
        return False
    if row.sign is Sign.NONNEGATIVE:
        return True
    if not isinstance(row.sign, Sign):
        return row.sign(node)
    if float(node.kwargs.get("alpha", 1)) < 0:  # type: ignore[arg-type]
        return False
    scalars = () if row.scalar is None else node.args[row.scalar : row.scalar + 1]
    values = [a for a in node.all_input_nodes if _floating(a)]
    return bool(values) and all(nonnegative(value, plan) for value in (*values, *scalars))


def _floating(node: fx.Node) -> bool:
    dtype = node.meta.get("dtype")
    return dtype is None or dtype.is_floating_point
