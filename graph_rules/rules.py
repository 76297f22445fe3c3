"""The rules: small frozen dataclasses, each one formula.

Belongs here: how relevance flows through one node. Not here: which node gets which rule (``tables``) and all
bookkeeping (``sweep``).

Notation: ``a`` input, ``w`` weights, ``b`` bias, ``z = w a + b`` output, ``R`` relevance of the output, superscripts
+ and - for the positive and negative part, ``S(z) = z + epsilon sign(z)`` the stabiliser. Where a rule can prove that
the input is non-negative (``facts``), it leaves out the passes that are zero.

Cost is given in passes: one pass is one application of the node's operator, forwards or transposed, beside the model's
own forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from graph_rules.affine import Affine
from graph_rules.facts import nonnegative
from graph_rules.kinds import is_gate, weight_position
from graph_rules.stabilizer import stabilize
from graph_rules.sweep import Call, active_nodes, evaluate

Bound = float | tuple[float, ...]


@dataclass(frozen=True)
class Gradient:
    """The operator's own derivative: R_in = J^T R. One pass."""

    tape: ClassVar[bool] = True

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """J^T R."""
        return call.vjp(relevance)


@dataclass(frozen=True)
class GuidedReLU:
    """ReLU of guided backpropagation: only positive signals at active units (Springenberg et al. 2015)."""

    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_in = R+ where a > 0."""
        return [relevance.clamp(min=0) * (call.output > 0)]


@dataclass(frozen=True)
class DeconvNetReLU:
    """ReLU of the deconvnet: only positive signals, wherever the unit stands (Zeiler & Fergus 2014)."""

    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_in = R+."""
        return [relevance.clamp(min=0)]


@dataclass(frozen=True)
class Pass:
    """Relevance passes an elementwise node unchanged (Bach et al. 2015; the activation rule of LRP).

    Only the operand of the output's shape gets it; a broadcast operand gets the sum over what it was broadcast to.
    """

    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """R_in = R."""
        if isinstance(relevance, list):
            relevance = relevance[0]
        if relevance is None or not all(_widens_to(x.shape, relevance.shape) for x in call.inputs):
            op = call.node.meta.get("op", call.node.target)
            raise ValueError(f"the pass rule is for elementwise nodes, not for {op}")
        return [relevance.sum_to_size(x.shape) if x.shape != relevance.shape else relevance for x in call.inputs]


@dataclass(frozen=True)
class Block:
    """No relevance flows on: everything below the node gets none."""

    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """R_in = 0."""
        return [None for _ in call.inputs]


@dataclass(frozen=True)
class SignalTakesAll:
    """Product of a signal and a gate: the signal takes the relevance, the gate none (Arras et al. 2017)."""

    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_signal = R, R_gate = 0."""
        return [
            None if is_gate(node) else relevance.sum_to_size(x.shape)
            for node, x in zip(call.active, call.inputs, strict=True)
        ]


@dataclass(frozen=True)
class Shared:
    """Product of n signals: each takes R / n (Achtibat et al. 2024, eq. 15: uniform rule)."""

    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_in = R / n."""
        share = relevance / len(call.inputs)
        return [share.sum_to_size(x.shape) for x in call.inputs]


@dataclass(frozen=True)
class Epsilon:
    """LRP-epsilon, for every operator that is linear in its active inputs together: R_in = a J^T [R / S(z)].

    Bach et al. 2015, eq. 58; epsilon = 0 is LRP-0. One pass. ``zero_bias`` leaves the bias out of the denominator.
    """

    epsilon: float = 1e-6
    zero_bias: bool = False
    tape: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon must be at least 0, not {self.epsilon:g}")

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """a J^T [R / S(z)]."""
        if not isinstance(call.output, Tensor):
            several = [
                None if part is None else part / stabilize(z.detach(), self.epsilon)
                for z, part in zip(call.output, relevance, strict=True)
            ]
            return [x.detach() * share for x, share in zip(call.inputs, call.vjp(several), strict=True)]
        z = call.output.detach()
        if self.zero_bias and _has_weights(call):
            bias = Affine.of(call).bias
            z = z if bias is None else z - bias
        shares = call.vjp(relevance / stabilize(z, self.epsilon))
        return [x.detach() * share for x, share in zip(call.inputs, shares, strict=True)]


@dataclass(frozen=True)
class AlphaBeta:
    """LRP-alpha-beta: positive and negative contributions apart, alpha - beta = 1 (Bach et al. 2015, eq. 60).

    z+ = w+ a+ + w- a- + b+, z- = w- a+ + w+ a- + b-;
    R_in = alpha (a+ w+^T + a- w-^T) R/S(z+) - beta (a+ w-^T + a- w+^T) R/S(z-).
    alpha = 1, beta = 0 is the z+ rule. Passes: two for z+ on a non-negative input, four for alpha-beta; twice as many
    on inputs of both signs.
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
        plus, minus = linear.weights("w+"), linear.weights("w-")
        bias = "0" if self.zero_bias else "w+"
        result = self.alpha * _share(linear, relevance, (plus, minus), linear.biases(bias), self.epsilon)
        if self.beta:
            bias = "0" if self.zero_bias else "w-"
            negative = _share(linear, relevance, (minus, plus), linear.biases(bias), self.epsilon)
            result = result - self.beta * negative
        return [result]


@dataclass(frozen=True)
class Gamma:
    """LRP-gamma, generalised to outputs and inputs of both signs (Montavon et al. 2019; Andéol et al. 2021).

    With w^p = w + gamma w+ and w^n = w + gamma w-, biases likewise: an output z > 0 is shared by a+ w^p + a- w^n + b^p,
    an output z < 0 by a+ w^n + a- w^p + b^n, and z = 0 hands on nothing.
    Passes on a non-negative input: two where no relevance sits at negative outputs (below a ReLU), else four.
    """

    gamma: float = 0.25
    epsilon: float = 1e-6
    zero_bias: bool = False
    tape: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise ValueError(f"gamma must be at least 0, not {self.gamma:g}")

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of the positive outputs, and of the negative ones where any relevance sits there."""
        linear, gamma = Affine.of(call), self.gamma
        up = linear.weights(f"gamma+{gamma}", lambda w: w + gamma * w.clamp(min=0))
        down = linear.weights(f"gamma-{gamma}", lambda w: w + gamma * w.clamp(max=0))
        at_positive, at_negative = relevance * (linear.z > 0), relevance * (linear.z < 0)
        bias = 0.0 if self.zero_bias else linear.biases("w") + gamma * linear.biases("w+")
        result = _share(linear, at_positive, (up, down), bias, self.epsilon)
        if bool(at_negative.any()):
            bias = 0.0 if self.zero_bias else linear.biases("w") + gamma * linear.biases("w-")
            result = result + _share(linear, at_negative, (down, up), bias, self.epsilon)
        return [result]


@dataclass(frozen=True)
class WSquare:
    """Shares by squared weights, whatever the input (Montavon et al. 2017): R_in = (w^2)^T R / S(sum w^2 + b^2)."""

    epsilon: float = 1e-6
    zero_bias: bool = False
    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of w^2 on an input of ones."""
        linear = Affine.of(call)
        w = linear.weights("w2")
        z = linear.apply(torch.ones_like(linear.x), w) + linear.biases("0" if self.zero_bias else "w2")
        return [linear.transpose(relevance / stabilize(z, self.epsilon), w)]


@dataclass(frozen=True)
class Flat:
    """Every input of a unit takes an equal share (Lapuschkin et al. 2019): weights of one, no bias."""

    epsilon: float = 1e-6
    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of 1 on an input of ones."""
        linear = Affine.of(call)
        w = linear.weights("1")
        z = linear.apply(torch.ones_like(linear.x), w)
        return [linear.transpose(relevance / stabilize(z, self.epsilon), w)]


@dataclass(frozen=True)
class ZBox:
    """z-box rule for inputs known to lie in [low, high] (Montavon et al. 2017, eq. 16).

    z = w a - w+ low - w- high, R_in = a w^T s - low w+^T s - high w-^T s with s = R / S(z). The bias cancels.

    ``low`` and ``high`` bound the explained input, a number or one per channel. Where the layer reads the input
    through other nodes (a normalisation inside the model, say), the bounds are carried through them.
    """

    low: Bound
    high: Bound
    epsilon: float = 1e-6
    tape: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not np.all(np.asarray(self.low, float) <= np.asarray(self.high, float)):
            raise ValueError(f"the z-box needs low <= high, not {self.low} and {self.high}")

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Share of the distance to the box's corners."""
        linear = Affine.of(call)
        first, second = (carried_bound(call, bound) for bound in (self.low, self.high))
        low, high = torch.minimum(first, second), torch.maximum(first, second)
        w, plus, minus = (linear.weights(name) for name in ("w", "w+", "w-"))
        z = linear.z - linear.biases("w") - linear.apply(low, plus) - linear.apply(high, minus)
        s = relevance / stabilize(z, self.epsilon)
        share = linear.x * linear.transpose(s, w)
        return [share - low * linear.transpose(s, plus) - high * linear.transpose(s, minus)]


def carried_bound(call: Call, bound: Bound) -> Tensor:
    """A bound of the explained input as it arrives at a node's active input; that input's shape and dtype."""
    x, node = call.inputs[0], call.active[0]
    reaching = [source for source in call.plan.sources if node in active_nodes((source,), node)]
    full = {source: _spread(bound, tuple(source.meta["shape"]), x) for source in reaching}
    return full[node] if node in full else evaluate(call.plan, full, node)


def _spread(bound: Bound, shape: tuple[int, ...], x: Tensor) -> Tensor:
    full = torch.as_tensor(bound, dtype=x.dtype, device=x.device)
    if full.ndim == 1 and full.numel() > 1:
        if len(shape) < 2 or full.numel() != shape[1]:
            raise ValueError(f"{full.numel()} bounds don't fit the input's shape {shape}: give one or one per channel")
        full = full.reshape(1, -1, *[1] * (len(shape) - 2))
    return full.expand(shape)


def _share(
    linear: Affine, relevance: Tensor, weights: tuple[Tensor, Tensor], bias: Tensor | float, epsilon: float
) -> Tensor:
    """Shares of a+ through the first weights and a- through the second, over their common sum."""
    x = linear.x
    if nonnegative(linear.call.node.args[linear.input_position], linear.call.plan):
        s = relevance / stabilize(linear.apply(x, weights[0]) + bias, epsilon)
        return x * linear.transpose(s, weights[0])
    up, down = x.clamp(min=0), x.clamp(max=0)
    s = relevance / stabilize(linear.apply(up, weights[0]) + linear.apply(down, weights[1]) + bias, epsilon)
    return up * linear.transpose(s, weights[0]) + down * linear.transpose(s, weights[1])


def _widens_to(shape: torch.Size, wider: torch.Size) -> bool:
    paired = zip(reversed(shape), reversed(wider), strict=False)
    return len(shape) <= len(wider) and all(a in (1, b) for a, b in paired)


def _has_weights(call: Call) -> bool:
    return weight_position(call.node, call.plan.active) is not None
