"""The errors of this package that are no faults of it.

Belongs here: what a caller may report as it stands. Not here: raising it. Any other exception that leaves this package is a
fault in it or in how it was called, and must not be blamed on somebody's parameters.
"""

from __future__ import annotations


class RuleError(ValueError):
    """A rule, its parameters or its selector don't fit the model. In one line."""


class MissingRuleError(LookupError):
    """A table has no rule for a node. ``nodes`` are the ONNX nodes in the way as (name, operator type, kind)."""

    def __init__(self, table: str, nodes: list[tuple[str, str, str]]) -> None:
        self.table, self.nodes = table, nodes
        named = ", ".join(f"{op} node {name!r} ({kind_})" for name, op, kind_ in nodes[:5])
        more = f" and {len(nodes) - 5} more" if len(nodes) > 5 else ""
        super().__init__(f"{table} has no rule for {named}{more}")
