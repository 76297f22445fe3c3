"""Rule tables as options of a command line: ``KEY=RULE`` texts, or the name of a file.

Belongs here: turning both into a method's parameters. Not here: reading a file (``analyzer.methods.relevance.rule_files``),
what keys and rules mean (``graph_rules``), which rule a node gets (``rule_assignment``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analyzer.errors import UsageError
from analyzer.methods import registry
from analyzer.methods.relevance.rule_files import read_rules, short

#: A rule's name can't hold an equals sign, so KEY ends before the first one that a rule follows.
_OVERRIDE = re.compile(r"(?P<key>.+?)=\s*(?P<rule>[A-Za-z][\w-]*(:.*)?)", re.DOTALL)


def with_rules(
    params: Mapping[str, Mapping[str, Any]], texts: Sequence[str], option: str = "--rule"
) -> dict[str, dict[str, Any]]:
    """Every method's parameters with the rules of ``KEY=RULE`` texts, or of a file, added as ``rules``.

    Parameters
    ----------
    params
        Method -> parameter -> value.

    Raises
    ------
    UsageError
        ``params.syntax``, ``params.unknown`` where no method takes rules, and as :func:`read_rules`.
    """
    found = {method: dict(values) for method, values in params.items()}
    if not texts:
        return found
    with_rules_parameter = [method for method in found if "rules" in registry.get(method).parameters]
    if not with_rules_parameter:
        raise UsageError("params.unknown", f"{option}: none of the chosen methods has rules", "lrp has: add -m lrp")
    files, overrides = _split(texts, option)
    for method in with_rules_parameter:
        given = found[method].get("rules")
        paths = [*files, *([given] if isinstance(given, str) else [])]
        if len(paths) > 1:
            raise UsageError("params.syntax", f"{option}: two files of rules, {paths[0]} and {paths[1]}", "give one")
        read = read_rules(paths[0]) if paths else {"rules": {}}
        table = dict(overrides)
        for more in (given if isinstance(given, Mapping) else {}, read["rules"]):
            table |= {key: rule for key, rule in more.items() if key not in table}
        found[method] = {**read, **found[method], "rules": table}
    return found


def _split(texts: Sequence[str], option: str) -> tuple[list[str], dict[str, str]]:
    files: list[str] = []
    overrides: dict[str, str] = {}
    for text in texts:
        match = _OVERRIDE.fullmatch(text)
        if match is not None:
            key, rule = match["key"].strip(), match["rule"].strip()
            if key in overrides:
                raise UsageError("params.syntax", f"{option}: two rules for {short(key)}", "give one")
            overrides[key] = rule
        elif text.endswith(".toml") or "=" not in text:
            files.append(text)
        else:
            raise UsageError(
                "params.syntax", f"{option} {short(text)} is not KEY=RULE", "as in --rule Conv=gamma:0.5, or a file"
            )
    return files, overrides
