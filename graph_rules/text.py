"""Rules from their text form: ``epsilon:0.01``, ``gamma:0.5``, ``alpha-beta:2,1``, ``z-box:-1,2``, ``softmax``.

Belongs here: reading. Not here: writing (``naming``), the rules.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graph_rules import attention as a
from graph_rules import rules as r
from graph_rules.naming import Named, number
from graph_rules.settings import Settings
from graph_rules.sweep import Rule


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
        Words besides the fields, each the class that is meant where it is said.
    """

    rule: type[Named]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, type[Named]] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, dataclasses.Field[Any]]:
        """The parameters in order."""
        every = dataclasses.fields(self.rule)  # type: ignore[arg-type]
        return {each.name: each for each in every if each.name not in self.fixed}

    @property
    def leading(self) -> int:
        """How many parameters may be given without their names."""
        return 0 if self.fixed else self.rule.leading

    def said(self, name: str) -> str:
        """How the rule is written, as ``gamma[:GAMMA,mixing,epsilon=1e-06,zero_bias]``."""
        fields = list(self.fields.values())
        parts = [each.name.upper() for each in fields[: self.leading]] + list(self.flags)
        parts += [x.name if x.default is False else f"{x.name}={number(x.default)}" for x in fields[self.leading :]]
        return f"{name}[:{','.join(parts)}]" if parts else name


#: Name -> form, for every rule that a user can give. ``norm`` is the epsilon rule with nothing but a stabiliser.
RULES: dict[str, Form] = {
    "epsilon": Form(r.Epsilon),
    "zplus": Form(r.AlphaBeta, {"alpha": 1.0, "beta": 0.0}),
    "alpha-beta": Form(r.AlphaBeta),
    "gamma": Form(r.Gamma, flags={"mixing": r.Mixing}),
    "mixing": Form(r.Mixing),
    "z-box": Form(r.ZBox),
    "w2": Form(r.WSquare),
    "flat": Form(r.Flat),
    "norm": Form(r.Epsilon, {"epsilon": 1e-6, "zero_bias": False}),
    "pass": Form(r.Pass),
    "gradient": Form(r.Gradient),
    "block": Form(r.Block),
    "shared": Form(r.Shared),
    "signal-takes-all": Form(r.SignalTakesAll),
    "bilinear": Form(a.Bilinear),
    "values-take-all": Form(a.ValuesTakeAll),
    "softmax": Form(a.Softmax),
    "normalisation": Form(a.Normalisation),
    "winner": Form(a.Winner),
    "homogeneous": Form(a.Homogeneous),
    "guided-relu": Form(r.GuidedReLU),
    "deconvnet-relu": Form(r.DeconvNetReLU),
}


def parse_rule(text: str, settings: Settings | None = None) -> Rule:
    """A rule from its text form; what the text leaves open comes from the settings.

    ``parse_rule(str(rule)) == rule`` for every rule.

    Raises
    ------
    ValueError
        In one line: an unknown rule with the near one and how it is written, parameters that don't fit.
    """
    settings = settings or Settings()
    name, colon, rest = text.partition(":")
    form = RULES.get(name)
    if form is None:
        close = nearest(name, RULES)
        meant = f" (did you mean {RULES[close].said(close)}?)" if close else ""
        raise ValueError(f"unknown rule {name!r}{meant}; rules: {', '.join(sorted(RULES))}")
    given = _given(text, name, form, rest) if colon else {}
    made = next((form.flags[flag] for flag in form.flags if given.pop(flag, False)), form.rule)
    if made is r.Gamma and settings.mixing and "mixing" not in text:
        made = r.Mixing
    try:
        rule: Any = made(**{**_left_open(made, settings, given), **form.fixed, **given})
    except ValueError as problem:
        raise ValueError(f"rule {text!r}: {problem}" if colon else str(problem)) from None
    return rule  # type: ignore[no-any-return]


def _left_open(made: type[Named], settings: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a rule's fields stand for; for the z-box only where the text gives no bounds."""
    names = {each.name for each in dataclasses.fields(made)}  # type: ignore[arg-type]
    found = {name: getattr(settings, name) for name in names}
    if "epsilon" in names and made is not r.Epsilon:
        found["epsilon"] = settings.stabilizer
    if made is r.ZBox and not {"low", "high"} & set(given) and (settings.low is None or settings.high is None):
        raise ValueError(
            "the z-box rule needs the lowest and highest value that the input can take: give low and high, "
            "or a preprocessing that implies them"
        )
    return found


def _given(text: str, name: str, form: Form, rest: str) -> dict[str, Any]:
    """What a text says: parameter or flag -> value."""
    fields, found = form.fields, {}
    written = form.said(name)
    unnamed = list(fields)[: form.leading]
    for place, part in enumerate(rest.split(",")):
        key, equals, raw = (each.strip() for each in part.partition("="))
        if not equals and (key in form.flags or (key in fields and fields[key].default is False)):
            value: Any = True
        elif equals and key in fields:
            value = _switch(text, raw) if fields[key].default is False else _number(text, name, raw)
        elif equals or (key.replace("_", "").isalpha() and key.lower() not in ("nan", "inf", "infinity")):
            close = nearest(key, [*fields, *form.flags])
            meant = f" (did you mean {close}?)" if close else ""
            raise ValueError(f"rule {text!r} has no parameter {key!r}{meant}; it is written {written}")
        elif place >= len(unnamed):
            raise ValueError(f"rule {text!r} has the wrong number of parameters; it is written {written}")
        else:
            key, value = unnamed[place], _number(text, name, key)
        if key in found:
            raise ValueError(f"rule {text!r} gives {key} twice")
        found[key] = value
    if "low" in fields and len({"low", "high"} & set(found)) == 1:
        raise ValueError(f"rule {text!r} has the wrong number of parameters; it is written {written}")
    if len({len(found[key]) for key in ("low", "high") if isinstance(found.get(key), tuple)}) > 1:
        raise ValueError(f"rule {text!r}: low and high are for different numbers of channels")
    if isinstance(found.get("epsilon"), tuple) or found.get("epsilon", 0.0) < 0:
        raise ValueError(f"rule {text!r}: epsilon must be at least 0, not {number(found['epsilon'])}")
    return found


def _number(text: str, name: str, raw: str) -> float | tuple[float, ...]:
    several = "/" in raw
    try:
        values = tuple(float(each) for each in raw.removesuffix("/").split("/"))
    except ValueError:
        raise ValueError(f"rule {text!r}: {raw!r} is not a number; it is written {RULES[name].said(name)}") from None
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"rule {text!r}: {raw!r} is not a finite number")
    if several and name != "z-box":
        raise ValueError(f"rule {text!r}: {raw!r} is not one number; only bounds of the z-box have several")
    return values if several else values[0]


def _switch(text: str, raw: str) -> bool:
    if raw.lower() not in ("true", "false"):
        raise ValueError(f"rule {text!r}: {raw!r} is neither true nor false")
    return raw.lower() == "true"


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like another, in any case; empty where none is."""
    folded = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.5)
    return folded[found[0]] if found else ""
