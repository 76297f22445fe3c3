"""Difference rules: how a difference of an operator's output is shared among the differences of its inputs.

Belongs here: the multipliers of each sort of operator between a pass and a reference pass. Not here: which operator gets
which rule, and the two-signed rule of DeepLIFT (``deeplift``).

Relevance is a multiplier m here: what a unit of difference at a value adds to the output. Every rule keeps the sum,
``sum m_x (x - x0) = sum m_y (y - y0)``, exactly up to rounding, for values however far apart; where an input doesn't
differ, m is its derivative. Subscript 0 is the reference, a bar the mean of both passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, fx

from graph_rules import operators as o
from graph_rules.operators import aten
from graph_rules.sweep import Call


def twin(call: Call) -> Call:
    """The same node's call in the reference pass."""
    if call.reference is None:
        raise ValueError("difference rules need a second pass on reference inputs")
    return call.reference


def changed(call: Call) -> bool:
    """Whether an argument that nothing is attributed to (a mask, an index) differs between the passes."""
    given, theirs = _constants(call), _constants(twin(call))
    return any(
        a is not b and (a.shape != b.shape or not torch.equal(a, b)) for a, b in zip(given, theirs, strict=True)
    )


def _constants(call: Call) -> list[Tensor]:
    own = {id(value) for value in call.inputs}
    found: list[Tensor] = []
    stack: list[Any] = [*call.args, *call.kwargs.values()]
    while stack:
        value = stack.pop()
        if isinstance(value, (list, tuple)):
            stack.extend(value)
        elif isinstance(value, Tensor) and id(value) not in own:
            found.append(value)
    return found


def values_of(call: Call) -> tuple[Tensor, Tensor]:
    """(y, y0) of an operator with one output, or with several whose first one counts."""
    first, second = call.output, twin(call).output
    if not isinstance(first, Tensor):
        first, second = first[0], second[0]
    return first.detach(), second.detach()


def pairs_of(call: Call) -> list[tuple[Tensor, Tensor]]:
    """(x, x0) of every active input."""
    return [(x.detach(), x0.detach()) for x, x0 in zip(call.inputs, twin(call).inputs, strict=True)]


def first_part(relevance: Any) -> Tensor | None:
    """The multiplier of the first output."""
    return relevance[0] if isinstance(relevance, list) else relevance


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0 or either isn't a finite number."""
    quotient = a / torch.where(b == 0, torch.ones_like(b), b)
    return torch.where((b == 0) | ~torch.isfinite(quotient), torch.zeros_like(quotient), quotient)


def mean_vjp(call: Call, relevance: Any) -> list[Tensor]:
    """Mean of the vector-Jacobian products of both passes."""
    both = zip(call.vjp(relevance), twin(call).vjp(relevance), strict=True)
    return [(a + b) / 2 for a, b in both]


@dataclass(frozen=True)
class Linear:
    """Operators that are linear in their active inputs together: m_x = J^T m_y."""

    tape: ClassVar[bool] = True

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """J^T m."""
        if not changed(call):
            return call.vjp(relevance)
        return Shares().backward(call, relevance) if elementwise(call) else mean_vjp(call, relevance)


@dataclass(frozen=True)
class Quadratic:
    """Polynomials of degree two, products and matrix products of two computed values: m_x = mean(J, J0)^T m_y.

    For a b this is m_a = (b + b0) / 2 and m_b = (a + a0) / 2.
    """

    tape: ClassVar[bool] = True

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Mean of both transposed Jacobians."""
        if changed(call) and elementwise(call):
            return Shares().backward(call, relevance)
        return mean_vjp(call, relevance)


def elementwise(call: Call) -> bool:
    """Whether an operator works place by place, its inputs broadcast to the output."""
    known = o.ADDITIONS | o.PRODUCTS | o.QUOTIENTS | o.ACTIVATIONS | _PLACEWISE
    return call.node.target in known or o.schema_name(call.node.target) in o.ROUNDING


_PLACEWISE = {aten.where.self, aten.masked_fill.Scalar, aten.masked_fill.Tensor, aten.maximum.default,
              aten.minimum.default}  # fmt: skip


@dataclass(frozen=True)
class Rescale:
    """Elementwise functions of one value: m_x = m_y dy / dx (Shrikumar et al. 2017, section 3.5.1).

    Where dx is too small for a quotient, m_x is the mean of both derivatives; for functions with kinks that is only
    where dx is zero.
    """

    smooth: bool = True
    tape: ClassVar[bool] = True

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """M dy / dx."""
        m = first_part(relevance)
        if m is None:
            return [None]
        (x, x0), (y, y0) = pairs_of(call)[0], values_of(call)
        dx = torch.where(x == x0, torch.zeros_like(x), x - x0)
        band = torch.finfo(x.dtype).eps ** (1 / 3) / 4 * x.abs().clamp(max=1.0) if self.smooth else 1e-10
        near = (dx.abs() <= band).expand_as(y)
        near = torch.zeros_like(near) if changed(call) else near
        slopes = mean_vjp(call, [m * near] if isinstance(relevance, list) else m * near)[0]
        slopes = torch.nan_to_num(slopes, nan=0.0, posinf=0.0, neginf=0.0)
        quotient = torch.where(near, torch.zeros_like(y), ratio(y - y0, dx))
        return [slopes + (m * quotient).sum_to_size(x.shape)]


@dataclass(frozen=True)
class Shares:
    """Elementwise functions of several values: m_i = m_y dy d_i / sum_j d_j^2. Exact, if coarse."""

    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Least-squares shares of dy."""
        m = first_part(relevance)
        if m is None:
            return [None for _ in call.inputs]
        y, y0 = values_of(call)
        ds = [torch.where(x == x0, torch.zeros_like(x), x - x0) for x, x0 in pairs_of(call)]
        largest = torch.stack([d.abs().expand_as(y) for d in ds]).amax(0)
        scaled = [ratio(d.expand_as(y), largest) for d in ds]
        total = torch.stack([d**2 for d in scaled]).sum(0)
        share = m * ratio(ratio(y - y0, largest), total)
        return [(share * d).sum_to_size(x.shape) for d, x in zip(scaled, call.inputs, strict=True)]


@dataclass(frozen=True)
class Quotient:
    """y = a / b: from a = y b, m_a = m / b_bar and m_b = -m y_bar / b_bar; where b changes its sign, from a (1 / b)."""

    tape: ClassVar[bool] = True

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of numerator and denominator."""
        if changed(call):
            return Shares().backward(call, relevance)
        y, y0 = values_of(call)
        a, b = (torch.as_tensor(v, dtype=y.dtype, device=y.device).detach() for v in call.args[:2])
        a0, b0 = (torch.as_tensor(v, dtype=y.dtype, device=y.device).detach() for v in twin(call).args[:2])
        same = b * b0 > 0
        up = torch.where(same, ratio(torch.full_like(b, 2.0), b + b0), (1 / b + 1 / b0) / 2)
        down = torch.where(same, -ratio(y + y0, b + b0), -ratio((a + a0) / 2, b * b0))
        shares: dict[fx.Node, Tensor] = {}
        for node, value, part in zip(call.node.args[:2], (a, b), (up, down), strict=True):
            if isinstance(node, fx.Node) and node in call.active:
                share = (relevance * part).sum_to_size(value.shape)
                shares[node] = shares[node] + share if node in shares else share
        return [shares[node] for node in call.active]


@dataclass(frozen=True)
class Larger:
    """Maximum or minimum of two computed values: what wins in the pass where the output is more extreme takes all.

    For y >= y0 that is the maximum's winner of this pass, as x - x0 >= y - y0 >= 0 there; so m is in [0, 1].
    """

    sign: float = 1.0
    tape: ClassVar[bool] = False

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
class Winner:
    """Max pooling: each window's difference goes to its winner in the pass where the output is larger.

    The winner's own difference is at least as large and of the same sign, so that m is in [0, 1]; overlapping windows
    add up. Where several places win in the reference, this pass's winner is preferred among them.
    """

    axes: int = 2
    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Everything to the winners."""
        m = first_part(relevance)
        if m is None:
            return [None]
        (x, x0), (y, y0) = pairs_of(call)[0], values_of(call)
        places, at0 = call.output[1], twin(call).output[1]
        theirs = x0.flatten(x.ndim - self.axes).gather(-1, places.flatten(y.ndim - self.axes)).reshape(y.shape)
        tied = (theirs - y0).abs() <= 1e-3 * (y - y0).abs()
        places = torch.where((y >= y0) | tied, places, at0)
        return [to_winners(x, x0, y, y0, m, places, self.axes)]


def to_winners(x: Tensor, x0: Tensor, y: Tensor, y0: Tensor, m: Tensor, places: Tensor, axes: int) -> Tensor:
    """Multipliers of x where each y's difference goes to one place of the last ``axes`` axes, counted flat."""
    dx = (x - x0).flatten(x.ndim - axes)
    at = places.flatten(places.ndim - axes)
    share = m.flatten(m.ndim - axes) * ratio((y - y0).flatten(y.ndim - axes), dx.gather(-1, at))
    return torch.zeros_like(dx).scatter_add(-1, at, share).reshape(x.shape)


@dataclass(frozen=True)
class Extreme:
    """Largest or smallest value over axes: the winner of the pass where it is more extreme takes all."""

    sign: float = 1.0
    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Everything to the winners."""
        m = first_part(relevance)
        if m is None:
            return [None]
        (x, x0), (y, y0) = pairs_of(call)[0], values_of(call)
        axes = axes_of(call.argument(1), x.ndim)
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
    """Axes moved to the end and made one."""
    if not x.ndim:
        return x.reshape(1)
    return x.movedim(axes, list(range(x.ndim - len(axes), x.ndim))).flatten(x.ndim - len(axes))


def from_end(rows: Tensor, like: Tensor, axes: list[int]) -> Tensor:
    """The inverse of :func:`to_end`."""
    if not like.ndim:
        return rows.reshape(())
    moved = like.movedim(axes, list(range(like.ndim - len(axes), like.ndim)))
    return rows.reshape(moved.shape).movedim(list(range(like.ndim - len(axes), like.ndim)), axes)


@dataclass(frozen=True)
class Ranked:
    """Values sorted along an axis, or the first of them: each difference goes to one of the two places it came from.

    As for a maximum where the place's own difference covers it; where neither does, all of the row shares.
    """

    axis: int = 1
    default: int = -1
    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Everything to the place that covers it."""
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
        for places in (at, at0):
            own = dx.gather(-1, places)
            covers = left & (own * dy > 0) & (own.abs() >= dy.abs())
            result = result.scatter_add(-1, places, torch.where(covers, m * ratio(dy, own), torch.zeros_like(dy)))
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
class Softmax:
    """Softmax, exactly: y = exp(x - L) with L = log sum exp x; m_x = k m - M sum(k m), k and M mean slopes of exp and L.

    ``log`` is log-softmax: k = 1. With both passes equal it is the gradient.
    """

    log: bool = False
    tape: ClassVar[bool] = False

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
class LogSumExp:
    """Log of the sum of exponentials over axes."""

    tape: ClassVar[bool] = False

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
class Normalise:
    """Layer, group, instance or batch normalisation by statistics of the input, y = w c / s + b.

    c = x - mean x and s^2 = mean c^2 + epsilon. From c = y s: m_c = m / s_bar, m_s = -sum(m y_bar) / s_bar, and from
    s^2: m_c += m_s (c + c0) / (n (s + s0)).
    """

    tape: ClassVar[bool] = True

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
class VectorNorm:
    """Norms over axes: order 2 from y^2 = sum x^2, m_x = m (x + x0) / (y + y0); order 1 by |x|; others by the path."""

    tape: ClassVar[bool] = True

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


@dataclass(frozen=True)
class Path:
    """Any other smooth operator: its own gradient integrated along the straight line from reference to input.

    Gauss-Legendre with n points is exact for polynomials of degree 2 n - 1; n doubles until the sum is kept, and an
    operator for which it isn't at 256 points is refused.
    """

    tape: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Integrated gradients of one node."""
        pairs = [(x.double(), x0.double()) for x, x0 in pairs_of(call)]
        made, made0 = ((r,) if isinstance(r, Tensor) else tuple(r) for r in (call.output, twin(call).output))
        ms = relevance if isinstance(relevance, list) else [relevance]
        products = [m.double() * (y.detach().double() - y0.detach().double())
                    for m, y, y0 in zip(ms, made, made0, strict=False) if m is not None]  # fmt: skip
        wanted = float(sum(p.sum() for p in products))
        scale = float(sum(p.abs().sum() for p in products))
        points = 8
        while True:
            shares = self._integral(call, ms, pairs, points)
            found = float(sum((s * (x - x0)).sum() for s, (x, x0) in zip(shares, pairs, strict=True)))
            tolerance = 50 * torch.finfo(call.inputs[0].dtype).eps
            if abs(found - wanted) <= tolerance * max(scale, 1e-30):
                return [s.to(x.dtype) for s, x in zip(shares, call.inputs, strict=True)]
            if points >= 256 or not np.isfinite(found):
                name, op = call.node.meta.get("onnx", call.node.name), call.node.meta.get("op", call.node.target)
                raise ValueError(f"{op} node {name!r} isn't smooth between the baseline and the input")
            points *= 2

    @staticmethod
    def _integral(call: Call, ms: list[Any], pairs: list[tuple[Tensor, Tensor]], points: int) -> list[Tensor]:
        places, weights = np.polynomial.legendre.leggauss(points)
        total = [torch.zeros_like(x) for x, _ in pairs]
        for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
            leaves = [(x0 + place * (x - x0)).requires_grad_(True) for x, x0 in pairs]
            put = {id(value): leaf for value, leaf in zip(call.inputs, leaves, strict=True)}
            with torch.enable_grad():
                out = call.node.target(*_put(call.args, put), **_put(call.kwargs, put))  # type: ignore[operator]
            outs = (out,) if isinstance(out, Tensor) else out
            both = [(y, m.to(y.dtype)) for y, m in zip(outs, ms, strict=False) if m is not None and y.requires_grad]
            grads = torch.autograd.grad([y for y, _ in both], leaves, [m for _, m in both], allow_unused=True)
            total = [t if g is None else t + weight * g for t, g in zip(total, grads, strict=True)]
        return total


def _put(value: Any, put: dict[int, Tensor]) -> Any:
    """Arguments with active values replaced and constants in double precision."""
    if isinstance(value, Tensor):
        return put.get(id(value), value.double() if value.is_floating_point() else value)
    if isinstance(value, (list, tuple)):
        return [_put(v, put) for v in value]
    return {k: _put(v, put) for k, v in value.items()} if isinstance(value, dict) else value
