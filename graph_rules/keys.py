"""Keys of a rule table: what they say, whether they fit a node, how specific they are.

Belongs here: the language of keys. Not here: facts about nodes (``places``), tables (``tables``).

A key is, from the most to the least specific:

1. the exact name of an ONNX node, ``/layer1/conv1/Conv``;
2. a glob of such names, ``/layer1/*``;
3. a position, ``first`` or ``last`` layer;
4. an ONNX operator type, ``Conv``;
5. a kind of :data:`graph_rules.kinds.KINDS`, ``convolution``;
6. ``*``, any node.

Each may end with a depth range, ``@depth<0.3``, ``@depth>=0.5`` or ``@depth:0.2-0.6`` (both ends included): the node must
lie there (:class:`graph_rules.places.Place`). A key with a range is more specific than one of its sort without. Of equally
specific keys the first given wins.
"""

from __future__ import annotations

import fnmatch
import math
import re
from dataclasses import dataclass

from graph_rules.kinds import KINDS
from graph_rules.places import Place

POSITIONS = ("first", "last")
#: The sorts of key, by how specific they are.
ANY, KIND, OPERATOR, POSITION, GLOB, NAME = range(6)
_RANGE = re.compile(r"(?P<base>.*)@depth(?P<said>.*)", re.DOTALL)
_NUMBER = r"(\d+\.?\d*|\.\d+)"
_COMPARED = re.compile(rf"(<=|>=|<|>){_NUMBER}")
_BETWEEN = re.compile(rf":{_NUMBER}-{_NUMBER}")
_HOW = "write NAME@depth<0.3, @depth>=0.5 or @depth:0.2-0.6, with numbers from 0 to 1"


@dataclass(frozen=True)
class Key:
    """A key of a rule table.

    Attributes
    ----------
    text
        As it was given.
    base
        The part before the depth range.
    low, high
        The depths that fit, ends included; None where the key names none.
    """

    text: str
    base: str
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, text: str) -> Key:
        """A key from its text.

        Raises
        ------
        ValueError
            In one line: a depth range that can't be read or holds no depth.
        """
        found = _RANGE.fullmatch(text)
        if found is None:
            return cls(text, text)
        base, said = found["base"], found["said"].replace(" ", "")
        if not base:
            raise ValueError(f"{text!r} names no nodes: write '*{text}' for any node in the range")
        if compared := _COMPARED.fullmatch(said):
            sign, number = compared[1], float(compared[2])
            ends = {
                "<": (0.0, math.nextafter(number, -1)), "<=": (0.0, number),
                ">": (math.nextafter(number, 2), 1.0), ">=": (number, 1.0),
            }[sign]  # fmt: skip
        elif between := _BETWEEN.fullmatch(said):
            ends = float(between[1]), float(between[2])
        else:
            raise ValueError(f"{text!r}: {'@depth' + said!r} is no depth range; {_HOW}")
        if not 0 <= ends[0] <= ends[1] <= 1:
            raise ValueError(f"{text!r}: no depth lies in {'@depth' + said!r}; {_HOW}")
        return cls(text, base.rstrip(), *ends)

    @property
    def wide(self) -> bool:
        """Whether the key names nodes of many kinds at once: a glob that is no node's name, or ``*``."""
        return bool(set("*?[") & set(self.base))

    def rank(self, place: Place) -> int | None:
        """How specific the key is at a node, more where it says more; None where it doesn't fit."""
        sort = self.sort(place)
        if sort is None or not self.reaches(place):
            return None
        return 2 * sort + (self.low is not None)

    def reaches(self, place: Place) -> bool:
        """Whether the node lies in the key's depth range."""
        return self.low is None or self.high is None or self.low <= place.depth <= self.high

    def sort(self, place: Place) -> int | None:
        """Which of the six sorts the key is of at a node, depth aside; None where it doesn't fit."""
        if self.base == "*":
            return ANY
        if self.base in KINDS:
            return KIND if place.kind == self.base else None
        if self.base in POSITIONS:
            return POSITION if self.base in place.positions else None
        if self.base == place.name:
            return NAME
        if self.base == place.operator:
            return OPERATOR
        return GLOB if fnmatch.fnmatchcase(place.name, self.base) else None
