"""Arithmetic that may overwrite its first argument, for tensors that a rule made itself.

Belongs here: elementwise operations that spare fresh memory where they may. Not here: formulas of rules.

On a CPU a fresh tensor of the size of a feature map costs more than the arithmetic that fills it. A sweep that is being
recorded as a graph can't overwrite anything (``Plan.static``); there the same operations give fresh tensors. ``own`` is the
argument that may be overwritten: use nothing but the result afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graph_rules.stabilizer import stabilize

Term = Tensor | float


@dataclass(frozen=True)
class InPlace:
    """Elementwise operations; ``reuse`` says whether they may overwrite ``own``.

    Other operands broadcast to ``own``, whose shape and dtype the result has.
    """

    reuse: bool

    def plus(self, own: Tensor, other: Term, factor: float = 1.0) -> Tensor:
        """own + factor other."""
        if not isinstance(other, Tensor):
            return self._plus_number(own, factor * other)
        return torch.add(own, other, alpha=factor, out=self._into(own))

    def onto(self, own: Tensor, other: Tensor, factor: float) -> Tensor:
        """Other + factor own."""
        return torch.add(other, own, alpha=factor, out=self._into(own))

    def times(self, own: Tensor, other: Term) -> Tensor:
        """Own times other."""
        return own if isinstance(other, (int, float)) and other == 1 else torch.mul(own, other, out=self._into(own))

    def under(self, own: Tensor, top: Tensor) -> Tensor:
        """Top / own."""
        fits = top.shape == own.shape and top.dtype == own.dtype
        return torch.div(top, own, out=self._into(own) if fits else None)

    def shares(self, relevance: Tensor, z: Tensor, epsilon: float) -> Tensor:
        """R / S(z); unlike the others, it leaves its arguments as they are."""
        if epsilon == 0 or not self.reuse:
            return relevance / stabilize(z, epsilon)
        return self.under(torch.sign(z).add_(0.5).sign_().mul_(epsilon).add_(z), relevance)

    def at_most(self, own: Tensor, high: float) -> Tensor:
        """The smaller of own and a bound."""
        return own.clamp_(max=high) if self.reuse else own.clamp(max=high)

    def at_least(self, own: Tensor, low: float) -> Tensor:
        """The larger of own and a bound."""
        return own.clamp_(min=low) if self.reuse else own.clamp(min=low)

    def _plus_number(self, own: Tensor, number: float) -> Tensor:
        return own if number == 0 else own.add_(number) if self.reuse else own + number

    def _into(self, own: Tensor) -> Tensor | None:
        return own if self.reuse else None
