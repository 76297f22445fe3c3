"""Rules that treat positive and negative contributions apart, in as few passes as that takes.

Belongs here: alpha-beta and gamma, and the algebra that spares passes. Not here: any other rule.

The algebra. A linear node gives n = W a (bias aside) in the model's own forward pass. With q = |W| |a|, its positive and
negative contributions are

    P = W+ a+ + W- a- = (n + q) / 2        N = W- a+ + W+ a- = (n - q) / 2

so one more pass gives both; on an input that is provably non-negative P = W+ a and N = n - P. They are cut at zero, where
rounding would give them the wrong sign. Gamma's shares need no parts of the input either: with s_p and s_n what arrives at
positive and at negative outputs,

    R_in = (1 + gamma / 2) a W^T (s_p + s_n) + (gamma / 2) |a| |W|^T (s_p - s_n)

and on a non-negative input R_in = a ((W + gamma W+)^T s_p + (W + gamma W-)^T s_n), half of which is left out where no
relevance can sit at negative outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from graph_rules.affine import Affine
from graph_rules.applicability import LAYERS
from graph_rules.errors import RuleError
from graph_rules.mixing import Mixing
from graph_rules.operators import aten
from graph_rules.rule import Call, ZeroInputs
from graph_rules.rule_format import NamedRule, register_rule, written
from graph_rules.sign_analysis import nonnegative
from graph_rules.stabilizer import stabilize
from graph_rules.zero_relevance import no_relevance_below_zero


@register_rule()
@register_rule("zplus", fixed={"alpha": 1.0, "beta": 0.0})
@dataclass(frozen=True)
class AlphaBeta(NamedRule):
    """LRP-alpha-beta: positive and negative contributions apart, alpha - beta = 1 (Bach et al. 2015, eq. 60).

    z+ = w+ a+ + w- a- + b+, z- = w- a+ + w+ a- + b-;
    R_in = alpha (a+ w+^T + a- w-^T) R/S(z+) - beta (a+ w-^T + a- w+^T) R/S(z-).
    alpha = 1, beta = 0 is the z+ rule. Passes beside the forward one: three, two for z+ on a non-negative input; five and
    three on others.
    """

    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float = 1e-6
    zero_bias: bool = False
    name: ClassVar[str] = "alpha-beta"
    leading: ClassVar[int] = 2
    kinds: ClassVar[frozenset[str]] = LAYERS
    zero_inputs: ClassVar[ZeroInputs] = ZeroInputs.NOTHING

    def __post_init__(self) -> None:
        if self.alpha < 0 or self.beta < 0 or abs(self.alpha - self.beta - 1) > 1e-9:
            raise RuleError(f"alpha - beta must be 1 and both at least 0, not {self.alpha:g} and {self.beta:g}")

    def __str__(self) -> str:
        plain = (self.alpha, self.beta) == (1, 0)
        return written(self, "zplus", without=("alpha", "beta")) if plain else super().__str__()

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Alpha times the positive share minus beta times the negative one."""
        linear = Affine.of(call)
        plus, minus = contributions(linear, positive_only=self.beta == 0)
        to_plus = self._shares(linear, relevance, plus, "w+", 1)
        to_minus = None if minus is None else self._shares(linear, relevance, minus, "w-", -1)
        return [handed_back(linear, to_plus, to_minus, self.alpha, self.beta)]

    def _shares(self, linear: Affine, relevance: Tensor, total: Tensor, weights: str, sign: int) -> Tensor:
        """R / S(total + bias) for the contributions of one sign; gives ``total`` up."""
        bias = 0.0 if self.zero_bias else linear.biases(weights)
        bottom = linear.in_place.plus(total, bias + sign * self.epsilon)
        return linear.in_place.under(bottom if self.epsilon else stabilize(bottom, 0.0), relevance)


@register_rule(flags={"mixing": Mixing})
@dataclass(frozen=True)
class Gamma(NamedRule):
    """LRP-gamma, generalised to outputs and inputs of both signs (Montavon et al. 2019; Andéol et al. 2021).

    With w^p = w + gamma w+ and w^n = w + gamma w-, biases likewise: an output z > 0 is shared by a+ w^p + a- w^n + b^p,
    an output z < 0 by a+ w^n + a- w^p + b^n, and z = 0 hands on nothing. In the terms of this module's algebra the
    denominators are n + gamma P + b^p and n + gamma N + b^n. Passes beside the forward one: three; two on a
    non-negative input where no relevance sits at negative outputs (below a ReLU).
    """

    gamma: float = 0.25
    epsilon: float = 1e-6
    zero_bias: bool = False
    name: ClassVar[str] = "gamma"
    leading: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = LAYERS
    zero_inputs: ClassVar[ZeroInputs] = ZeroInputs.NOTHING

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise RuleError(f"gamma must be at least 0, not {self.gamma:g}")

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of positive and of negative outputs in one."""
        linear, gamma = Affine.of(call), self.gamma
        plus, minus = contributions(linear, positive_only=not _some_at_negative(call, relevance))
        at_positive = self._shares(linear, relevance, plus, "w+", 1)
        at_negative = None if minus is None else self._shares(linear, relevance, minus, "w-", -1)
        if _rectified(linear):
            result = linear.transpose(at_positive, linear.weights("w + gamma w+", _raised, gamma))
            if at_negative is not None:
                below = linear.transpose(at_negative, linear.weights("w + gamma w-", _lowered, gamma))
                result = linear.in_place.plus(result, below)
            return [linear.in_place.times(result, linear.x)]
        if at_negative is None:
            through, spread = linear.transposes(at_positive, ("w", "|w|"))
        else:
            through = linear.transpose(at_positive + at_negative, linear.weights("w"))
            spread = linear.transpose(at_positive - at_negative, linear.weights("|w|"))
        through, spread = linear.in_place.times(through, linear.x), linear.in_place.times(spread, linear.x.abs())
        return [linear.in_place.plus(linear.in_place.times(through, 1 + gamma / 2), spread, gamma / 2)]

    def _shares(self, linear: Affine, relevance: Tensor, total: Tensor, weights: str, sign: int) -> Tensor:
        """R / S(denominator) where the output has the sign, else 0; gives ``total`` up.

        With biases the denominator has the output's sign wherever it is used.
        """
        z, gamma, in_place = linear.z, self.gamma, linear.in_place
        if self.zero_bias:
            bottom = stabilize(in_place.onto(total, _n(linear), gamma), self.epsilon)
        else:
            bias = gamma * linear.biases(weights) + sign * self.epsilon
            bottom = in_place.plus(in_place.onto(total, z, gamma), bias)
            bottom = bottom if self.epsilon else stabilize(bottom, 0.0)
        shares = in_place.under(bottom, relevance)
        return aten.threshold_backward.default(shares, z if sign > 0 else -z, 0)  # type: ignore[no-any-return]


def _raised(w: Tensor, gamma: float) -> Tensor:
    return w + gamma * w.clamp(min=0)


def _lowered(w: Tensor, gamma: float) -> Tensor:
    return w + gamma * w.clamp(max=0)


def _some_at_negative(call: Call, relevance: Tensor) -> bool:
    """Whether relevance may sit at negative outputs: what can't be proven below a ReLU is looked at."""
    if no_relevance_below_zero(call.node, call.plan):
        return False
    if call.plan.static or not _feeds_relu(call):
        return True
    there = torch.sign(call.output.detach()).clamp_(max=0).mul_(relevance)
    return not all(bound == 0 for bound in there.aminmax())


#: Below this many contributions to an output, their sums are taken one by one: the fewer there are, the more often those of
#: one sign nearly vanish, and a difference of larger numbers would lose them.
FEW = 128


def contributions(linear: Affine, positive_only: bool = False) -> tuple[Tensor, Tensor | None]:
    """Sums of the positive and of the negative contributions to each output, biases aside. One pass for both.

    ``positive_only`` leaves the negative ones out (None) where that spares something. Both are fresh tensors.
    """
    x, exact, in_place = linear.x, linear.fan_in < FEW, linear.in_place
    if _rectified(linear):
        plus = linear.apply(x, linear.weights("w+"))
        if positive_only:
            return plus, None
        if exact:
            return plus, linear.apply(x, linear.weights("w-"))
        minus = in_place.plus(linear.z - plus, linear.biases("w"), -1.0)
        return plus, in_place.at_most(minus, 0.0)
    if exact:
        up, down = x.clamp(min=0), x.clamp(max=0)
        plus = in_place.plus(linear.apply(up, linear.weights("w+")), linear.apply(down, linear.weights("w-")))
        if positive_only:
            return plus, None
        return plus, in_place.plus(linear.apply(up, linear.weights("w-")), linear.apply(down, linear.weights("w+")))
    n, q = _n(linear), linear.apply(x.abs(), linear.weights("|w|"))
    below = None if positive_only else in_place.at_most(in_place.times(n - q, 0.5), 0.0)
    return in_place.at_least(in_place.times(in_place.plus(q, n), 0.5), 0.0), below


def _feeds_relu(call: Call) -> bool:
    """Whether nothing but ReLUs read the node."""
    return all(user.target is aten.relu.default for user in call.node.users)


def _n(linear: Affine) -> Tensor:
    return linear.z if linear.bias is None else linear.z - linear.biases("w")


def handed_back(linear: Affine, to_plus: Tensor, to_minus: Tensor | None, alpha: float, beta: float) -> Tensor:
    """``alpha to_plus`` through the positive contributions less ``beta to_minus`` through the negative ones.

    One pass for each on a non-negative input, two on others: their differences are never formed, because what arrives at an
    output with next to no contributions of a sign is large, and must meet nothing but those.
    """
    x, in_place = linear.x, linear.in_place
    if _rectified(linear):
        result = in_place.times(linear.transpose(to_plus, linear.weights("w+")), alpha)
        if to_minus is not None:
            result = in_place.plus(result, linear.transpose(to_minus, linear.weights("w-")), -beta)
        return in_place.times(result, x)
    above, below = (in_place.times(each, alpha) for each in linear.transposes(to_plus, ("w+", "w-")))
    if to_minus is not None:
        of_below, of_above = linear.transposes(to_minus, ("w+", "w-"))
        above, below = in_place.plus(above, of_above, -beta), in_place.plus(below, of_below, -beta)
    return in_place.plus(in_place.times(above, x.clamp(min=0)), in_place.times(below, x.clamp(max=0)))


def _rectified(linear: Affine) -> bool:
    """Whether the input is provably non-negative."""
    return nonnegative(linear.call.node.args[linear.input_position], linear.call.plan)
