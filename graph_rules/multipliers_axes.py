"""Difference rules of operators over axes: maxima, softmax, normalisations, norms.

Belongs here: the multipliers of operators that combine elements along axes. Not here: linear and elementwise
operators, what a multiplier is (``multipliers``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from graph_rules import operators as o
from graph_rules.multipliers import Path, first_part, pairs_of, ratio, twin, values_of
from graph_rules.operators import aten
from graph_rules.rule import Call, Needs, Rule


@dataclass(frozen=True)
class Larger(Rule):
    """Maximum or minimum of two computed values: what wins in the pass where the output is more extreme takes all.

    For y >= y0 that is the maximum's winner of this pass, as x - x0 >= y - y0 >= 0 there; so m is in [0, 1].
    """

    sign: float = 1.0

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Everything to the winner."""
        y, y0 = values_of(call)
        (a, a0), (b, b0) = pairs_of(call)
        here = torch.where(self.sign * (y - y0) >= 0, self.sign * (a - b) >= 0, self.sign * (a0 - b0) >= 0)
        winners = (here, ~here)
        return [
            (relevance * won * ratio(y - y0, x - x0)).sum_to_size(x.shape)
            for won, (x, x0) in zip(winners, ((a, a0), (b, b0)), strict=True)
        ]


@dataclass(frozen=True)
class Winner(Rule):
    """Max pooling: each window's difference goes to its winner in the pass where the output is larger.

    The winner's own difference is at least as large and of the same sign, so that m is in [0, 1]; overlapping windows
    add up. Where several elements win in the reference, this pass's winner is preferred among them.
    """

    axes: int = 2

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Everything to the winners."""
        m = first_part(relevance)
        if m is None:
            return [None]
        (x, x0), (y, y0) = pairs_of(call)[0], values_of(call)
        indices, at0 = call.output[1], twin(call).output[1]
        theirs = x0.flatten(x.ndim - self.axes).gather(-1, indices.flatten(y.ndim - self.axes)).reshape(y.shape)
        tied = (theirs - y0).abs() <= 1e-3 * (y - y0).abs()
        indices = torch.where((y >= y0) | tied, indices, at0)
        return [to_winners(x, x0, y, y0, m, indices, self.axes)]


def to_winners(x: Tensor, x0: Tensor, y: Tensor, y0: Tensor, m: Tensor, indices: Tensor, axes: int) -> Tensor:
    """Multipliers of x where each y's difference goes to one element of the last ``axes`` axes, counted flat."""
    dx = (x - x0).flatten(x.ndim - axes)
    at = indices.flatten(indices.ndim - axes)
    share = m.flatten(m.ndim - axes) * ratio((y - y0).flatten(y.ndim - axes), dx.gather(-1, at))
    return torch.zeros_like(dx).scatter_add(-1, at, share).reshape(x.shape)


@dataclass(frozen=True)
class Extreme(Rule):
    """Largest or smallest value over axes: the winner of the pass where it is more extreme takes all.

    Attributes
    ----------
    sign
        1 for the largest value, -1 for the smallest.
    gradient
        The first winner of the explained pass takes the multiplier as it is, as max pooling's gradient does.
    """

    sign: float = 1.0
    gradient: bool = False

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Everything to the winners."""
        m = first_part(relevance)
        if m is None:
            return [None]
        (x, x0), (y, y0) = pairs_of(call)[0], values_of(call)
        axes = axes_of(call.argument(1), x.ndim)
        if self.gradient:
            rows = to_end(self.sign * x, axes)
            at = rows.argmax(-1, keepdim=True)
            return [from_end(torch.zeros_like(rows).scatter(-1, at, m.reshape(at.shape)), x, axes)]
        rows, rows0 = (to_end(self.sign * v, axes) for v in (x, x0))
        shape = rows.shape[:-1]
        m, y, y0 = (v.reshape(shape) for v in (m, y, y0))
        up = self.sign * (y - y0) >= 0
        at = torch.where(up, rows.argmax(-1), rows0.argmax(-1))[..., None]
        share = m[..., None] * ratio(((y - y0) * self.sign)[..., None], (rows - rows0).gather(-1, at))
        return [from_end(torch.zeros_like(rows).scatter(-1, at, share), x, axes)]


def axes_of(given: Any, rank: int) -> list[int]:
    """Axes as a list of non-negative numbers; all where none is given."""
    if given is None or (isinstance(given, (list, tuple)) and not given):
        return list(range(rank))
    return [a % max(rank, 1) for a in (given if isinstance(given, (list, tuple)) else [given])]


def to_end(x: Tensor, axes: list[int]) -> Tensor:
    """Axes permuted to the end and flattened."""
    if not x.ndim:
        return x.reshape(1)
    return x.movedim(axes, list(range(x.ndim - len(axes), x.ndim))).flatten(x.ndim - len(axes))


def from_end(rows: Tensor, like: Tensor, axes: list[int]) -> Tensor:
    """The inverse of :func:`to_end`."""
    if not like.ndim:
        return rows.reshape(())
    permuted = like.movedim(axes, list(range(like.ndim - len(axes), like.ndim)))
    return rows.reshape(permuted.shape).movedim(list(range(like.ndim - len(axes), like.ndim)), axes)


@dataclass(frozen=True)
class Ranked(Rule):
    """Values sorted along an axis, or the first of them: each difference goes to one of the two elements it came from.

    As for a maximum where the element's own difference covers it; where neither does, all of the row shares.
    """

    axis: int = 1
    default: int = -1

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Everything to the element that covers it."""
        m = first_part(relevance)
        if m is None:
            return [None]
        (x, x0), (y, y0) = pairs_of(call)[0], values_of(call)
        position = call.argument(self.axis)
        axis = call.kwargs.get("dim", self.default if position is None else position)
        x, x0, y, y0, m, at, at0 = (
            v.movedim(axis, -1) if v.ndim else v.reshape(1)
            for v in (x, x0, y, y0, m, call.output[1], twin(call).output[1])
        )
        dx, dy, result = x - x0, y - y0, torch.zeros_like(x)
        left = torch.ones_like(dy, dtype=torch.bool)
        for indices in (at, at0):
            own = dx.gather(-1, indices)
            covers = left & (own * dy > 0) & (own.abs() >= dy.abs())
            result = result.scatter_add(-1, indices, torch.where(covers, m * ratio(dy, own), torch.zeros_like(dy)))
            left = left & ~covers
        rest = (torch.where(left, m * dy, torch.zeros_like(dy))).sum(-1, keepdim=True)
        result = result + rest * ratio(dx, (dx**2).sum(-1, keepdim=True).expand_as(dx))
        return [result.movedim(-1, axis).reshape(call.inputs[0].shape)]


def mean_exp(a: Tensor, b: Tensor) -> Tensor:
    """(exp a - exp b) / (a - b) without cancellation; exp a where they are equal, 0 at minus infinity."""
    high = torch.maximum(a, b)
    gap = torch.where(a == b, torch.zeros_like(a), (a - b).abs())
    small = gap < 1e-6
    safe = torch.where(small, torch.ones_like(gap), gap)
    return high.exp() * torch.where(small, 1 - gap / 2, ratio(-torch.expm1(-safe), safe))


def log_sum_exp(x: Tensor, x0: Tensor, axis: Sequence[int]) -> Tensor:
    """Multipliers of x for log sum exp x over axes: mean exponential times mean inverse of the sum."""
    top = torch.maximum(x.amax(tuple(axis), keepdim=True), x0.amax(tuple(axis), keepdim=True))
    top = torch.nan_to_num(top, neginf=0.0)
    s, s0 = ((v - top).exp().sum(tuple(axis), keepdim=True) for v in (x, x0))
    low, gap = torch.minimum(s, s0), (s - s0).abs()
    tiny = torch.finfo(x.dtype).tiny
    t = gap / low.clamp(min=tiny)
    logs = torch.where(t < 1, ratio(torch.log1p(t), t), torch.zeros_like(t)) / low.clamp(min=tiny)
    lse, lse0 = (torch.logsumexp(v, tuple(axis), keepdim=True) for v in (x, x0))
    far = ratio((lse - lse0).abs(), gap)
    inverse = torch.where(t == 0, 1 / low.clamp(min=tiny), torch.where(t < 1, logs, far))
    return mean_exp(x - top, x0 - top) * inverse


@dataclass(frozen=True)
class Softmax(Rule):
    """Softmax, exactly: y = exp(x - L) with L = log sum exp x; m_x = k m - M sum(k m), k and M mean slopes of exp and L.

    ``log`` is log-softmax: k = 1. With both passes equal it is the gradient.
    """

    log: bool = False

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """K m - M sum(k m)."""
        (x, x0) = pairs_of(call)[0]
        axis = int(call.args[1])
        slopes = log_sum_exp(x, x0, [axis])
        weighted = relevance
        if not self.log:
            u, u0 = (torch.log_softmax(v, axis) for v in (x, x0))
            weighted = relevance * torch.nan_to_num(mean_exp(u, u0), nan=0.0)
        return [torch.nan_to_num(weighted - slopes * weighted.sum(axis, keepdim=True), nan=0.0)]


@dataclass(frozen=True)
class LogSumExp(Rule):
    """Log of the sum of exponentials over axes."""

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Mean slopes."""
        (x, x0) = pairs_of(call)[0]
        axes = axes_of(call.argument(1), x.ndim)
        m = relevance.reshape(keep_shape(x, axes))
        return [m * log_sum_exp(x, x0, axes)]


def keep_shape(x: Tensor, axes: Sequence[int]) -> list[int]:
    """The shape of x with reduced axes of length one."""
    return [1 if i in axes else n for i, n in enumerate(x.shape)]


@dataclass(frozen=True)
class Normalise(Rule):
    """Layer, group, instance or batch normalisation by statistics of the input, y = w c / s + b.

    c = x - mean x and s^2 = mean c^2 + epsilon. From c = y s: m_c = m / s_bar, m_s = -sum(m y_bar) / s_bar, and from
    s^2: m_c += m_s (c + c0) / (n (s + s0)).
    """

    needs: ClassVar[Needs] = Needs.VALUES

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """The quotient, the square root, the square and the mean, one after the other."""
        target, m = call.node.target, first_part(relevance)
        if m is None:
            return [None for _ in call.inputs]
        if len(call.inputs) > 1:
            return Path().backward(call, relevance)
        (x, x0) = pairs_of(call)[0]
        rows: Callable[[Tensor], Tensor] = lambda v: v  # noqa: E731
        if target in o.BATCH_NORMS:
            if target is aten._native_batch_norm_legit_no_training.default or not call.argument(5):
                return call.vjp(relevance)
            axes, epsilon = [0, *range(2, x.ndim)], call.args[7]
            weight = across(call.args[1], x)
        elif target is aten.native_group_norm.default:
            rows, axes, epsilon = (lambda v: v.reshape(v.shape[0], call.args[6], -1)), [2], call.args[7]
            weight = across(call.args[1], x)
        else:
            axes, epsilon = list(range(x.ndim - len(call.args[1]), x.ndim)), call.args[4]
            weight = call.args[2]
        m = rows(m if weight is None else m * weight)
        c, c0 = (v - v.mean(axes, keepdim=True) for v in (rows(x), rows(x0)))
        s, s0 = ((v.square().mean(axes, keepdim=True) + epsilon).sqrt() for v in (c, c0))
        middle = (s + s0) / 2
        at_s = -(m * (c / s + c0 / s0) / 2).sum(axes, keepdim=True) / middle
        count = c.numel() // max(1, s.numel())
        share = m / middle + at_s * (c + c0) / (count * (s + s0))
        return [(share - share.mean(axes, keepdim=True)).reshape(x.shape)]


def across(weight: Tensor | None, x: Tensor) -> Tensor | None:
    """A weight per channel, broadcastable to x."""
    return None if weight is None else weight.reshape(1, -1, *[1] * (x.ndim - 2))


@dataclass(frozen=True)
class VectorNorm(Rule):
    """Norms over axes: order 2 from y^2 = sum x^2, m_x = m (x + x0) / (y + y0); order 1 by |x|; others by the path."""

    needs: ClassVar[Needs] = Needs.VALUES

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """The square root's and the square's slopes."""
        (x, x0), (y, y0) = pairs_of(call)[0], values_of(call)
        order = 2 if call.argument(1) is None else call.args[1]
        shape = keep_shape(x, axes_of(call.argument(2), x.ndim))
        m, y, y0 = (v.reshape(shape) for v in (relevance, y, y0))
        if order == 2:
            return [m * ratio((x + x0), (y + y0).expand_as(x))]
        if order == 1:
            return [m * torch.where(x == x0, x.sign(), ratio(x.abs() - x0.abs(), x - x0))]
        return Path().backward(call, relevance)
