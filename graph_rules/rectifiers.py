"""Rectifiers and other activation functions of a network, as backpropagation with another ReLU sees them.

Belongs here: where a rectifier is cut off above, which activation functions get the plain derivative. Not here: telling a
rectifier from other nodes (``kinds``), facts about operators (``operators``), the rules (``rules``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from graph_rules.kinds import kind
from graph_rules.operators import OPERATORS, Unit, aten
from graph_rules.rule import Call, Needs, Plan

#: Where an operator's upper bound stands among its arguments.
_UPPER: Mapping[Any, int] = {aten.hardtanh.default: 2, aten.clamp.default: 2, aten.clamp.Tensor: 2}

#: ONNX operators that activation functions are written out with.
_ARITHMETIC = frozenset(("Mul", "Div", "Add", "Sub", "Where", "Max", "Min"))


def upper_bound(call: Call) -> Any:
    """The bound above which a rectifier passes nothing more on, a number or a tensor; None where it has none."""
    if call.node.target is aten.relu6.default:
        return 6.0
    position = _UPPER.get(call.node.target)
    return None if position is None else call.kwargs.get("max", call.argument(position))


def plain_units(plan: Plan) -> tuple[str, ...]:
    """ONNX operators of the activation functions that get the plain derivative, in the order of execution."""
    plain = (node for node, rule in plan.rules.items() if rule.needs is Needs.VJP_ONLY and _is_unit(node))
    return tuple(dict.fromkeys(_described(node, plan) for node in plain))


def _is_unit(node: fx.Node) -> bool:
    """Whether a node is an activation function; a lower bound alone only keeps a value from zero, unless it is zero."""
    row = OPERATORS.get(node.target)
    if row is None or row.unit is not Unit.CLAMP:
        return row is not None and row.unit is not Unit.NONE
    low, above = (node.args[at] if len(node.args) > at else None for at in (1, 2))
    return node.kwargs.get("max", above) is not None or (isinstance(low, (int, float)) and low == 0)


def _described(node: fx.Node, plan: Plan) -> str:
    operator = str(node.meta.get("op") or "")
    if operator in _ARITHMETIC or not operator:  # an activation function that an exporter wrote out
        operator = str(node.target).removeprefix("aten.").partition(".")[0]
    row = OPERATORS.get(node.target)
    clamp = row is not None and row.unit is Unit.CLAMP and kind(node, plan.active) == "activation"
    return f"{operator} as hard sigmoid or tangent" if clamp else operator
