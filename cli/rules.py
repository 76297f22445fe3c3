"""Options that give rules to nodes, and the listing of ``onnxplain inspect --rules``.

Belongs here: what the commands share about rules. Not here: reading them (``analyzer.jobs.rule_options``), assigning them
(``analyzer.jobs.rule_assignment``).
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.output import Options, document, line, table, warn

if TYPE_CHECKING:
    from analyzer.jobs.rule_assignment import RuleRow

F = TypeVar("F", bound=Callable[..., Any])
_HELP = "For lrp, as in Conv=gamma:0.5; or a TOML file."


def rule_options(function: F, hidden: bool = False) -> F:
    """Add ``--rule KEY=RULE`` and, for a file, ``--rules FILE``; the command gets them together as ``rule``."""
    import functools

    @click.option("--rule", "rule", multiple=True, metavar="KEY=RULE", hidden=hidden, help=_HELP)
    @click.option("--rules", "rules_files", multiple=True, metavar="FILE", hidden=True)
    @functools.wraps(function)
    def wrapper(*args: Any, rule: tuple[str, ...], rules_files: tuple[str, ...], **kwargs: Any) -> Any:
        return function(*args, rule=(*rules_files, *rule), **kwargs)

    return wrapper  # type: ignore[return-value]


def show_rules(model: str, params: Sequence[str], rule: Sequence[str], inputs: Sequence[str], options: Options) -> None:
    """Print which rule each node of a model gets."""
    import analyzer
    from analyzer.data.reading import read_one
    from analyzer.jobs.arguments import parse_params
    from analyzer.jobs.rule_assignment import unused
    from analyzer.jobs.rule_options import with_rules
    from analyzer.methods import registry

    given = registry.get("lrp").check(with_rules(parse_params(params, ["lrp"]), rule)["lrp"])
    loaded = analyzer.load(model, options.device, threads=options.threads, tf32=options.tf32)
    rows = analyzer.rules(loaded, read_one(loaded, inputs) if inputs else None, **given)
    unused_keys = unused(rows, given["rules"] or {})
    if options.json:
        document({"model": model, "params": given, "unused": unused_keys, "rules": [row.to_dict() for row in rows]})
        return
    _print(rows, options)
    for key in unused_keys:
        warn(
            options,
            f"the rule for {key!r} is used nowhere: more specific keys come before it, or nothing is of its kind",
        )


def _print(rows: Sequence[RuleRow], options: Options) -> None:
    """The rows where the rule matters; with -v also those that only move values. Then how often each rule is used."""
    from analyzer.jobs.rule_assignment import REMEDY

    only_movement = [row for row in rows if row.kind == "movement" and not row.override and row.rule is not None]
    listed = rows if options.verbose else [row for row in rows if row not in only_movement]
    columns = ("node", "operator", "kind", "depth", "rule", "given by")
    table(options, columns, [_cells(row) for row in listed])
    counts = collections.Counter(row.rule or "none" for row in rows)
    used = ", ".join(f"{rule} {count}" for rule, count in counts.most_common())
    line(options, f"{len(rows)} nodes: {used}")
    if len(listed) < len(rows):
        line(options, f"not shown: {len(rows) - len(listed)} that only move values; -v shows them", "dim")
    without_rule = [row for row in rows if row.rule is None]
    if without_rule:
        warn(options, f"{len(without_rule)} nodes have no rule: lrp would refuse the model; "
             f"{REMEDY.format(without_rule[0].operator)}")  # fmt: skip


def _cells(row: RuleRow) -> tuple[str, ...]:
    depth = f"{row.depth:.2f}" if row.depth == row.deepest else f"{row.depth:.2f}-{row.deepest:.2f}"
    rule = row.rule or f"none: --rule '{row.node}=epsilon'"
    return row.node, row.operator, row.kind, depth, rule, (row.key or "") if row.override else ""
