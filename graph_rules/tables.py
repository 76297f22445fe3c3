"""Rule tables: which node gets which rule. A table is data; the most specific entry wins.

Belongs here: how a table and its overrides are applied to a trace. Not here: formulas (``rules``), what a selector means
(``selectors``), the kinds that a rule is for (``applicability``), the named tables (``composites``).

An override comes before every rule of the composite. A node that no selector fits gets no rule from the table. An override
doesn't reach nodes of a kind that its rule isn't for: they keep the rule that they would have had.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import fx

from graph_rules.applicability import kinds_of, needs_weights
from graph_rules.errors import MissingRuleError as MissingRuleError
from graph_rules.errors import RuleError
from graph_rules.kinds import KINDS
from graph_rules.nearest import nearest
from graph_rules.node_info import NodeInfo, node_infos
from graph_rules.rule import Rule
from graph_rules.selectors import KIND, POSITION, POSITIONS, Selector


class RuleTable(Protocol):
    """Anything that gives the nodes of a trace their rules."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def assign(self, output: fx.Node, sources: tuple[fx.Node, ...]) -> Mapping[fx.Node, Rule]:
        """A rule for every node between the sources and the output; raises MissingRuleError or RuleError."""
        ...


@dataclass(frozen=True)
class Assignment:
    """A node with what a table gives it.

    Attributes
    ----------
    rule
        None where the table has none.
    key
        The text of the selector that gave it; None without a rule.
    override
        Whether that is one of the user's.
    """

    info: NodeInfo
    rule: Rule | None
    key: str | None
    override: bool


@dataclass(frozen=True, eq=False)
class SelectorTable:
    """Selector -> rule; see :mod:`graph_rules.selectors`."""

    name: str
    rules: Mapping[str, Rule]
    overrides: Mapping[str, Rule] = field(default_factory=dict)

    @functools.cached_property
    def _own(self) -> list[tuple[Selector, Rule]]:
        return [(Selector.of(text), rule) for text, rule in self.rules.items()]

    @functools.cached_property
    def _users(self) -> list[tuple[Selector, Rule]]:
        return [(Selector.of(text), rule) for text, rule in self.overrides.items()]

    def assign(self, output: fx.Node, sources: tuple[fx.Node, ...]) -> dict[fx.Node, Rule]:
        """A rule for every node between the sources and the output.

        Raises
        ------
        MissingRuleError
            Naming every node without a rule.
        RuleError
            Naming an override that fits no node, and the near name.
        """
        found = self.listing(output, sources)
        lacking = [(a.info.name, a.info.operator, a.info.kind) for a in found.values() if a.rule is None]
        if lacking:
            raise MissingRuleError(self.name, list(dict.fromkeys(lacking)))
        return {node: a.rule for node, a in found.items() if a.rule is not None}

    def listing(self, output: fx.Node, sources: tuple[fx.Node, ...]) -> dict[fx.Node, Assignment]:
        """Every node between the sources and the output with its rule, in the order of execution.

        Raises
        ------
        RuleError
            Naming an override that fits no node, and the near name.
        """
        infos = node_infos(output, sources)
        found = {node: self._find(info) for node, info in infos.items()}
        for selector, rule in self._users:
            if not any(_selects(selector, rule, info) for info in infos.values()):
                _refuse(selector, rule, list(infos.values()))
        return found

    def _find(self, info: NodeInfo) -> Assignment:
        users = [(selector, rule) for selector, rule in self._users if _selects(selector, rule, info)]
        own = [(selector, rule) for selector, rule in self._own if _fits(selector, rule, info)]
        for override, fitting in ((True, users), (False, own)):
            if fitting:
                selector, rule = max(fitting, key=lambda entry: entry[0].specificity(info) or 0)  # the first of equals
                return Assignment(info, rule, selector.text, override)
        return Assignment(info, None, None, False)


def _fits(selector: Selector, rule: Rule, info: NodeInfo) -> bool:
    """Whether an entry of a composite can be a node's. A rule that needs weights never falls on a node without them."""
    if selector.specificity(info) is None:
        return False
    return selector.base in ("*", *POSITIONS) or not needs_weights(rule) or info.kind in kinds_of(rule)


def _selects(selector: Selector, rule: Rule, info: NodeInfo) -> bool:
    """Whether an override can be a node's, unless a more specific one is."""
    return selector.specificity(info) is not None and info.kind in _kinds(selector, rule, info)


def _kinds(selector: Selector, rule: Rule, info: NodeInfo) -> frozenset[str]:
    """The kinds that a selector means with a rule, of those that are found where it fits.

    The name or operator of an ONNX node that became several nodes means those that the rule is made for, and not the
    movements beside them.
    """
    if selector.category(info) in (None, KIND, POSITION):
        return kinds_of(rule)
    wide = selector.wide and selector.base != info.name
    beside = frozenset({"movement"} if info.siblings and selector.base != "*" else ())
    return kinds_of(rule, wide or len(info.siblings) > 1) - beside


def _refuse(selector: Selector, rule: Rule, infos: list[NodeInfo]) -> None:
    """Say why an override fits no node. One for a kind that the model lacks passes, so that a table can be shared.

    Raises
    ------
    RuleError
    """
    named = [info for info in infos if selector.category(info) is not None]
    problem = f"the rule for {selector.text!r} fits no node between the input and the explained output"
    if not named:
        if selector.base in (*KINDS, *POSITIONS) and not needs_weights(rule):
            return
        raise RuleError(problem + _near(selector, infos))
    suited = [info for info in named if info.kind in _kinds(selector, rule, info)]
    if suited:
        depths = sorted({info.depth for info in suited})
        span = f"{depths[0]:.3g}" if len(depths) == 1 else f"{depths[0]:.3g} to {depths[-1]:.3g}"
        raise RuleError(f"{problem}: {selector.base!r} is at depth {span}")
    named = [info for info in named if info.kind != "movement"] or named
    here = sorted({info.kind for info in named})
    kinds = sorted(frozenset[str]().union(*(_kinds(selector, rule, info) for info in named)))
    instead = f", it is for {', '.join(kinds)}" if len(kinds) <= 8 else ""
    insist = "; to insist, give the kind as the key" if any(kind in kinds_of(rule) for kind in here) else ""
    raise RuleError(f"{problem}: {rule} isn't for nodes of kind {', '.join(here)}{instead}{insist}")


def _near(selector: Selector, infos: list[NodeInfo]) -> str:
    """What may have been meant by a selector that names nothing."""
    folded = next((info for info in infos if fnmatch.fnmatchcase(info.folded, selector.base)), None)
    if folded is not None:
        return f": {folded.folded!r} was folded into {folded.name!r}, name that"
    known = dict.fromkeys(word for info in infos for word in (info.name, info.operator, info.kind))
    close = None if selector.base in KINDS else nearest(selector.base, known, 0.5)
    return f" (did you mean {close}?)" if close else ""


def describe(table: SelectorTable) -> dict[str, str]:
    """The table as text, selector -> what :func:`graph_rules.rule_parser.parse_rule` reads back, for reports."""
    return {key: str(rule) for key, rule in {**table.rules, **table.overrides}.items()}
