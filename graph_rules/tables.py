"""Rule tables: which node gets which rule. A table is data; the most specific entry wins.

Belongs here: how a table and its overrides are applied to a trace. Not here: formulas (``rules``), what a key means
(``keys``), what a rule is for (``domains``), the named tables (``composites``).

An override comes before every rule of the composite. A node that no key fits gets none, and neither does one whose kind the
rule isn't for: it keeps the rule that it would have had.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import fx

from graph_rules.domains import domain, needs_weights, suits
from graph_rules.keys import KIND, POSITION, POSITIONS, Key
from graph_rules.kinds import KINDS
from graph_rules.places import Place, places
from graph_rules.sweep import Rule
from graph_rules.text import nearest


class MissingRuleError(LookupError):
    """A table has no rule for a node. ``nodes`` are the ONNX nodes in the way as (name, operator type, kind)."""

    def __init__(self, table: str, nodes: list[tuple[str, str, str]]) -> None:
        self.table, self.nodes = table, nodes
        named = ", ".join(f"{op} node {name!r} ({kind_})" for name, op, kind_ in nodes[:5])
        more = f" and {len(nodes) - 5} more" if len(nodes) > 5 else ""
        super().__init__(f"{table} has no rule for {named}{more}")


@dataclass(frozen=True)
class Given:
    """A node with what a table gives it.

    Attributes
    ----------
    rule
        None where the table has none.
    key
        The key that gave it; None without a rule.
    override
        Whether that is one of the user's.
    """

    place: Place
    rule: Rule | None
    key: str | None
    override: bool


@dataclass(frozen=True, eq=False)
class RuleTable:
    """Key -> rule; see :mod:`graph_rules.keys`."""

    name: str
    rules: Mapping[str, Rule]
    overrides: Mapping[str, Rule] = field(default_factory=dict)

    @functools.cached_property
    def _own(self) -> list[tuple[Key, Rule]]:
        return [(Key.of(text), rule) for text, rule in self.rules.items()]

    @functools.cached_property
    def _users(self) -> list[tuple[Key, Rule]]:
        return [(Key.of(text), rule) for text, rule in self.overrides.items()]

    def assign(self, output: fx.Node, sources: tuple[fx.Node, ...]) -> Callable[[fx.Node, str], Rule]:
        """A chooser for :func:`graph_rules.sweep.plan` on this trace.

        Raises
        ------
        MissingRuleError
            Naming every node without a rule.
        ValueError
            Naming an override that fits no node, and the near name.
        """
        given = self.listing(output, sources)
        lacking = [(g.place.name, g.place.operator, g.place.kind) for g in given.values() if g.rule is None]
        if lacking:
            raise MissingRuleError(self.name, list(dict.fromkeys(lacking)))
        chosen = {node: g.rule for node, g in given.items() if g.rule is not None}
        return lambda node, _: chosen[node]

    def listing(self, output: fx.Node, sources: tuple[fx.Node, ...]) -> dict[fx.Node, Given]:
        """Every node between the explained input and output with its rule, in the order of execution.

        Raises
        ------
        ValueError
            Naming an override that fits no node, and the near name.
        """
        found = places(output, sources)
        given = {node: self._find(place) for node, place in found.items()}
        for key, rule in self._users:
            if not any(_takes(key, rule, place) for place in found.values()):
                _refuse(key, rule, list(found.values()))
        return given

    def _find(self, place: Place) -> Given:
        users = [(key, rule) for key, rule in self._users if _takes(key, rule, place)]
        own = [
            (key, rule)
            for key, rule in self._own
            if key.rank(place) is not None and (key.base in ("*", *POSITIONS) or not needs_weights(rule)
                                                or suits(rule, place.kind))
        ]  # fmt: skip
        for override, fitting in ((True, users), (False, own)):
            if fitting:
                key, rule = max(fitting, key=lambda entry: entry[0].rank(place) or 0)  # the first of equals
                return Given(place, rule, key.text, override)
        return Given(place, None, None, False)


def _takes(key: Key, rule: Rule, place: Place) -> bool:
    """Whether an override can be a node's, if no more specific one takes it."""
    return key.rank(place) is not None and place.kind in _kinds(key, rule, place)


def _kinds(key: Key, rule: Rule, place: Place) -> frozenset[str]:
    """The kinds that a key means with a rule, of those that are found where it fits.

    The name or operator of an ONNX node that became several nodes means those that the rule is made for, and not the
    movements that go with them.
    """
    if key.sort(place) in (None, KIND, POSITION):
        return domain(rule)
    spread = key.wide and key.base != place.name
    beside = frozenset({"movement"} if place.company and key.base != "*" else ())
    return domain(rule, spread or len(place.company) > 1) - beside


def _refuse(key: Key, rule: Rule, found: list[Place]) -> None:
    """Say why an override fits no node. One for a kind that the model doesn't have passes, so that a table can be shared.

    Raises
    ------
    ValueError
    """
    named = [place for place in found if key.sort(place) is not None]
    said = f"the rule for {key.text!r} fits no node between the input and the explained output"
    if not named:
        if key.base in (*KINDS, *POSITIONS) and not needs_weights(rule):
            return
        folded = next((place for place in found if fnmatch.fnmatchcase(place.folded, key.base)), None)
        if folded is not None:
            raise ValueError(f"{said}: {folded.folded!r} was folded into {folded.name!r}, name that")
        known = dict.fromkeys(word for place in found for word in (place.name, place.operator, place.kind))
        close = "" if key.base in KINDS else nearest(key.base, known)
        raise ValueError(said + (f" (did you mean {close}?)" if close else ""))
    suited = [place for place in named if place.kind in _kinds(key, rule, place)]
    if suited:
        depths = sorted({place.depth for place in suited})
        span = f"{depths[0]:.3g}" if len(depths) == 1 else f"{depths[0]:.3g} to {depths[-1]:.3g}"
        raise ValueError(f"{said}: {key.base!r} is at depth {span}")
    named = [place for place in named if place.kind != "movement"] or named
    here = sorted({place.kind for place in named})
    kinds = sorted(frozenset[str]().union(*(_kinds(key, rule, place) for place in named)))
    instead = f", it is for {', '.join(kinds)}" if len(kinds) <= 8 else ""
    insist = "; to insist, give the kind as the key" if any(suits(rule, kind) for kind in here) else ""
    raise ValueError(f"{said}: {rule} isn't for nodes of kind {', '.join(here)}{instead}{insist}")


def describe(table: RuleTable) -> dict[str, str]:
    """The table as text, key -> what :func:`graph_rules.text.parse_rule` reads back, for reports."""
    return {key: str(rule) for key, rule in {**table.rules, **table.overrides}.items()}
