"""Rules that treat positive and negative contributions apart, in as few passes as that takes.

Belongs here: alpha-beta and gamma, and the algebra that spares passes. Not here: any other rule.

The algebra. A linear node gives n = W a (bias aside) in the model's own forward pass. With q = |W| |a|, its positive and
negative contributions are

    P = W+ a+ + W- a- = (n + q) / 2        N = W- a+ + W+ a- = (n - q) / 2

so one more pass gives both; on an input that is provably non-negative P = W+ a and N = n - P. They are cut at zero, where
rounding would give them the wrong sign. Gamma's shares need no parts of the input either: with s_p and s_n what arrives at
positive and at negative outputs,

    R_in = (1 + gamma / 2) a W^T (s_p + s_n) + (gamma / 2) |a| |W|^T (s_p - s_n)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from graph_rules.affine import Affine
from graph_rules.facts import nonnegative
from graph_rules.operators import aten
from graph_rules.stabilizer import stabilize
from graph_rules.sweep import Call


@dataclass(frozen=True)
class AlphaBeta:
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
    tape: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.alpha < 0 or self.beta < 0 or abs(self.alpha - self.beta - 1) > 1e-9:
            raise ValueError(f"alpha - beta must be 1 and both at least 0, not {self.alpha:g} and {self.beta:g}")

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Alpha times the positive share minus beta times the negative one."""
        linear = Affine.of(call)
        plus, minus = contributions(linear, positive_only=self.beta == 0)
        if not self.zero_bias:
            plus = plus + linear.biases("w+")
        to_plus = (
            self.alpha * relevance / (plus + self.epsilon) if self.epsilon else divided(relevance, plus, self.alpha)
        )
        if minus is None:
            return [handed_back(linear, to_plus, None)]
        if not self.zero_bias:
            minus = minus + linear.biases("w-")
        down = -self.beta
        to_minus = down * relevance / (minus - self.epsilon) if self.epsilon else divided(relevance, minus, down)
        return [handed_back(linear, to_plus, to_minus)]


@dataclass(frozen=True)
class Gamma:
    """LRP-gamma, generalised to outputs and inputs of both signs (Montavon et al. 2019; Andéol et al. 2021).

    With w^p = w + gamma w+ and w^n = w + gamma w-, biases likewise: an output z > 0 is shared by a+ w^p + a- w^n + b^p,
    an output z < 0 by a+ w^n + a- w^p + b^n, and z = 0 hands on nothing. In the terms of this module's algebra the
    denominators are n + gamma P + b^p and n + gamma N + b^n. Passes beside the forward one: three; two on a
    non-negative input where no relevance sits at negative outputs (below a ReLU).
    """

    gamma: float = 0.25
    epsilon: float = 1e-6
    zero_bias: bool = False
    tape: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise ValueError(f"gamma must be at least 0, not {self.gamma:g}")

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of positive and of negative outputs in one."""
        linear, gamma = Affine.of(call), self.gamma
        z, x = linear.z, linear.x
        own = z - linear.biases("w") if self.zero_bias else z
        some_negative = call.plan.static or not _feeds_relu(call) or bool(torch.where(z < 0, relevance, 0.0).any())
        plus, minus = contributions(linear, positive_only=not some_negative)
        if not self.zero_bias:
            plus = plus + linear.biases("w+")
        at_positive = torch.where(z > 0, relevance / self._stable(own + gamma * plus, 1), 0.0)
        if minus is None:
            if _rectified(linear):
                return [x * linear.transpose(at_positive, linear.weights(f"gamma+{gamma}", self._raised))]
            both = apart = at_positive
        else:
            if not self.zero_bias:
                minus = minus + linear.biases("w-")
            at_negative = torch.where(z < 0, relevance / self._stable(own + gamma * minus, -1), 0.0)
            both, apart = at_positive + at_negative, at_positive - at_negative
        through = linear.transpose(both, linear.weights("w"))
        spread = linear.transpose(apart, linear.weights("|w|", torch.abs))
        if _rectified(linear):
            return [x * ((1 + gamma / 2) * through + gamma / 2 * spread)]
        return [(1 + gamma / 2) * (x * through) + gamma / 2 * (x.abs() * spread)]

    def _stable(self, z: Tensor, sign: int) -> Tensor:
        """The stabilised denominator; with biases it has the output's sign wherever it is used."""
        return stabilize(z, self.epsilon) if self.zero_bias or self.epsilon == 0 else z + sign * self.epsilon

    def _raised(self, w: Tensor) -> Tensor:
        return w + self.gamma * w.clamp(min=0)


#: Below this many contributions to an output, their sums are taken one by one: the fewer there are, the more often those of
#: one sign nearly vanish, and a difference of larger numbers would lose them.
FEW = 128


def contributions(linear: Affine, positive_only: bool = False) -> tuple[Tensor, Tensor | None]:
    """Sums of the positive and of the negative contributions to each output, biases aside. One pass for both.

    ``positive_only`` leaves the negative ones out (None) where that spares something.
    """
    x, exact = linear.x, linear.fan_in < FEW
    if _rectified(linear):
        plus = linear.apply(x, linear.weights("w+"))
        if positive_only:
            return plus, None
        return plus, linear.apply(x, linear.weights("w-")) if exact else (_n(linear) - plus).clamp(max=0)
    if exact:
        up, down = x.clamp(min=0), x.clamp(max=0)
        plus = linear.apply(up, linear.weights("w+")) + linear.apply(down, linear.weights("w-"))
        if positive_only:
            return plus, None
        return plus, linear.apply(up, linear.weights("w-")) + linear.apply(down, linear.weights("w+"))
    n, q = _n(linear), linear.apply(x.abs(), linear.weights("|w|", torch.abs))
    plus = ((n + q) / 2).clamp(min=0)
    return plus, None if positive_only else ((n - q) / 2).clamp(max=0)


def _feeds_relu(call: Call) -> bool:
    """Whether nothing but ReLUs read the node."""
    return all(user.target is aten.relu.default for user in call.node.users)


def _n(linear: Affine) -> Tensor:
    return linear.z if linear.bias is None else linear.z - linear.biases("w")


def divided(relevance: Tensor, z: Tensor, factor: float) -> Tensor:
    """factor R / z without a stabiliser: zero where z is."""
    return factor * relevance / stabilize(z, 0.0)


def handed_back(linear: Affine, to_plus: Tensor, to_minus: Tensor | None) -> Tensor:
    """``to_plus`` through the positive contributions and ``to_minus`` through the negative ones.

    One pass for each on a non-negative input, two on others: their differences are never formed, because what arrives at an
    output with next to no contributions of a sign is large, and must meet nothing but those.
    """
    x, plus, minus = linear.x, linear.weights("w+"), linear.weights("w-")
    if _rectified(linear):
        result = linear.transpose(to_plus, plus)
        return x * (result if to_minus is None else result + linear.transpose(to_minus, minus))
    through_up, through_down = linear.transpose(to_plus, plus), linear.transpose(to_plus, minus)
    if to_minus is not None:
        through_up = through_up + linear.transpose(to_minus, minus)
        through_down = through_down + linear.transpose(to_minus, plus)
    return x.clamp(min=0) * through_up + x.clamp(max=0) * through_down


def _rectified(linear: Affine) -> bool:
    """Whether the input is provably non-negative."""
    return nonnegative(linear.call.node.args[linear.input_position], linear.call.plan)
