"""Which kinds of node a rule may be given to.

Belongs here: reading what a rule declares, and the sets of kinds that declarations are made of. Not here: the declarations
(each rule's class), selectors (``selectors``), what the composites do (``composites``, which are free to do otherwise).

A rule that would double relevance or that has no meaning at a node never gets there: the epsilon rule is for operators that
are linear in their computed inputs together; to a product of two computed matrices it would hand out relevance twice.
"""

from __future__ import annotations

from graph_rules.kinds import KINDS
from graph_rules.rule import Rule

ALL_KINDS = frozenset(KINDS)
LAYERS = frozenset({"convolution", "linear"})
PRODUCTS = frozenset({"matmul", "attention", "product", "gate", "self-gate", "quotient"})
SUMS = frozenset({"add", "layer-sum", "average", "norm", "reduced-product", "maximum"})


def kinds_of(rule: Rule, wide: bool = False) -> frozenset[str]:
    """The kinds that a rule may be given to; ``wide`` by a selector of many kinds at once."""
    return rule.wide_kinds if wide and rule.wide_kinds is not None else rule.kinds


def needs_weights(rule: Rule) -> bool:
    """Whether a rule is only for convolutions and linear layers."""
    return rule.kinds == LAYERS
