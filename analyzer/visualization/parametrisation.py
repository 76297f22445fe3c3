"""Parametrisations: what is optimised instead of an input's own numbers, and the way from it to the input.

Belongs here: pixels, spectra, decorrelated colours, codes of a generator. Not here: what is added to the score
(``regularisers``), the loop (``maximize``).

A spectrum that is weighted by one over its frequency, and colours along their principal axes, make steps of equal size equally
likely in natural pictures (Olah, Mordvintsev and Schubert 2017, *Feature Visualization*, Distill).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from analyzer.errors import UsageError
from analyzer.visualization.domain import Domain

Kind = Literal["pixels", "fourier"]
#: Square root of the covariance of colours in photos (ImageNet's, as the paper above gives it), its largest row of length one.
_COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_COLOURS = _COLOURS / np.linalg.norm(_COLOURS, axis=0).max()


class Parametrisation(Protocol):
    """What is optimised.

    Attributes
    ----------
    parameters
        Leaves of autograd, samples first.
    """

    parameters: Tensor

    def render(self) -> Tensor:
        """(samples, channels, *places) in the input's own numbers, within its range."""
        ...

    def project(self) -> None:
        """Bring the parameters back to where they may be, after a step."""
        ...


@dataclass
class Pixels:
    """The numbers themselves, in halves of the range from its middle; cut to the range after each step."""

    domain: Domain
    start: Tensor
    parameters: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._middle, self._half, self._low, self._high = (
            torch.from_numpy(np.asarray(each)).to(self.start)
            for each in (self.domain.middle, self.domain.half, self.domain.low, self.domain.high)
        )
        self.parameters = ((self.start - self._middle) / self._half).detach().requires_grad_()

    def render(self) -> Tensor:
        """See :class:`Parametrisation`; the ends of the range exactly."""
        return torch.maximum(torch.minimum(self._middle + self._half * self.parameters, self._high), self._low)

    def project(self) -> None:
        """Cut to the range."""
        with torch.no_grad():
            low, high = (self._low - self._middle) / self._half, (self._high - self._middle) / self._half
            self.parameters.copy_(torch.maximum(torch.minimum(self.parameters, high), low))


@dataclass
class Smooth:
    """Spectra, decorrelated colours, or both, squashed into the range by tanh.

    Attributes
    ----------
    fourier
        Whether the spectrum over places is optimised.
    decorrelate
        Whether three colours are optimised along their principal axes.
    """

    domain: Domain
    start: Tensor
    fourier: bool
    decorrelate: bool
    parameters: Tensor = field(init=False)

    def __post_init__(self) -> None:
        domain = self.domain
        self._sizes = tuple(self.start.shape[2:])
        if self.fourier and not self._sizes:
            message = f"input {domain.name!r} has no axis of places, so no spectrum"
            raise UsageError("params.invalid", message, "use parametrisation='pixels'")
        if self.decorrelate and (self.start.shape[1] != 3 or domain.preprocess is None):
            message = f"input {domain.name!r} has no three colours"
            raise UsageError("params.invalid", message, "leave decorrelate out")
        self._middle, self._half = (
            torch.from_numpy(np.asarray(each)).to(self.start) for each in (domain.middle, domain.half)
        )
        self._bounded = torch.from_numpy(np.isfinite(domain.low) & np.isfinite(domain.high)).to(self.start.device)
        colours = _COLOURS if domain.preprocess is None or domain.preprocess.color != "BGR" else _COLOURS[::-1]
        self._colours = torch.from_numpy(np.ascontiguousarray(colours)).to(self.start)
        inner = (self.start - self._middle) / self._half
        inner = torch.where(self._bounded, torch.atanh(inner.clamp(-0.999, 0.999)), inner)
        if self.decorrelate:
            inner = _turned(torch.linalg.inv(self._colours), inner)
        if self.fourier:
            self._scale = self._weights(self.start)
            inner = torch.view_as_real(torch.fft.rfftn(inner, dim=self._axes, norm="ortho") / self._scale)
        self.parameters = inner.detach().clone().requires_grad_()

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(2, 2 + len(self._sizes)))

    def _weights(self, like: Tensor) -> Tensor:
        """One over the frequency; the largest is 1 over the lowest frequency but zero."""
        lines = [torch.fft.fftfreq(size) for size in self._sizes[:-1]] + [torch.fft.rfftfreq(self._sizes[-1])]
        grids = torch.meshgrid(*lines, indexing="ij")
        frequency = torch.stack([grid.square() for grid in grids]).sum(0).sqrt()
        return (1 / frequency.clamp_min(1 / max(self._sizes))).to(like)

    def render(self) -> Tensor:
        """See :class:`Parametrisation`."""
        inner = self.parameters
        if self.fourier:
            spectrum = torch.view_as_complex(inner) * self._scale
            inner = torch.fft.irfftn(spectrum, s=self._sizes, dim=self._axes, norm="ortho")
        if self.decorrelate:
            inner = _turned(self._colours, inner)
        return self._middle + self._half * torch.where(self._bounded, torch.tanh(inner), inner)

    def project(self) -> None:
        """Every number is allowed."""


@dataclass
class Code:
    """Codes of a generator: a differentiable way from (samples, …) to (samples, channels, *places)."""

    generate: Callable[[Tensor], Tensor]
    start: Tensor
    parameters: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = self.start.detach().clone().requires_grad_()

    def render(self) -> Tensor:
        """What the generator makes of the codes."""
        return self.generate(self.parameters)

    def project(self) -> None:
        """Every code is allowed."""


def parametrised(domain: Domain, start: Tensor, kind: Kind, *, decorrelate: bool) -> Parametrisation:
    """The parametrisation of a name.

    Parameters
    ----------
    start
        (samples, channels, *places) in the input's own numbers.

    Raises
    ------
    UsageError
        ``params.invalid``.
    """
    if kind not in ("pixels", "fourier"):
        raise UsageError("params.invalid", f"unknown parametrisation {kind!r}", "use pixels or fourier")
    if kind == "pixels" and not decorrelate:
        return Pixels(domain, start)
    return Smooth(domain, start, kind == "fourier", decorrelate)


def _turned(matrix: Tensor, value: Tensor) -> Tensor:
    return torch.einsum("ij,nj...->ni...", matrix, value)
