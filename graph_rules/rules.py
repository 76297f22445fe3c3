"""The rules: small frozen dataclasses, each one formula.

Belongs here: how relevance flows through one node. Not here: which node gets which rule (``tables``) and all
bookkeeping (``sweep``).

Notation: ``a`` input, ``w`` weights, ``b`` bias, ``z = w a + b`` output, ``R`` relevance of the output, superscripts
+ and - for the positive and negative part, ``S(z) = z + epsilon sign(z)`` the stabiliser. Where a rule can prove that
the input is non-negative (``sign_analysis``), it leaves out the passes that are zero.

Cost is given in passes: one pass is one application of the node's operator, forwards or transposed, beside the model's
own forward pass. ``AlphaBeta`` and ``Gamma`` live in ``signed``, ``Mixing`` in ``mixing``; they can be had from here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from graph_rules.affine import Affine
from graph_rules.applicability import ALL_KINDS, LAYERS, PRODUCTS, SUMS
from graph_rules.composite_params import Bound
from graph_rules.errors import RuleError
from graph_rules.execution import evaluate
from graph_rules.in_place import InPlace
from graph_rules.kinds import active_nodes, gates, kind, weight_position
from graph_rules.mixing import Mixing as Mixing
from graph_rules.operators import CONVOLUTIONS, LINEAR, aten
from graph_rules.rectifiers import upper_bound
from graph_rules.rule import Call, Needs, ZeroInputs
from graph_rules.rule_format import NamedRule, register_rule
from graph_rules.signed import AlphaBeta as AlphaBeta
from graph_rules.signed import Gamma as Gamma
from graph_rules.stabilizer import stabilize


@register_rule()
@dataclass(frozen=True)
class Gradient(NamedRule):
    """The operator's own derivative: R_in = J^T R. One pass."""

    name: ClassVar[str] = "gradient"
    needs: ClassVar[Needs] = Needs.VJP_ONLY
    kinds: ClassVar[frozenset[str]] = ALL_KINDS
    zero_inputs: ClassVar[ZeroInputs] = ZeroInputs.AS_COPIED
    masks_relu: ClassVar[bool] = True

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """J^T R."""
        return call.vjp(relevance)


@register_rule()
@dataclass(frozen=True)
class GuidedReLU(NamedRule):
    """Rectifier of guided backpropagation: only positive signals at active units (Springenberg et al. 2015).

    A unit at its upper bound (ReLU6) is no active one: its derivative is zero. Nor is one whose slope made a negative input
    positive.
    """

    name: ClassVar[str] = "guided-relu"
    kinds: ClassVar[frozenset[str]] = frozenset({"relu", "rectifier", "activation"})
    masks_relu: ClassVar[bool] = True

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_in = R+ where 0 < a and 0 < y < bound."""
        y, bound = call.output, upper_bound(call)
        active = y > 0 if call.node.target is aten.relu.default else (y > 0) & (call.inputs[0] > 0)
        return [relevance.clamp(min=0) * (active if bound is None else active & (y < bound))]


@register_rule()
@dataclass(frozen=True)
class DeconvNetReLU(NamedRule):
    """Rectifier of the deconvnet: only positive signals, wherever the unit stands (Zeiler & Fergus 2014)."""

    name: ClassVar[str] = "deconvnet-relu"
    kinds: ClassVar[frozenset[str]] = frozenset({"relu", "rectifier", "activation"})

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_in = R+."""
        return [relevance.clamp(min=0)]


@register_rule()
@dataclass(frozen=True)
class Pass(NamedRule):
    """Relevance passes an elementwise node unchanged (Bach et al. 2015; the activation rule of LRP).

    Only the operand of the output's shape gets it; a broadcast operand gets the sum over what it was broadcast to.
    """

    name: ClassVar[str] = "pass"
    kinds: ClassVar[frozenset[str]] = ALL_KINDS - PRODUCTS - SUMS - LAYERS - {"movement"}
    wide_kinds: ClassVar[frozenset[str] | None] = frozenset(
        {"relu", "rectifier", "activation", "batch-norm", "shift", "scale", "layer-norm", "other"}
    )
    zero_inputs: ClassVar[ZeroInputs] = ZeroInputs.AS_OUTPUT

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """R_in = R."""
        if isinstance(relevance, list):
            relevance = relevance[0]
        if relevance is None or not all(_widens_to(x.shape, relevance.shape) for x in call.inputs):
            op = call.node.meta.get("op", call.node.target)
            raise RuleError(f"the pass rule is for elementwise nodes, not for {op}")
        return [relevance.sum_to_size(x.shape) if x.shape != relevance.shape else relevance for x in call.inputs]


@register_rule()
@dataclass(frozen=True)
class Block(NamedRule):
    """No relevance flows on: everything below the node gets none."""

    name: ClassVar[str] = "block"
    kinds: ClassVar[frozenset[str]] = ALL_KINDS
    zero_inputs: ClassVar[ZeroInputs] = ZeroInputs.NOTHING

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """R_in = 0."""
        return [None for _ in call.inputs]


@register_rule()
@dataclass(frozen=True)
class SignalTakesAll(NamedRule):
    """Product of a signal and a gate: the signal takes the relevance, the gate none (Arras et al. 2017).

    Of a quotient the numerator is the signal.
    """

    name: ClassVar[str] = "signal-takes-all"
    kinds: ClassVar[frozenset[str]] = frozenset({"gate", "self-gate", "quotient"})

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_signal = R, R_gate = 0."""
        weighing = gates(call.node, call.plan.active)
        return [
            None if node in weighing else relevance.sum_to_size(x.shape)
            for node, x in zip(call.active, call.inputs, strict=True)
        ]


@register_rule()
@dataclass(frozen=True)
class Shared(NamedRule):
    """Product of n signals: each takes R / n (Achtibat et al. 2024, eq. 15: uniform rule)."""

    name: ClassVar[str] = "shared"
    kinds: ClassVar[frozenset[str]] = frozenset({"product", "gate", "self-gate", "quotient", "add", "layer-sum"})

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """R_in = R / n."""
        share = relevance / len(call.inputs)
        return [share.sum_to_size(x.shape) for x in call.inputs]


@register_rule()
@register_rule("norm", fixed={"epsilon": 1e-6, "zero_bias": False})
@dataclass(frozen=True)
class Epsilon(NamedRule):
    """LRP-epsilon, for every operator that is linear in its active inputs together: R_in = a J^T [R / S(z)].

    Bach et al. 2015, eq. 58; epsilon = 0 is LRP-0. One pass. ``zero_bias`` leaves the bias out of the denominator.
    The matrix products of one unit, z = W x + U h + b, are stabilised once, in their sum (Arras et al. 2017).
    """

    epsilon: float = 1e-6
    zero_bias: bool = False
    name: ClassVar[str] = "epsilon"
    leading: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs.VALUES
    kinds: ClassVar[frozenset[str]] = ALL_KINDS - PRODUCTS
    wide_kinds: ClassVar[frozenset[str] | None] = LAYERS | {"add", "layer-sum", "bias", "average", "norm", "other"}
    zero_inputs: ClassVar[ZeroInputs] = ZeroInputs.NOTHING
    filled_by: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if not self.epsilon >= 0:
            raise RuleError(f"epsilon must be at least 0, not {self.epsilon:g}")

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """a J^T [R / S(z)]."""
        in_place = InPlace(not call.plan.static)
        if not isinstance(call.output, Tensor):
            several = [
                None if part is None else in_place.shares(part, z.detach(), self.epsilon)
                for z, part in zip(call.output, relevance, strict=True)
            ]
            return [x.detach() * share for x, share in zip(call.inputs, call.vjp(several), strict=True)]
        z = call.output.detach()
        if self.zero_bias and _has_weights(call):
            bias = Affine.of(call).bias
            z = z if bias is None else z - bias
        epsilon = 0.0 if stabilised_in_sum(call) else self.epsilon
        handed = call.vjp(in_place.shares(relevance, z, epsilon))
        return [x.detach() * share for x, share in zip(call.inputs, handed, strict=True)]


def stabilised_in_sum(call: Call) -> bool:
    """Whether a node is a matrix product that is read only by sums of its unit, which have the epsilon rule."""
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


@register_rule()
@dataclass(frozen=True)
class WSquare(NamedRule):
    """Shares by squared weights, whatever the input (Montavon et al. 2017): R_in = (w^2)^T R / S(sum w^2 + b^2)."""

    epsilon: float = 1e-6
    zero_bias: bool = False
    name: ClassVar[str] = "w2"
    kinds: ClassVar[frozenset[str]] = LAYERS

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of w^2 on an input of ones."""
        linear = Affine.of(call)
        w = linear.weights("w2")
        z = linear.apply(torch.ones_like(linear.x), w) + linear.biases("0" if self.zero_bias else "w2")
        return [linear.transpose(relevance / stabilize(z, self.epsilon), w)]


@register_rule()
@dataclass(frozen=True)
class Flat(NamedRule):
    """Every input of a unit takes an equal share (Lapuschkin et al. 2019): weights of one, no bias."""

    epsilon: float = 1e-6
    name: ClassVar[str] = "flat"
    kinds: ClassVar[frozenset[str]] = LAYERS

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of 1 on an input of ones."""
        linear = Affine.of(call)
        w = linear.weights("1")
        z = linear.apply(torch.ones_like(linear.x), w)
        return [linear.transpose(relevance / stabilize(z, self.epsilon), w)]


@register_rule()
@dataclass(frozen=True)
class ZBox(NamedRule):
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
    name: ClassVar[str] = "z-box"
    leading: ClassVar[int] = 2
    kinds: ClassVar[frozenset[str]] = LAYERS
    per_channel: ClassVar[tuple[str, ...]] = ("low", "high")

    def __post_init__(self) -> None:
        if None in (self.low, self.high):
            raise RuleError(
                "the z-box rule needs the lowest and highest value that the input can take: give low and high, "
                "or a preprocessing that implies them"
            )
        if len({len(bound) for bound in (self.low, self.high) if isinstance(bound, tuple)} - {1}) > 1:
            raise RuleError(f"low and high of the z-box are for different numbers of channels: {self.low}, {self.high}")
        if not np.all(np.asarray(self.low, float) <= np.asarray(self.high, float)):
            raise RuleError(f"the z-box needs low <= high, not {self.low} and {self.high}")

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Share of the distance to the box's corners."""
        linear = Affine.of(call)
        low, high, corners = linear.cached((call.node, "z-box"), lambda: self._corners(linear), (self.low, self.high))
        s = linear.in_place.shares(relevance, linear.z - corners, self.epsilon)
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
            raise RuleError(f"{full.numel()} bounds don't fit the input's shape {shape}: give one or one per channel")
        full = full.reshape(1, -1, *[1] * (len(shape) - 2))
    return full.expand(shape)


def _widens_to(shape: torch.Size, wider: torch.Size) -> bool:
    paired = zip(reversed(shape), reversed(wider), strict=False)
    return len(shape) <= len(wider) and all(a in (1, b) for a, b in paired)


def _has_weights(call: Call) -> bool:
    return weight_position(call.node, call.plan.active) is not None
