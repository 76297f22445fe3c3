"""Selectors, the keys of a rule table: what they say, whether they fit a node, how specific they are.

Belongs here: the language of selectors. Not here: facts about nodes (``node_info``), tables (``tables``).

A selector is, from the most to the least specific:

1. the exact name of an ONNX node, ``/layer1/conv1/Conv``;
2. a glob of such names, ``/layer1/*``;
3. a position, ``first`` or ``last`` layer, ``first-convolution``: a first layer that is a convolution;
4. an ONNX operator type, ``Conv``;
5. a kind of :data:`graph_rules.kinds.KINDS`, ``convolution``;
6. ``*``, any node.

Each may end with a depth range, ``@depth<0.3``, ``@depth>=0.5`` or ``@depth:0.2-0.6`` (both ends included): the node's
:class:`depth <graph_rules.node_info.NodeInfo>` must lie there. A selector with a range is more specific than one of its
category without. Of equally specific selectors the first given wins.
"""

from __future__ import annotations

import fnmatch
import math
import re
from dataclasses import dataclass

from graph_rules.errors import RuleError
from graph_rules.kinds import KINDS
from graph_rules.node_info import NodeInfo

POSITIONS = ("first", "last", "first-convolution")
#: The categories of selectors, by how specific they are.
ANY, KIND, OPERATOR, POSITION, GLOB, NAME = range(6)
_RANGE = re.compile(r"(?P<base>.*)@depth(?P<depths>.*)", re.DOTALL)
_NUMBER = r"(\d+\.?\d*|\.\d+)"
_COMPARED = re.compile(rf"(<=|>=|<|>){_NUMBER}")
_BETWEEN = re.compile(rf":{_NUMBER}-{_NUMBER}")
_HOW = "write NAME@depth<0.3, @depth>=0.5 or @depth:0.2-0.6, with numbers from 0 to 1"


@dataclass(frozen=True)
class Selector:
    """A key of a rule table.

    Attributes
    ----------
    text
        As it was given.
    base
        The part before the depth range.
    low, high
        The depths that fit, ends included; None where the selector names none.
    """

    text: str
    base: str
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, text: str) -> Selector:
        """A selector from its text.

        Raises
        ------
        RuleError
            A depth range that can't be read or holds no depth.
        """
        found = _RANGE.fullmatch(text)
        if found is None:
            return cls(text, text)
        base, depths = found["base"], found["depths"].replace(" ", "")
        if not base:
            raise RuleError(f"{text!r} names no nodes: write '*{text}' for any node in the range")
        if compared := _COMPARED.fullmatch(depths):
            sign, number = compared[1], float(compared[2])
            ends = {
                "<": (0.0, math.nextafter(number, -1)), "<=": (0.0, number),
                ">": (math.nextafter(number, 2), 1.0), ">=": (number, 1.0),
            }[sign]  # fmt: skip
        elif between := _BETWEEN.fullmatch(depths):
            ends = float(between[1]), float(between[2])
        else:
            raise RuleError(f"{text!r}: {'@depth' + depths!r} is no depth range; {_HOW}")
        if not 0 <= ends[0] <= ends[1] <= 1:
            raise RuleError(f"{text!r}: no depth lies in {'@depth' + depths!r}; {_HOW}")
        return cls(text, base.rstrip(), *ends)

    @property
    def wide(self) -> bool:
        """Whether the selector names nodes of many kinds at once: a glob that is no node's name, or ``*``."""
        return bool(set("*?[") & set(self.base))

    def specificity(self, node: NodeInfo) -> int | None:
        """How specific the selector is at a node; None where it doesn't fit."""
        category = self.category(node)
        if category is None or not self.in_range(node):
            return None
        return 2 * category + (self.low is not None)

    def in_range(self, node: NodeInfo) -> bool:
        """Whether the node lies in the selector's depth range."""
        return self.low is None or self.high is None or self.low <= node.depth <= self.high

    def category(self, node: NodeInfo) -> int | None:
        """Which of the six categories the selector is of at a node, depth aside; None where it doesn't fit."""
        if self.base == "*":
            return ANY
        if self.base in KINDS:
            return KIND if node.kind == self.base else None
        if self.base in POSITIONS:
            return POSITION if self.base in node.positions else None
        if self.base == node.name:
            return NAME
        if self.base == node.operator:
            return OPERATOR
        return GLOB if fnmatch.fnmatchcase(node.name, self.base) else None
