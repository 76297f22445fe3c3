"""Rule tables as users give them: ``KEY=RULE`` texts of a shell and TOML files.

Belongs here: reading both into a method's parameters. Not here: what keys and rules mean (``graph_rules.selectors``,
``graph_rules.rule_parser``), which rule a node gets (``rulelist``).

A file holds parameters of ``lrp`` and a table of overrides::

    composite = "epsilon-plus"
    gamma = 0.1

    [rules]
    Conv = "gamma:0.5"
    "/layer1/*" = "alpha-beta:2,1"
    "MatMul@depth>0.5" = "epsilon:0.1"

Keys with anything but letters, digits, ``-`` and ``_`` stand in quotes, as TOML wants it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from analyzer.errors import InputError, UsageError
from analyzer.methods import registry

CODE = "config.rules"
_LIMIT = 2**20
#: A rule's name can't hold an equals sign, so KEY is what stands before the first one that a rule follows.
_OVERRIDE = re.compile(r"(?P<key>.+?)=\s*(?P<rule>[A-Za-z][\w-]*(:.*)?)", re.DOTALL)


def read_rules(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A file's parameters; ``rules`` is among them, empty where the file has no such table.

    Raises
    ------
    UsageError
        ``data.missing``; ``config.rules`` naming the file and the line, or the key and the near one.
    """
    from analyzer.inputs.files import decode_text, read_bytes

    try:
        values = tomllib.loads(decode_text(read_bytes(path, _LIMIT), path, CODE))
    except InputError as problem:
        raise UsageError(CODE, problem.message, problem.hint) from None
    except (ValueError, RecursionError) as problem:
        raise UsageError(CODE, f"{path} is not TOML: {problem}", 'KEY = "RULE", one a line, below [rules]') from None
    known = registry.get("lrp").parameters
    for key in values:
        if key not in known:
            hint = f"a file holds a table [rules] and {', '.join(name for name in known if name != 'rules')}"
            raise UsageError(CODE, f"{path}: key {_short(key)} is unknown{registry.near(key, known)}", hint)
    rules = values.setdefault("rules", {})
    if not isinstance(rules, dict):
        raise UsageError(CODE, f"{path}: rules is not a table", 'write [rules] and KEY = "RULE" below it')
    for key, rule in rules.items():
        if isinstance(rule, dict):
            raise UsageError(CODE, f"{path}: key {_short(key)} is broken up at its dots", "put keys in quotes")
        if not isinstance(rule, str):
            raise UsageError(CODE, f"{path}: the rule for {_short(key)} is {_short(rule)}", 'as in "epsilon:0.1"')
    return values


def expanded(given: Mapping[str, Any]) -> dict[str, Any]:
    """A method's parameters with a file that ``rules`` names read into them; what is given beside it comes before.

    Raises
    ------
    UsageError
        As :func:`read_rules`.
    """
    rules = given.get("rules")
    if not isinstance(rules, (str, os.PathLike)):
        return dict(given)
    read = read_rules(rules)
    return {**read, **given, "rules": read["rules"]}


def with_rules(
    params: Mapping[str, Mapping[str, Any]], texts: Sequence[str], option: str = "--rule"
) -> dict[str, dict[str, Any]]:
    """Every method's parameters with a shell's ``KEY=RULE`` texts, or one file's name, put into ``rules``.

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
    takers = [method for method in found if "rules" in registry.get(method).parameters]
    if not takers:
        raise UsageError("params.unknown", f"{option}: none of the chosen methods has rules", "lrp has: add -m lrp")
    files, overrides = _sorted_out(texts, option)
    for method in takers:
        before = found[method].get("rules")
        every = [*files, *([before] if isinstance(before, str) else [])]
        if len(every) > 1:
            raise UsageError("params.syntax", f"{option}: two files of rules, {every[0]} and {every[1]}", "give one")
        read = read_rules(every[0]) if every else {"rules": {}}
        table = dict(overrides)
        for more in (before if isinstance(before, Mapping) else {}, read["rules"]):
            table |= {key: rule for key, rule in more.items() if key not in table}
        found[method] = {**read, **found[method], "rules": table}
    return found


def _sorted_out(texts: Sequence[str], option: str) -> tuple[list[str], dict[str, str]]:
    files: list[str] = []
    overrides: dict[str, str] = {}
    for text in texts:
        match = _OVERRIDE.fullmatch(text)
        if match is not None:
            key, rule = match["key"].strip(), match["rule"].strip()
            if key in overrides:
                raise UsageError("params.syntax", f"{option}: two rules for {_short(key)}", "give one")
            overrides[key] = rule
        elif text.endswith(".toml") or "=" not in text:
            files.append(text)
        else:
            raise UsageError(
                "params.syntax", f"{option} {_short(text)} is not KEY=RULE", "as in --rule Conv=gamma:0.5, or a file"
            )
    return files, overrides


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
