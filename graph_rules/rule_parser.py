"""Rules from their text form: ``epsilon:0.01``, ``gamma:0.5``, ``alpha-beta:2,1``, ``z-box:-1,2``, ``softmax``.

Belongs here: reading. Not here: which forms there are and writing them (``rule_format``), the rules.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from graph_rules import attention, rules  # noqa: F401 - they register their rules
from graph_rules.composite_params import CompositeParams
from graph_rules.errors import RuleError
from graph_rules.nearest import nearest
from graph_rules.rule_format import RULES as RULES
from graph_rules.rule_format import Form, NamedRule, number


def parse_rule(text: str, params: CompositeParams | None = None) -> NamedRule:
    """A rule from its text form; what the text leaves open comes from the composite's parameters.

    ``parse_rule(str(rule)) == rule`` for every rule.

    Raises
    ------
    RuleError
        An unknown rule with the near one and how it is written, parameters that don't fit.
    """
    params = params or CompositeParams()
    name, colon, rest = text.partition(":")
    form = RULES.get(name)
    if form is None:
        close = nearest(name, RULES, 0.5)
        meant = f" (did you mean {RULES[close].usage(close)}?)" if close else ""
        raise RuleError(f"unknown rule {name!r}{meant}; rules: {', '.join(sorted(RULES))}")
    given = _given(text, name, form, rest) if colon else {}
    cls = form.rule
    for flag, instead in form.flags.items():
        if given.pop(flag, getattr(params, flag, False) and flag not in text):
            cls = instead
    try:
        rule: NamedRule = cls(**{**_left_open(cls, params), **form.fixed, **given})
    except RuleError as problem:
        raise RuleError(f"rule {text!r}: {problem}" if colon else str(problem)) from None
    return rule


def _left_open(rule: type[NamedRule], params: CompositeParams) -> dict[str, Any]:
    """The composite's parameters that a rule's fields stand for."""
    names = [each.name for each in dataclasses.fields(rule)]  # type: ignore[arg-type]
    sources = {name: rule.filled_by.get(name, name) for name in names}
    return {name: getattr(params, source) for name, source in sources.items() if hasattr(params, source)}


def _given(text: str, name: str, form: Form, rest: str) -> dict[str, Any]:
    """What a text says: parameter or flag -> value."""
    fields, found = form.fields, dict[str, Any]()
    for position, part in enumerate(rest.split(",")):
        key, value = _argument(text, name, form, position, part)
        if key in found:
            raise RuleError(f"rule {text!r} gives {key} twice")
        found[key] = value
    paired = form.rule.per_channel
    if len(set(paired) & set(fields) & set(found)) not in (0, len(paired)):
        raise RuleError(f"rule {text!r} has the wrong number of parameters; it is written {form.usage(name)}")
    if len({len(found[key]) for key in paired if isinstance(found.get(key), tuple)}) > 1:
        raise RuleError(f"rule {text!r}: {' and '.join(paired)} are for different numbers of channels")
    if isinstance(found.get("epsilon"), tuple) or found.get("epsilon", 0.0) < 0:
        raise RuleError(f"rule {text!r}: epsilon must be at least 0, not {number(found['epsilon'])}")
    return found


def _argument(text: str, name: str, form: Form, position: int, part: str) -> tuple[str, Any]:
    """Parameter or flag, and value, of one part of a text."""
    fields, unnamed = form.fields, list(form.fields)[: form.leading]
    key, equals, raw = (each.strip() for each in part.partition("="))
    if not equals and (key in form.flags or (key in fields and fields[key].default is False)):
        return key, True
    if equals and key in fields:
        return key, _switch(text, raw) if fields[key].default is False else _number(text, name, raw)
    if equals or (key.replace("_", "").isalpha() and key.lower() not in ("nan", "inf", "infinity")):
        close = nearest(key, [*fields, *form.flags], 0.5)
        meant = f" (did you mean {close}?)" if close else ""
        raise RuleError(f"rule {text!r} has no parameter {key!r}{meant}; it is written {form.usage(name)}")
    if position >= len(unnamed):
        raise RuleError(f"rule {text!r} has the wrong number of parameters; it is written {form.usage(name)}")
    return unnamed[position], _number(text, name, key)


def _number(text: str, name: str, raw: str) -> float | tuple[float, ...]:
    several = "/" in raw
    try:
        values = tuple(float(each) for each in raw.removesuffix("/").split("/"))
    except ValueError:
        raise RuleError(f"rule {text!r}: {raw!r} is not a number; it is written {RULES[name].usage(name)}") from None
    if not all(math.isfinite(value) for value in values):
        raise RuleError(f"rule {text!r}: {raw!r} is not a finite number")
    if several and not RULES[name].rule.per_channel:
        raise RuleError(f"rule {text!r}: {raw!r} is not one number; only bounds of the z-box have several")
    return values if several else values[0]


def _switch(text: str, raw: str) -> bool:
    if raw.lower() not in ("true", "false"):
        raise RuleError(f"rule {text!r}: {raw!r} is neither true nor false")
    return raw.lower() == "true"
