"""Difference rules: how a difference of an operator's output is shared among the differences of its inputs.

Belongs here: the multipliers of linear, elementwise and other smooth operators between a pass and a reference pass. Not
here: operators over axes (``multipliers_axes``), which operator gets which rule, the two-signed rule of DeepLIFT
(``deeplift``).

Relevance is a multiplier m here: what a unit of difference at a value adds to the output. Every rule keeps the sum,
``sum m_x (x - x0) = sum m_y (y - y0)``, exactly up to rounding, for values however far apart; where an input doesn't
differ, m is its derivative. Subscript 0 is the reference, a bar the mean of both passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, fx

from graph_rules import operators as o
from graph_rules.errors import RuleError
from graph_rules.operators import aten
from graph_rules.rule import Call, Needs, Rule


def twin(call: Call) -> Call:
    """The same node's call in the reference pass."""
    if call.reference is None:
        raise ValueError("difference rules need a second pass on reference inputs")
    return call.reference


def changed(call: Call) -> bool:
    """Whether an argument that nothing is attributed to (a mask, an index) differs between the passes."""
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in unattributed(call))


def unattributed(call: Call) -> list[tuple[Tensor, Tensor]]:
    """Arguments that nothing is attributed to, in both passes, where they aren't one tensor."""
    given, theirs = _constants(call), _constants(twin(call))
    return [(a, b) for a, b in zip(given, theirs, strict=True) if a is not b]


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
    part: Tensor | None = relevance[0] if isinstance(relevance, list) else relevance
    return part


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0 or either isn't a finite number."""
    quotient = a / torch.where(b == 0, torch.ones_like(b), b)
    return torch.where((b == 0) | ~torch.isfinite(quotient), torch.zeros_like(quotient), quotient)


def mean_vjp(call: Call, relevance: Any) -> list[Tensor]:
    """Mean of the vector-Jacobian products of both passes."""
    both = zip(call.vjp(relevance), twin(call).vjp(relevance), strict=True)
    return [(a + b) / 2 for a, b in both]


@dataclass(frozen=True)
class Linear(Rule):
    """Operators that are linear in their active inputs together: m_x = J^T m_y."""

    needs: ClassVar[Needs] = Needs.VALUES

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """J^T m."""
        if not changed(call):
            return call.vjp(relevance)
        return Shares().backward(call, relevance) if elementwise(call) else mean_vjp(call, relevance)


@dataclass(frozen=True)
class Quadratic(Rule):
    """Polynomials of degree two, products and matrix products of two computed values: m_x = mean(J, J0)^T m_y.

    For a b this is m_a = (b + b0) / 2 and m_b = (a + a0) / 2.
    """

    needs: ClassVar[Needs] = Needs.VALUES

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Mean of both transposed Jacobians."""
        if changed(call) and elementwise(call):
            return Shares().backward(call, relevance)
        return mean_vjp(call, relevance)


def elementwise(call: Call) -> bool:
    """Whether an operator works element by element, its inputs broadcast to the output."""
    known = o.ADDITIONS | o.PRODUCTS | o.QUOTIENTS | o.ACTIVATIONS | _ELEMENTWISE
    return call.node.target in known or o.schema_name(call.node.target) in o.ROUNDING


_ELEMENTWISE = {aten.where.self, aten.masked_fill.Scalar, aten.masked_fill.Tensor, aten.maximum.default,
              aten.minimum.default}  # fmt: skip


@dataclass(frozen=True)
class Rescale(Rule):
    """Elementwise functions of one value: m_x = m_y dy / dx (Shrikumar et al. 2017, section 3.5.1).

    Where dx is too small for a quotient, m_x is the mean of both derivatives; for functions with kinks that is only
    where dx is zero.
    """

    smooth: bool = True
    needs: ClassVar[Needs] = Needs.VALUES

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
class Shares(Rule):
    """Elementwise functions of several values: m_i = m_y dy d_i / sum_j d_j^2. Exact, if coarse."""

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
class Quotient(Rule):
    """y = a / b: from a = y b, m_a = m / b_bar and m_b = -m y_bar / b_bar; where b changes its sign, from a (1 / b)."""

    needs: ClassVar[Needs] = Needs.VALUES

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
class Inverse(Rule):
    """y = a r where r is an inverse: as the quotient a / (1 / r), m_a = 2 m / (1 / r + 1 / r0) and m_r = m y_bar / r_bar.

    The mean of both derivatives would be as exact in its sum, but from where 1 / r vanishes (a normalisation at zero) it gives
    a and r huge shares of opposite signs. Where r changes its sign, it is any product.

    Attributes
    ----------
    at
        Position of r among the arguments.
    """

    at: int
    needs: ClassVar[Needs] = Needs.VALUES

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Tensor | None]:
        """Shares of the value and of the inverse."""
        if changed(call):
            return Shares().backward(call, relevance)
        y, y0 = values_of(call)
        a, r = (call.args[at].detach() for at in (1 - self.at, self.at))
        a0, r0 = (twin(call).args[at].detach() for at in (1 - self.at, self.at))
        same = r * r0 > 0
        through = torch.where(same, 2 * r * ratio(r0, r + r0), (r + r0) / 2)
        inverse = torch.where(same, ratio(y + y0, r + r0), (a + a0) / 2)
        shares = {
            call.node.args[1 - self.at]: (relevance * through).sum_to_size(a.shape),
            call.node.args[self.at]: (relevance * inverse).sum_to_size(r.shape),
        }
        return [shares[node] for node in call.active]


@dataclass(frozen=True)
class Path(Rule):
    """Any other smooth operator: its own gradient integrated along the straight line from reference to input.

    Gauss-Legendre with n points is exact for polynomials of degree 2 n - 1; n doubles until the sum is met, and an
    operator for which it isn't at 256 points is refused.
    """

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Integrated gradients of one node."""
        pairs = [(x.double(), x0.double()) for x, x0 in pairs_of(call)]
        made, made0 = ((r,) if isinstance(r, Tensor) else tuple(r) for r in (call.output, twin(call).output))
        ms = relevance if isinstance(relevance, list) else [relevance]
        ends = [
            (m.double(), y.detach().double(), y0.detach().double())
            for m, y, y0 in zip(ms, made, made0, strict=False)
            if m is not None
        ]
        wanted = float(sum((m * (y - y0)).sum() for m, y, y0 in ends))
        scale = float(sum((m.abs() * (y.abs() + y0.abs())).sum() for m, y, y0 in ends))  # rounding of y and y0
        points = 8
        while True:
            shares = self._integral(call, ms, pairs, points)
            found = float(sum((s * (x - x0)).sum() for s, (x, x0) in zip(shares, pairs, strict=True)))
            tolerance = 50 * torch.finfo(call.inputs[0].dtype).eps
            if abs(found - wanted) <= tolerance * max(scale, 1e-30):
                return [s.to(x.dtype) for s, x in zip(shares, call.inputs, strict=True)]
            if points >= 256 or not np.isfinite(found):
                name, op = call.node.meta.get("onnx", call.node.name), call.node.meta.get("op", call.node.target)
                raise RuleError(f"{op} node {name!r} isn't smooth between the baseline and the input")
            points *= 2

    @staticmethod
    def _integral(call: Call, ms: list[Any], pairs: list[tuple[Tensor, Tensor]], points: int) -> list[Tensor]:
        nodes, weights = np.polynomial.legendre.leggauss(points)
        total = [torch.zeros_like(x) for x, _ in pairs]
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            leaves = [(x0 + node * (x - x0)).requires_grad_(True) for x, x0 in pairs]
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
