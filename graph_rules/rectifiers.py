"""Rectifiers and other activation functions of a network, as backpropagation with another ReLU sees them.

Belongs here: where a rectifier is cut off above, which activation functions aren't rectifiers. Not here: telling a rectifier
from other nodes (``kinds``), facts about operators (``operators``), the rules (``rules``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from graph_rules.kinds import kind
from graph_rules.operators import OPERATORS, Unit, aten
from graph_rules.rule import Call, Plan

#: Where an operator's upper bound stands among its arguments.
_UPPER: Mapping[Any, int] = {aten.hardtanh.default: 2, aten.clamp.default: 2, aten.clamp.Tensor: 2}


def upper_bound(call: Call) -> Any:
    """The bound above which a rectifier passes nothing more on, a number or a tensor; None where it has none."""
    if call.node.target is aten.relu6.default:
        return 6.0
    position = _UPPER.get(call.node.target)
    return None if position is None else call.kwargs.get("max", call.argument(position))


def other_units(plan: Plan) -> tuple[str, ...]:
    """ONNX operators of the activation functions that aren't rectifiers, in the order of execution."""
    return tuple(dict.fromkeys(_described(node) for node in plan.rules if _is_other_unit(node, plan)))


def _is_other_unit(node: fx.Node, plan: Plan) -> bool:
    row = OPERATORS.get(node.target)
    if row is None or row.unit not in (Unit.OTHER, Unit.CLAMP):
        return False
    above = node.kwargs.get("max", node.args[2] if len(node.args) > 2 else None)
    cut = row.unit is Unit.OTHER or above is not None  # a lower bound alone keeps a value from zero
    return cut and kind(node, plan.active) not in ("relu", "rectifier")


def _described(node: fx.Node) -> str:
    operator = str(node.meta.get("op") or getattr(node.target, "__name__", node.target))
    row = OPERATORS.get(node.target)
    return operator if row is None or row.unit is Unit.OTHER else f"{operator} as hard sigmoid or tangent"
