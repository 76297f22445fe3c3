"""Interval arithmetic along one axis: what a change can reach, and what a part of an output needs.

Belongs here: the arithmetic. Not here: which operator has which reach (``operators``).

An output position o of a windowed operator reads the input positions o·step − begin … o·step − begin + span − 1, where
span = (kernel − 1)·dilation + 1 and ``begin`` counts the padding before the axis. A change of [low, high) therefore reaches
ceil((low + begin − span + 1) / step) … floor((high − 1 + begin) / step).

Source: Nakandala, Kumar, Papakonstantinou 2019, Incremental and approximate inference for faster occlusion-based deep CNN
explanations, SIGMOD, equations 4 to 12.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """Half-open intervals of an axis, one per window: [low, high), int64 arrays of equal length."""

    low: Integers
    high: Integers

    def hull(self, other: Span) -> Span:
        """The smallest intervals that hold both."""
        return Span(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def within(self, size: int) -> Span:
        """Cut to an axis of that size; at least one position long."""
        low = np.clip(self.low, 0, size - 1)
        return Span(low, np.maximum(np.clip(self.high, 0, size), low + 1))

    @property
    def width(self) -> Integers:
        """Lengths."""
        return self.high - self.low


@dataclass(frozen=True)
class Reach:
    """How an operator couples positions along one axis.

    Attributes
    ----------
    span, step
        How many neighbouring positions an output position reads, and how far the next one's are.
    begin
        Padding before the axis.
    repeat
        How often each position is repeated (enlargement); then span and step are 1 and begin is 0.
    """

    span: int = 1
    step: int = 1
    begin: int = 0
    repeat: int = 1

    def forward(self, change: Span, size: int) -> Span:
        """The output positions that a change of the input can reach, on an output axis of that size."""
        if self.repeat > 1:
            return Span(change.low * self.repeat, change.high * self.repeat).within(size)
        low = -((self.span - 1 - self.begin - change.low) // self.step)
        return Span(low, (change.high - 1 + self.begin) // self.step + 1).within(size)

    def start(self, output: Integers) -> Integers:
        """The first input position that outputs from ``output`` on need; before the axis where it is negative."""
        return output // self.repeat * self.step - self.begin

    def length(self, output: int) -> int:
        """How many input positions so many neighbouring output positions need."""
        return (-(-output // self.repeat) - 1) * self.step + self.span

    def counted(self, size: int, output: int) -> NDArray[np.float64]:
        """How many positions inside an axis of that size each output position reads, for a dilation of 1."""
        first = np.arange(output) * self.step - self.begin
        return (np.minimum(first + self.span, size) - np.maximum(first, 0)).astype(np.float64)
