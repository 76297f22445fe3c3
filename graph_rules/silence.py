"""Where a sweep provably puts no relevance, whatever the input is.

Belongs here: proofs from the rules above a node. Not here: what is known of values (``facts``), rules themselves.

A rule that shares by contribution hands nothing to an input that is zero. So below such layers no relevance sits at the zeros
of a ReLU, and if the ReLU's rule is to pass, none sits at the negative values under it. A recorded sweep, which can't look at
numbers, leaves out by these proofs what a sweep on numbers leaves out by looking.
"""

from __future__ import annotations

from operator import getitem
from typing import Any

from torch import fx

from graph_rules.operators import aten
from graph_rules.sweep import Plan

#: Their output is zero where their input is.
_KEEP_ZERO = {
    aten.relu.default, aten.leaky_relu.default, aten.tanh.default, aten.elu.default, aten.gelu.default,
    aten.silu.default, aten.hardswish.default,
}  # fmt: skip
#: Every element of their output is an element of their input, or a constant.
_COPIES = {
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.permute.default, aten.transpose.int,
    aten.t.default, aten.expand.default, aten.slice.Tensor, aten.select.int, aten.squeeze.dim, aten.squeeze.dims,
    aten.squeeze.default, aten.unsqueeze.default, aten.cat.default, aten.stack.default, aten.split.Tensor,
    aten.split_with_sizes.default, aten.unbind.int, aten.constant_pad_nd.default, aten.flip.default,
    aten.clone.default, aten.alias.default, aten.detach.default, aten.channel_shuffle.default,
    aten.pixel_shuffle.default, aten.upsample_nearest2d.vec, aten.upsample_nearest2d.default,
}  # fmt: skip
_POOLS = {aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default}


def silent_below_zero(node: fx.Node, plan: Plan) -> bool:
    """Whether no relevance can sit where a node's value is negative: only ReLUs read it, and they hand nothing there."""
    from graph_rules.rules import Gradient, GuidedReLU, Pass

    readers = [user for user in node.users if user in plan.active]
    return node is not plan.output and all(
        user.target is aten.relu.default
        and (
            isinstance(plan.rules.get(user), (Gradient, GuidedReLU))
            or (isinstance(plan.rules.get(user), Pass) and silent_at_zero(user, plan))
        )
        for user in readers
    )


def silent_at_zero(node: fx.Node, plan: Plan) -> bool:
    """Whether no relevance can sit where a node's value is zero."""
    if node is plan.output:
        return False
    return all(_hands_nothing_to_zeros(user, plan) for user in node.users if user in plan.active)


def _hands_nothing_to_zeros(user: fx.Node, plan: Plan) -> bool:
    from graph_rules.attention import Winner
    from graph_rules.rules import AlphaBeta, Block, Epsilon, Gamma, Gradient, Pass

    rule: Any = plan.rules.get(user)
    if isinstance(rule, (Epsilon, AlphaBeta, Gamma, Block)):
        return True
    kept = (
        user.target is getitem
        or (isinstance(rule, Pass) and user.target in _KEEP_ZERO)
        or (isinstance(rule, Gradient) and user.target in _COPIES)
        or (isinstance(rule, (Gradient, Winner)) and user.target in _POOLS)
    )
    return kept and silent_at_zero(user, plan)
