"""What a rule is called: its text form, as in ``gamma:0.5`` or ``epsilon:0.01,zero_bias``.

Belongs here: writing a rule as text. Not here: reading it back (``text``), any rule.

A text is the rule's name, a colon, and its parameters joined by commas: first those that every use of the rule names, in
order and without their names, then ``NAME=VALUE`` for the others that differ from their defaults; one that is true is
its name alone. Bounds of channels are their numbers joined by slashes, that of one channel ends with one.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar


class Named:
    """A rule with a name of its own; ``str`` of it is what :func:`graph_rules.text.parse_rule` reads back.

    Attributes
    ----------
    name
        What a user calls it.
    leading
        How many of its fields are written without their names.
    """

    name: ClassVar[str]
    leading: ClassVar[int] = 0

    def __str__(self) -> str:
        return written(self, self.name, self.leading)


def written(rule: Any, name: str, leading: int = 0, without: tuple[str, ...] = ()) -> str:
    """A rule's text under a name; ``without`` are fields that the name itself stands for."""
    fields = [field for field in dataclasses.fields(rule) if field.name not in without]
    parts = [number(getattr(rule, field.name)) for field in fields[:leading]]
    for field in fields[leading:]:
        value = getattr(rule, field.name)
        if value != field.default:
            parts.append(field.name if value is True else f"{field.name}={number(value)}")
    return f"{name}:{','.join(parts)}" if parts else name


def number(value: Any) -> str:
    """A parameter as the shortest text that reads back as the same value."""
    if isinstance(value, tuple):
        return "/".join(number(each) for each in value) + ("/" if len(value) == 1 else "")
    if isinstance(value, bool):
        return str(value).lower()
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))
