"""The rules: small frozen dataclasses, each one formula.

Belongs here: how relevance flows through one node. Not here: which node gets which rule (``tables``) and all
bookkeeping (``sweep``).

Notation: ``a`` input, ``w`` weights, ``b`` bias, ``z = w a + b`` output, ``R`` relevance of the output, superscripts
+ and - for the positive and negative part, ``S(z) = z + epsilon sign(z)`` the stabiliser. Where a rule can prove that
the input is non-negative (``facts``), it leaves out the passes that are zero.

Cost is given in passes: one pass is one application of the node's operator, forwards or transposed, beside the model's
own forward pass. ``AlphaBeta`` and ``Gamma`` live in ``signed``, ``Mixing`` in ``mixing``; they can be had from here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from graph_rules.affine import Affine
from graph_rules.kinds import gates, kind, weight_position
from graph_rules.mixing import Mixing as Mixing
from graph_rules.naming import Named
from graph_rules.operators import CONVOLUTIONS, LINEAR
from graph_rules.scratch import Scratch
from graph_rules.signed import AlphaBeta as AlphaBeta
from graph_rules.signed import Gamma as Gamma
from graph_rules.stabilizer import stabilize
from graph_rules.sweep import Call, active_nodes, evaluate

Bound = float | tuple[float, ...]


@dataclass(frozen=True)
class Gradient(Named):
    """The operator's own derivative: R_in = J^T R. One pass."""

    tape: ClassVar[bool] = True
    bare: ClassVar[bool] = True
    name: ClassVar[str] = "gradient"

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """J^T R."""
        return call.vjp(relevance)


@dataclass(frozen=True)
class GuidedReLU(Named):
    """ReLU of guided backpropagation: only positive signals at active units (Springenberg et al. 2015)."""

    tape: ClassVar[bool] = False
    name: ClassVar[str] = "guided-relu"

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_in = R+ where a > 0."""
        return [relevance.clamp(min=0) * (call.output > 0)]


@dataclass(frozen=True)
class DeconvNetReLU(Named):
    """ReLU of the deconvnet: only positive signals, wherever the unit stands (Zeiler & Fergus 2014)."""

    tape: ClassVar[bool] = False
    name: ClassVar[str] = "deconvnet-relu"

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_in = R+."""
        return [relevance.clamp(min=0)]


@dataclass(frozen=True)
class Pass(Named):
    """Relevance passes an elementwise node unchanged (Bach et al. 2015; the activation rule of LRP).

    Only the operand of the output's shape gets it; a broadcast operand gets the sum over what it was broadcast to.
    """

    tape: ClassVar[bool] = False
    name: ClassVar[str] = "pass"

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """R_in = R."""
        if isinstance(relevance, list):
            relevance = relevance[0]
        if relevance is None or not all(_widens_to(x.shape, relevance.shape) for x in call.inputs):
            op = call.node.meta.get("op", call.node.target)
            raise ValueError(f"the pass rule is for elementwise nodes, not for {op}")
        return [relevance.sum_to_size(x.shape) if x.shape != relevance.shape else relevance for x in call.inputs]


@dataclass(frozen=True)
class Block(Named):
    """No relevance flows on: everything below the node gets none."""

    tape: ClassVar[bool] = False
    name: ClassVar[str] = "block"

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """R_in = 0."""
        return [None for _ in call.inputs]


@dataclass(frozen=True)
class SignalTakesAll(Named):
    """Product of a signal and a gate: the signal takes the relevance, the gate none (Arras et al. 2017).

    Of a quotient the numerator is the signal.
    """

    tape: ClassVar[bool] = False
    name: ClassVar[str] = "signal-takes-all"

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_signal = R, R_gate = 0."""
        weighing = gates(call.node, call.plan.active)
        return [
            None if node in weighing else relevance.sum_to_size(x.shape)
            for node, x in zip(call.active, call.inputs, strict=True)
        ]


@dataclass(frozen=True)
class Shared(Named):
    """Product of n signals: each takes R / n (Achtibat et al. 2024, eq. 15: uniform rule)."""

    tape: ClassVar[bool] = False
    name: ClassVar[str] = "shared"

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_in = R / n."""
        share = relevance / len(call.inputs)
        return [share.sum_to_size(x.shape) for x in call.inputs]


@dataclass(frozen=True)
class Epsilon(Named):
    """LRP-epsilon, for every operator that is linear in its active inputs together: R_in = a J^T [R / S(z)].

    Bach et al. 2015, eq. 58; epsilon = 0 is LRP-0. One pass. ``zero_bias`` leaves the bias out of the denominator.
    The matrix products of one unit, z = W x + U h + b, are stabilised once, in their sum (Arras et al. 2017).
    """

    epsilon: float = 1e-6
    zero_bias: bool = False
    tape: ClassVar[bool] = True
    name: ClassVar[str] = "epsilon"
    leading: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon must be at least 0, not {self.epsilon:g}")

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """a J^T [R / S(z)]."""
        scratch = Scratch(not call.plan.static)
        if not isinstance(call.output, Tensor):
            several = [
                None if part is None else scratch.shares(part, z.detach(), self.epsilon)
                for z, part in zip(call.output, relevance, strict=True)
            ]
            return [x.detach() * share for x, share in zip(call.inputs, call.vjp(several), strict=True)]
        z = call.output.detach()
        if self.zero_bias and _has_weights(call):
            bias = Affine.of(call).bias
            z = z if bias is None else z - bias
        epsilon = 0.0 if stabilised_in_sum(call) else self.epsilon
        handed = call.vjp(scratch.shares(relevance, z, epsilon))
        return [x.detach() * share for x, share in zip(call.inputs, handed, strict=True)]


def stabilised_in_sum(call: Call) -> bool:
    """Whether a node is a matrix product that is read by sums of its unit alone, which have the epsilon rule."""
    if call.node.target not in LINEAR or not _has_weights(call):
        return False
    plan, stack, sums = call.plan, [call.node], False
    while stack:
        for user in stack.pop().users:
            if user not in plan.active:
                continue
            what = kind(user, plan.active)
            if what == "movement":
                stack.append(user)
            elif what in ("layer-sum", "bias") and isinstance(plan.rules.get(user), Epsilon):
                sums = True
            else:
                return False
    return sums


@dataclass(frozen=True)
class WSquare(Named):
    """Shares by squared weights, whatever the input (Montavon et al. 2017): R_in = (w^2)^T R / S(sum w^2 + b^2)."""

    epsilon: float = 1e-6
    zero_bias: bool = False
    tape: ClassVar[bool] = False
    name: ClassVar[str] = "w2"

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of w^2 on an input of ones."""
        linear = Affine.of(call)
        w = linear.weights("w2")
        z = linear.apply(torch.ones_like(linear.x), w) + linear.biases("0" if self.zero_bias else "w2")
        return [linear.transpose(relevance / stabilize(z, self.epsilon), w)]


@dataclass(frozen=True)
class Flat(Named):
    """Every input of a unit takes an equal share (Lapuschkin et al. 2019): weights of one, no bias."""

    epsilon: float = 1e-6
    tape: ClassVar[bool] = False
    name: ClassVar[str] = "flat"

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of 1 on an input of ones."""
        linear = Affine.of(call)
        w = linear.weights("1")
        z = linear.apply(torch.ones_like(linear.x), w)
        return [linear.transpose(relevance / stabilize(z, self.epsilon), w)]


@dataclass(frozen=True)
class ZBox(Named):
    """z-box rule for inputs known to lie in [low, high] (Montavon et al. 2017, eq. 16).

    z = w a - w+ low - w- high, R_in = a w^T s - low w+^T s - high w-^T s with s = R / S(z). The bias cancels.
    Passes beside the forward one: in a convolution one, the three transposed ones at once; else three. The corners'
    two are taken once per model.

    ``low`` and ``high`` bound the explained input, a number or one per channel. Where the layer reads the input
    through other nodes (a normalisation inside the model, say), the bounds are carried through them.
    """

    low: Bound
    high: Bound
    epsilon: float = 1e-6
    tape: ClassVar[bool] = False
    name: ClassVar[str] = "z-box"
    leading: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not np.all(np.asarray(self.low, float) <= np.asarray(self.high, float)):
            raise ValueError(f"the z-box needs low <= high, not {self.low} and {self.high}")

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Share of the distance to the box's corners."""
        linear = Affine.of(call)
        low, high, corners = linear.kept((call.node, "z-box"), lambda: self._corners(linear), (self.low, self.high))
        s = linear.scratch.shares(relevance, linear.z - corners, self.epsilon)
        through, of_low, of_high = linear.transposes(s, ("w", "w+", "w-"))
        return [linear.x * through - low * of_low - high * of_high]

    def _corners(self, linear: Affine) -> tuple[Tensor, Tensor, Tensor]:
        """The lowest and the highest input, and b + w+ low + w- high. The same for all samples of a convolution."""
        first, second = (carried_bound(linear.call, bound) for bound in (self.low, self.high))
        low, high = torch.minimum(first, second), torch.maximum(first, second)
        if linear.call.node.target in CONVOLUTIONS:
            low, high = low[:1], high[:1]
        corners = linear.apply(low, linear.weights("w+")) + linear.apply(high, linear.weights("w-"))
        return low, high, corners + linear.biases("w")


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


def _widens_to(shape: torch.Size, wider: torch.Size) -> bool:
    paired = zip(reversed(shape), reversed(wider), strict=False)
    return len(shape) <= len(wider) and all(a in (1, b) for a, b in paired)


def _has_weights(call: Call) -> bool:
    return weight_position(call.node, call.plan.active) is not None
