"""Where a sweep provably puts no relevance, whatever the input is.

Belongs here: proofs from the rules above a node and the operators that they are given to. Not here: facts about rules (each
class declares its own) and operators (``operators``), signs of values (``sign_analysis``).

A rule that shares by contribution hands nothing to an input that is zero. So below such layers no relevance sits at the zeros
of a ReLU, and if the ReLU's rule is to pass, none sits at the negative values under it. A recorded sweep, which can't look at
numbers, leaves out by these proofs what a sweep on numbers leaves out by looking.
"""

from __future__ import annotations

from operator import getitem

from torch import fx

from graph_rules.operators import OPERATORS, aten
from graph_rules.rule import Plan, ZeroInputs


def no_relevance_below_zero(node: fx.Node, plan: Plan) -> bool:
    """Whether no relevance can sit where a node's value is negative: only ReLUs read it, and they hand nothing there."""
    readers = [user for user in node.users if user in plan.active]
    return node is not plan.output and all(_relu_hands_nothing_below_zero(user, plan) for user in readers)


def _relu_hands_nothing_below_zero(user: fx.Node, plan: Plan) -> bool:
    rule = plan.rules.get(user)
    if user.target is not aten.relu.default or rule is None:
        return False
    return rule.masks_relu or (rule.zero_inputs is ZeroInputs.AS_OUTPUT and no_relevance_at_zero(user, plan))


def no_relevance_at_zero(node: fx.Node, plan: Plan) -> bool:
    """Whether no relevance can sit where a node's value is zero."""
    if node is plan.output:
        return False
    return all(_hands_nothing_to_zeros(user, plan) for user in node.users if user in plan.active)


def _hands_nothing_to_zeros(user: fx.Node, plan: Plan) -> bool:
    rule, row = plan.rules.get(user), OPERATORS.get(user.target)
    handed = ZeroInputs.ANY if rule is None else rule.zero_inputs
    if handed is ZeroInputs.NOTHING:
        return True
    handed_on = user.target is getitem or (
        row is not None
        and ((handed is ZeroInputs.AS_OUTPUT and row.keeps_zero) or (handed is ZeroInputs.AS_COPIED and row.copies))
    )
    return handed_on and no_relevance_at_zero(user, plan)
