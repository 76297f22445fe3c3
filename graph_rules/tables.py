"""Rule tables: which node gets which rule. A table is data; the most specific entry wins.

Belongs here: how a table and its overrides are applied to a trace. Not here: formulas (``rules``), what a kind is
(``kinds``), the named tables (``composites``).

A key of a table is, from most to least specific: the glob of an ONNX node name (``/layer1/*``), an ONNX operator type
(``Conv``), a position (``first`` or ``last`` weighted layer), or a kind of :data:`graph_rules.kinds.KINDS`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from graph_rules import rules as r
from graph_rules.kinds import KINDS, kind
from graph_rules.sweep import Rule, active_nodes


class MissingRuleError(LookupError):
    """A table has no rule for a node. ``nodes`` are the ONNX nodes in the way as (name, operator type, kind)."""

    def __init__(self, table: str, nodes: list[tuple[str, str, str]]) -> None:
        self.table, self.nodes = table, nodes
        named = ", ".join(f"{op} node {name!r} ({kind_})" for name, op, kind_ in nodes[:5])
        more = f" and {len(nodes) - 5} more" if len(nodes) > 5 else ""
        super().__init__(f"{table} has no rule for {named}{more}")


@dataclass(frozen=True, eq=False)
class RuleTable:
    """Kind, position, operator type or node-name glob -> rule."""

    name: str
    rules: Mapping[str, Rule]
    overrides: Mapping[str, Rule] = field(default_factory=dict)

    def assign(self, output: fx.Node, sources: tuple[fx.Node, ...]) -> Callable[[fx.Node, str], Rule]:
        """A chooser for :func:`graph_rules.sweep.plan` on this trace.

        Raises
        ------
        MissingRuleError
            Naming every node without a rule.
        """
        active = active_nodes(sources, output)
        positions = _positions(output, sources, active)
        chosen: dict[fx.Node, Rule] = {}
        fitted: set[str] = set()
        lacking: list[tuple[str, str, str]] = []
        for node in output.graph.nodes:
            if node in active and node not in sources and node.op == "call_function":
                what = kind(node, active)
                rule = self._find(node, what, positions.get(node, ()))
                fitted.update(self._fitting(node, what, positions.get(node, ())))
                if rule is None:
                    label = node.meta.get("onnx", node.name), node.meta.get("op", str(node.target)), what
                    if label not in lacking:
                        lacking.append(label)
                else:
                    chosen[node] = rule
        if lacking:
            raise MissingRuleError(self.name, lacking)
        for key, rule in self.overrides.items():
            if key not in fitted and (_needs_weights(rule) or not (key in KINDS or key in ("first", "last"))):
                raise ValueError(f"the rule for {key!r} fits no node between the input and the explained output")
        return lambda node, _: chosen[node]

    def _fitting(self, node: fx.Node, what: str, positions: tuple[str, ...]) -> list[str]:
        """Overrides that could be this node's, whether or not a more specific one takes it."""
        name, op = node.meta.get("onnx", ""), node.meta.get("op", "")
        weighted = what in ("convolution", "linear")
        return [
            key
            for key, rule in self.overrides.items()
            if (weighted or not _needs_weights(rule))
            and (key in (op, what, name, *positions) or (key not in KINDS and fnmatch.fnmatchcase(name, key)))
        ]

    def _find(self, node: fx.Node, what: str, positions: tuple[str, ...]) -> Rule | None:
        name, op = node.meta.get("onnx", ""), node.meta.get("op", "")
        weighted = what in ("convolution", "linear")
        for key, rule in self.overrides.items():
            if (
                key not in KINDS
                and key not in ("first", "last")
                and ((name == key or fnmatch.fnmatchcase(name, key)) and (weighted or not _needs_weights(rule)))
            ):
                return rule
        if op in self.overrides and (weighted or not _needs_weights(self.overrides[op])):
            return self.overrides[op]
        for source in (self.overrides, self.rules):
            for position in positions:
                if position in source:
                    return source[position]
            if what in source and (weighted or not _needs_weights(source[what])):
                return source[what]
        return self.rules.get("*")


def _needs_weights(rule: Rule) -> bool:
    return isinstance(rule, (r.AlphaBeta, r.Gamma, r.WSquare, r.Flat, r.ZBox))


def _positions(
    output: fx.Node, sources: tuple[fx.Node, ...], active: Container[fx.Node]
) -> dict[fx.Node, tuple[str, ...]]:
    """Weighted layers that are first (no other one between them and the input) or last."""
    weighted = [
        node
        for node in output.graph.nodes
        if node in active and node not in sources and kind(node, active) in ("convolution", "linear")
    ]
    below: set[fx.Node] = set()
    first: set[fx.Node] = set()
    for node in output.graph.nodes:
        if any(a in below for a in node.all_input_nodes):
            below.add(node)
        elif node in weighted:
            first.add(node)
            below.add(node)
    return {
        node: tuple(name for name, here in (("first", node in first), ("last", node is weighted[-1])) if here)
        for node in weighted
    }


def describe(table: RuleTable) -> dict[str, Any]:
    """The table as text, for reports."""
    return {key: str(rule) for key, rule in {**table.rules, **table.overrides}.items()}
