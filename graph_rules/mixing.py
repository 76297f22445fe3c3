"""The gamma rule in its mixing form.

Belongs here: that rule. Not here: the gamma rule of Montavon et al. 2019 (``signed``), any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from graph_rules.affine import Affine
from graph_rules.applicability import LAYERS
from graph_rules.errors import RuleError
from graph_rules.rule import Call
from graph_rules.rule_format import NamedRule, register_rule
from graph_rules.sign_analysis import nonnegative
from graph_rules.stabilizer import stabilize


@register_rule()
@dataclass(frozen=True)
class Mixing(NamedRule):
    """LRP-gamma by mixing: negative contributions count ``gamma`` times as much as positive ones, 0 <= gamma <= 1.

    On a non-negative input R_in = a (w+ + gamma w-)^T [R / S(a (w+ + gamma w-) + b+ + gamma b-)]; a negative input's
    positive contributions are those of w-. gamma = 0 is the z+ rule (alpha 1, beta 0), gamma = 1 is the epsilon rule, and in
    a network without biases gradient x input. Every output is treated alike, whatever its sign.

    At positive outputs it is LRP-gamma, w + g w+ (Montavon et al. 2019, eq. 4; :class:`graph_rules.signed.Gamma`), with
    g = 1 / gamma - 1 and gamma times its stabiliser. Passes beside the forward one: two on a provably non-negative input,
    else four.
    """

    gamma: float = 0.25
    epsilon: float = 1e-6
    zero_bias: bool = False
    name: ClassVar[str] = "mixing"
    leading: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = LAYERS

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise RuleError(f"gamma in its mixing form must be from 0 to 1, not {self.gamma:g}")

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of the mixed contributions."""
        linear, gamma = Affine.of(call), self.gamma
        x = linear.x
        up = linear.weights("w+ + gamma w-", _raised, gamma)
        z = 0.0 if self.zero_bias else linear.biases("w+") + gamma * linear.biases("w-")
        if nonnegative(call.node.args[linear.input_position], call.plan):
            s = relevance / stabilize(linear.apply(x, up) + z, self.epsilon)
            return [x * linear.transpose(s, up)]
        down = linear.weights("w- + gamma w+", _lowered, gamma)
        plus, minus = x.clamp(min=0), x.clamp(max=0)
        s = relevance / stabilize(linear.apply(plus, up) + linear.apply(minus, down) + z, self.epsilon)
        return [plus * linear.transpose(s, up) + minus * linear.transpose(s, down)]


def _raised(w: Tensor, gamma: float) -> Tensor:
    return w.clamp(min=0) + gamma * w.clamp(max=0)


def _lowered(w: Tensor, gamma: float) -> Tensor:
    return w.clamp(max=0) + gamma * w.clamp(min=0)
