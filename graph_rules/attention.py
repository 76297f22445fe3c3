"""Rules for what attention, normalisation and reductions are made of.

Belongs here: products of computed matrices, softmax, layer normalisation, maxima over axes, products over axes. Not
here: layers with weights and elementwise nodes (``rules``).

The rules for attention are those of Achtibat et al. 2024 (AttnLRP); where attention weights get no relevance
(:class:`ValuesTakeAll`) they are those of Ali et al. 2022 (CP-LRP).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from graph_rules import operators as o
from graph_rules.errors import RuleError
from graph_rules.kinds import factor_positions, gates
from graph_rules.operators import aten
from graph_rules.rule import Absorber, Call, Needs, ZeroInputs
from graph_rules.rule_format import NamedRule, register_rule
from graph_rules.stabilizer import stabilize


def _check(epsilon: float) -> None:
    if not epsilon >= 0:
        raise RuleError(f"epsilon must be at least 0, not {epsilon:g}")


@register_rule()
@dataclass(frozen=True)
class Bilinear(NamedRule):
    """Product z = A B of two computed matrices: each takes half, shared by contribution. One pass.

    R_A = A * (s B^T), R_B = B * (A^T s) with s = R / S(2 z) (Achtibat et al. 2024, eq. 14). What the operator adds to
    the product takes its own share, and so does a factor beside which the other isn't computed.
    """

    epsilon: float = 1e-6
    name: ClassVar[str] = "bilinear"
    leading: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs.VALUES
    kinds: ClassVar[frozenset[str]] = frozenset({"matmul", "attention"})

    def __post_init__(self) -> None:
        _check(self.epsilon)

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Half of the epsilon share for each factor."""
        factors = [call.node.args[i] for i in factor_positions(call.node)]
        sampled = call.node.target in o.SAMPLERS
        if sampled:  # bilinear only in the values
            return ValuesTakeAll(self.epsilon).backward(call, relevance)
        parts = 2 if all(factor in call.plan.active for factor in factors) else 1
        shares = call.vjp(relevance / stabilize(parts * call.output.detach(), self.epsilon))
        return [
            x.detach() * share * (1 if node in factors else parts)
            for node, x, share in zip(call.active, call.inputs, shares, strict=True)
        ]


@register_rule()
@dataclass(frozen=True)
class ValuesTakeAll(NamedRule):
    """Attention weights times values, z = A V: the values take all by the epsilon rule, R_V = V * (A^T R / S(z)).

    The weights act as constants (Ali et al. 2022). Also for values sampled at computed coordinates.
    """

    epsilon: float = 1e-6
    name: ClassVar[str] = "values-take-all"
    leading: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs.VALUES
    kinds: ClassVar[frozenset[str]] = frozenset({"attention"})

    def __post_init__(self) -> None:
        _check(self.epsilon)

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """V * (A^T R / S(z)) for the values, nothing for the weights."""
        weighing = gates(call.node, call.plan.active)
        shares = call.vjp(relevance / stabilize(call.output.detach(), self.epsilon))
        return [
            None if node in weighing else x.detach() * share
            for node, x, share in zip(call.active, call.inputs, shares, strict=True)
        ]


@register_rule()
@dataclass(frozen=True)
class Softmax(NamedRule):
    """Softmax p of x by its Taylor expansion at x: R_in = x (R - p sum R) (Achtibat et al. 2024, eq. 13).

    A masked entry (x = -inf) takes nothing. Log-softmax z = x - log sum exp x: R_in = x J^T [R / S(z)].
    """

    epsilon: float = 1e-6
    name: ClassVar[str] = "softmax"
    leading: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs.VALUES
    kinds: ClassVar[frozenset[str]] = frozenset({"softmax"})

    def absorber(self, biased: bool) -> Absorber:
        """The expansion has a constant term."""
        return Absorber.OPERATOR

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """x (R - p sum R)."""
        x, output = call.inputs[0].detach(), call.output.detach()
        if call.node.target is aten._log_softmax.default:
            share = call.vjp(relevance / stabilize(output, self.epsilon))[0]
        else:
            share = relevance - output * relevance.sum(int(call.args[1]), keepdim=True)
        return [torch.where(torch.isfinite(x), x * share, torch.zeros_like(x)).to(x.dtype)]


@register_rule()
@dataclass(frozen=True)
class Normalisation(NamedRule):
    """Layer, group and instance normalisation y = g (x - mean) / std + h with the deviation held constant.

    The rest is linear and gets the epsilon rule: R_in = x (c - mean(c)), c = g / std * R / S(y) (Achtibat et al. 2024,
    section 3.3.3). ``zero_bias`` leaves h out of the denominator.
    """

    epsilon: float = 1e-6
    zero_bias: bool = False
    name: ClassVar[str] = "normalisation"
    leading: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"layer-norm"})

    def __post_init__(self) -> None:
        _check(self.epsilon)

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """x (c - mean(c))."""
        if len(call.inputs) != 1 or relevance[0] is None or any(part is not None for part in relevance[1:]):
            raise RuleError(
                f"no rule for computed weights or a used deviation of {call.node.meta.get('op', call.node)}"
            )
        x, y, rstd = call.inputs[0], call.output[0], call.output[2]
        if call.node.target is aten.native_group_norm.default:
            grouped = (x.shape[0], int(call.args[6]), -1)
            rstd = rstd.reshape(x.shape[0], -1, 1)
            weight, bias = (_per_channel(call.argument(i), x) for i in (1, 2))
        else:
            grouped = (*x.shape[: x.ndim - len(call.args[1])], -1)
            rstd = rstd.reshape(*grouped[:-1], 1)
            weight, bias = call.argument(2), call.argument(3)
        if self.zero_bias and bias is not None:
            y = y - bias
        share = relevance[0] / stabilize(y, self.epsilon)
        share = share if weight is None else share * weight
        centred = (share.reshape(grouped) * rstd).to(x.dtype)
        return [x * (centred - centred.mean(-1, keepdim=True)).reshape(x.shape)]


def _per_channel(value: Tensor | None, x: Tensor) -> Tensor | None:
    return None if value is None else value.reshape(1, -1, *[1] * (x.ndim - 2))


@register_rule()
@dataclass(frozen=True)
class WinnerTakeAll(NamedRule):
    """Maximum: all relevance goes to the value that won, of equal ones to the first. One pass.

    Max pooling does so by its derivative; the derivative of a maximum over axes would split it between equal values,
    and the same network would get another explanation for another spelling of the same layer.
    """

    name: ClassVar[str] = "winner"
    needs: ClassVar[Needs] = Needs.VALUES
    kinds: ClassVar[frozenset[str]] = frozenset({"maximum"})
    zero_inputs: ClassVar[ZeroInputs] = ZeroInputs.AS_COPIED

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """R at the maximum."""
        if call.node.target not in _EXTREMES:
            return call.vjp(relevance)
        x = call.inputs[0].detach()
        dims = call.argument(1) if call.node.target in (aten.amax.default, aten.amin.default) else ()
        axes = sorted(int(d) % x.ndim for d in (dims or range(x.ndim)))
        last = list(range(x.ndim - len(axes), x.ndim))
        rows = x.movedim(axes, last)
        flat = rows.reshape(*rows.shape[: x.ndim - len(axes)], -1)
        smallest = call.node.target in (aten.amin.default, aten.min.default)
        winner = flat.argmin(-1, keepdim=True) if smallest else flat.argmax(-1, keepdim=True)
        amount = relevance.reshape(winner.shape).to(x.dtype)
        result = torch.zeros_like(flat).scatter(-1, winner, amount).reshape(rows.shape)
        return [result.movedim(last, axes)]


_EXTREMES = (aten.amax.default, aten.amin.default, aten.max.default, aten.min.default)


@register_rule()
@dataclass(frozen=True)
class Homogeneous(NamedRule):
    """Products and variances over axes, homogeneous of degree n: R_in = x J^T [R / S(n z)], which conserves.

    Each of n factors of a product takes R / n. One pass.
    """

    epsilon: float = 1e-6
    name: ClassVar[str] = "homogeneous"
    leading: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs.VALUES
    kinds: ClassVar[frozenset[str]] = frozenset({"reduced-product"})

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """x J^T [R / S(n z)]."""
        z, x = call.output.detach(), call.inputs[0].detach()
        share = call.vjp(relevance / stabilize(_degree(call.node, x) * z, self.epsilon))[0]
        return [x * share]


def _degree(node: fx.Node, x: Tensor) -> Tensor | int:
    if node.target is aten.var.correction:
        return 2
    if node.target is aten.prod.default:
        return x.numel()
    axis = int(str(node.args[1])) % max(x.ndim, 1)
    count = x.shape[axis] if x.ndim else 1
    if node.target is aten.prod.dim_int:
        return count
    steps = torch.arange(1, count + 1, dtype=x.dtype, device=x.device)
    return steps.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
