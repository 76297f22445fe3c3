"""Rule tables in TOML files.

Belongs here: reading a file into the parameters of ``lrp``. Not here: what keys and rules mean (``graph_rules``), a shell's
``KEY=RULE`` texts (``analyzer.jobs.rule_options``).

A file holds parameters of ``lrp`` and a table of overrides::

    composite = "epsilon-plus"
    gamma = 0.1

    [rules]
    Conv = "gamma:0.5"
    "/layer1/*" = "alpha-beta:2,1"
    "MatMul@depth>0.5" = "epsilon:0.1"

Keys with anything but letters, digits, ``-`` and ``_`` need quotes, as TOML requires.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from typing import Any

from analyzer.errors import InputError, UsageError
from analyzer.methods import registry
from analyzer.nearest import did_you_mean

CODE = "config.rules"
_LIMIT = 2**20


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
            raise UsageError(CODE, f"{path}: key {short(key)} is unknown{did_you_mean(key, known)}", hint)
    rules = values.setdefault("rules", {})
    if not isinstance(rules, dict):
        raise UsageError(CODE, f"{path}: rules is not a table", 'write [rules] and KEY = "RULE" below it')
    for key, rule in rules.items():
        if isinstance(rule, dict):
            raise UsageError(CODE, f"{path}: key {short(key)} is broken up at its dots", "put keys in quotes")
        if not isinstance(rule, str):
            raise UsageError(CODE, f"{path}: the rule for {short(key)} is {short(rule)}", 'as in "epsilon:0.1"')
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


def short(value: object) -> str:
    """A value in quotes, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
