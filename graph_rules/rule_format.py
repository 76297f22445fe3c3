"""The text form of rules, as in ``gamma:0.5`` or ``epsilon:0.01,zero_bias``: which there are, and writing them.

Belongs here: rules with names, their registry, writing a rule as text. Not here: reading one (``rule_parser``), any rule.

A text is the rule's name, a colon, and its parameters joined by commas: first those that every use of the rule names, in
order and without their names, then ``NAME=VALUE`` for the others that differ from their defaults; one that is true is
its name alone. Bounds of channels are their numbers joined by slashes, that of one channel ends with one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from graph_rules.kinds import KINDS
from graph_rules.rule import Absorber, Rule


class NamedRule(Rule):
    """A rule that users can name; ``str`` of it is what :func:`graph_rules.rule_parser.parse_rule` reads back.

    Attributes
    ----------
    name
        What a user calls it.
    leading
        How many of its fields are written without their names.
    per_channel
        Fields that may be one number per channel.
    filled_by
        Field -> the parameter of :class:`CompositeParams` that fills it where a text leaves it open, unless they have the
        same name.
    """

    name: ClassVar[str]
    leading: ClassVar[int] = 0
    per_channel: ClassVar[tuple[str, ...]] = ()
    filled_by: ClassVar[Mapping[str, str]] = {"epsilon": "stabilizer"}

    def __str__(self) -> str:
        return written(self, self.name, self.leading)

    def absorber(self, biased: bool) -> Absorber:
        """As the fields say: a rule with ``zero_bias`` unset gives biases a share, one with ``epsilon`` has a stabiliser."""
        if biased and not getattr(self, "zero_bias", True):
            return Absorber.BIAS
        return Absorber.STABILISER if hasattr(self, "epsilon") else Absorber.OPERATOR


@dataclass(frozen=True)
class Form:
    """What may follow a rule's name.

    Attributes
    ----------
    rule
        The rule's class.
    fixed
        Fields that the name itself stands for.
    flags
        Words besides the fields, each the class that is meant where it is given.
    """

    rule: type[NamedRule]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, type[NamedRule]] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, dataclasses.Field[Any]]:
        """The parameters in order."""
        every = dataclasses.fields(self.rule)  # type: ignore[arg-type]
        return {each.name: each for each in every if each.name not in self.fixed}

    @property
    def leading(self) -> int:
        """How many parameters may be given without their names."""
        return 0 if self.fixed else self.rule.leading

    def usage(self, name: str) -> str:
        """How the rule is written, as ``gamma[:GAMMA,mixing,epsilon=1e-06,zero_bias]``."""
        fields = list(self.fields.values())
        parts = [each.name.upper() for each in fields[: self.leading]] + list(self.flags)
        parts += [x.name if x.default is False else f"{x.name}={number(x.default)}" for x in fields[self.leading :]]
        return f"{name}[:{','.join(parts)}]" if parts else name


#: Name -> form, for every rule that a user can give.
RULES: dict[str, Form] = {}
R = TypeVar("R", bound=NamedRule)


def register_rule(
    name: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    flags: Mapping[str, type[NamedRule]] | None = None,
) -> Callable[[type[R]], type[R]]:
    """Let users name a rule: decorates its class, a frozen dataclass.

    Parameters
    ----------
    name
        The class's own unless given.
    fixed, flags
        As in :class:`Form`.
    """

    def register(rule: type[R]) -> type[R]:
        known = rule.name if name is None else name
        if unknown := rule.kinds - KINDS.keys():
            raise ValueError(f"rule {known!r} is for kinds that there aren't: {', '.join(sorted(unknown))}")
        if known in RULES:
            raise ValueError(f"rule {known!r} is registered twice")
        RULES[known] = Form(rule, fixed or {}, flags or {})
        return rule

    return register


def written(rule: Any, name: str, leading: int = 0, without: tuple[str, ...] = ()) -> str:
    """A rule's text under a name; ``without`` are fields that the name itself stands for."""
    fields = [field for field in dataclasses.fields(rule) if field.name not in without]
    parts = [number(getattr(rule, field.name)) for field in fields[:leading]]
    for each in fields[leading:]:
        value = getattr(rule, each.name)
        if value != each.default:
            parts.append(each.name if value is True else f"{each.name}={number(value)}")
    return f"{name}:{','.join(parts)}" if parts else name


def number(value: Any) -> str:
    """A parameter as the shortest text that reads back as the same value."""
    if isinstance(value, tuple):
        return "/".join(number(each) for each in value) + ("/" if len(value) == 1 else "")
    if isinstance(value, bool):
        return str(value).lower()
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))
