"""The method has a rule for every node that the score is computed by."""

from __future__ import annotations

from typing import Any, Literal

from analyzer.engines.protocol import GRADIENT
from analyzer.errors import UnsupportedError
from analyzer.gate.check import Check, Share
from analyzer.gate.context import GateContext
from analyzer.gate.inputs import Batch
from analyzer.gate.outcome import Outcome
from analyzer.methods import registry
from analyzer.methods.relevance.lrp import rules_of
from analyzer.targets.resolve import scored_value

#: How many nodes a message names.
_NAMED = 3


class OpCoverageCheck(Check):
    """Every node is explained by a rule of the method, or by a method that may stand in for it."""

    source = "the method's table of rules, as `onnxplain inspect --rules` lists it"
    kind: Literal["op_coverage"] = "op_coverage"
    min_supported: Share = 1.0
    """Which share of the model's nodes must be explained."""
    allow_fallback: list[str] = []
    """Methods that may stand in where the policy's own has no rule for a node: ``gradient``, or one that only runs the model."""

    def look(self, gate: GateContext) -> None:
        """Refuse methods that aren't there."""
        with gate.setting("allow_fallback"):
            for name in self.allow_fallback:
                registry.get(name)

    def run(self, gate: GateContext) -> Outcome:
        """The share of nodes that any of the methods explains; the others by name."""
        total = sum(node.body is None and node.op_type != "Constant" for node in gate.model.graph.walk())
        batch = next(gate.batches([0]))
        own, params = gate.method
        lacking, reasons = dict[str, str](), dict[str, str]()
        for place, name in enumerate([own, *self.allow_fallback]):
            with gate.setting("allow_fallback"):
                info = registry.get(name)
            found, why = _lacking(gate, batch, info, params if place == 0 else {})
            reasons |= {name: why} if why else {}
            lacking = found if place == 0 else {node: op for node, op in lacking.items() if node in found}
        share = 1 - len(lacking) / total if total else 1.0
        named = ", ".join(f"{op} node {node!r}" for node, op in list(lacking.items())[:_NAMED])
        more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
        message = f"{total - len(lacking)} of {total} nodes are explained by {' or '.join([own, *self.allow_fallback])}"
        if lacking:
            message += f", {self.min_supported:.0%} of them are wanted; not by any: {named}{more}"
        details = {"nodes": total, "share": share, "lacking": lacking, "reasons": reasons}
        return Outcome(status="pass" if share >= self.min_supported else "fail", message=message, details=details)


def _lacking(
    gate: GateContext, batch: Batch, info: registry.MethodInfo, params: dict[str, Any]
) -> tuple[dict[str, str], str]:
    """The nodes that a method can't explain, by name with their operators, and why where that isn't a missing rule."""
    if info.needs == "runtime":
        return {}, ""
    every = {node.name: node.op_type for node in gate.model.graph.walk() if node.op_type != "Constant"}
    try:
        scored = scored_value(gate.model, None, gate.policy.explain.output)
        traced = gate.model.backends.tracer.score(batch.feed, scored.value)
    except UnsupportedError as problem:
        from analyzer.importer.interpreter import missing

        untraced = {node.name: node.op_type for node in missing(gate.model.graph)}
        return untraced or every, problem.message
    found: dict[str, str] = {}
    if info.name == "lrp":
        rules = rules_of(gate.model, traced, info.check(params)).values()
        found = {each.info.name: each.info.operator for each in rules if each.rule is None}
    elif info.family == "gradient":
        from graph_rules.errors import MissingRuleError

        try:
            GRADIENT.build().assign(traced.output, tuple(traced.nodes.values()))
        except MissingRuleError as problem:
            found = {name: operator for name, operator, _ in problem.nodes}
    if found:
        return found, ""
    try:
        gate.explain(batch, method=info.name, params=params)
    except UnsupportedError as problem:
        return every, problem.message
    return {}, ""
