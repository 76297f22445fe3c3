"""Regularisers: what keeps an input that is optimised from being noise.

Belongs here: penalties, blur, random transformations; in (samples, channels, *places). Not here: parametrisations, the loop.

Sources: ‖x‖² (Simonyan, Vedaldi and Zisserman 2014), total variation (Mahendran and Vedaldi 2015), blur (Yosinski et al. 2015),
jitter (Mordvintsev et al. 2015), rotation and scale (Olah et al. 2017), diversity (Olah et al. 2017, here between the inputs
themselves).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from analyzer.errors import UsageError

#: (parameter, largest value).
_LIMITS = {
    "l2": 1e9,
    "tv": 1e9,
    "linf": 1e9,
    "blur": 100,
    "jitter": 1000,
    "rotate": 180,
    "scale": 0.9,
    "diversity": 1e9,
}


@dataclass(frozen=True)
class Regularisers:
    """How strong each is; 0 for none.

    Attributes
    ----------
    l2
        Times ‖x‖², the sum of the input's squares, is taken from the score.
    tv
        Times the total variation, the sum of the differences between neighbours, in halves of the valid range.
    linf
        No number of the input is larger than this; 0 for no limit.
    blur
        The input is what is optimised, blurred by a Gaussian of this standard deviation, in places.
    jitter
        Places by which it is moved at most, another way in each step.
    rotate
        Degrees by which a picture is turned at most.
    scale
        Share by which a picture is enlarged or reduced at most.
    diversity
        Times the mean cosine between several results is taken from the score.
    """

    l2: float = 0.0
    tv: float = 0.0
    linf: float = 0.0
    blur: float = 0.0
    jitter: int = 0
    rotate: float = 0.0
    scale: float = 0.0
    diversity: float = 0.0

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                message = f"{name}={value!r} is no number from 0 to {most:g}"
                raise UsageError("params.invalid", message, "0 for none")

    @property
    def moving(self) -> bool:
        """Whether each step sees the input another way."""
        return bool(self.jitter or self.rotate or self.scale)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def shaped(self, x: Tensor) -> Tensor:
        """The input that something rendered stands for: blurred, and cut to the largest number."""
        x = blurred(x, self.blur) if self.blur and x.ndim > 2 else x
        return x.clamp(-self.linf, self.linf) if self.linf else x

    def penalty(self, x: Tensor, half: Tensor) -> Tensor:
        """(samples,): what is taken from the scores of inputs.

        Parameters
        ----------
        half
            Half of the valid range.
        """
        found = x.new_zeros(len(x))
        if self.l2:
            found = found + self.l2 * x.reshape(len(x), -1).square().sum(1)
        if self.tv:
            found = found + self.tv * total_variation(x / half)
        return found

    def likeness(self, x: Tensor, results: int) -> Tensor:
        """(samples,): diversity times the mean cosine with the other results of the same restart."""
        if not self.diversity or results < 2:
            return x.new_zeros(len(x))
        flat = x.reshape(-1, results, x[0].numel())
        unit = functional.normalize(flat - flat.mean(2, keepdim=True), dim=2, eps=1e-6)
        cosines = unit @ unit.transpose(1, 2)
        others = cosines.sum(2) - cosines.diagonal(dim1=1, dim2=2)
        return self.diversity * others.reshape(-1) / (results - 1)

    def moved(self, x: Tensor, draw: torch.Generator) -> Tensor:
        """The input as one step sees it: moved, turned, enlarged; all samples the same way."""
        places = tuple(range(2, x.ndim))
        if self.jitter and places:
            shifts = torch.randint(-self.jitter, self.jitter + 1, (len(places),), generator=draw).tolist()
            x = torch.roll(x, shifts, places)
        if (self.rotate or self.scale) and len(places) == 2:
            turn, grow = (2 * torch.rand(2, generator=draw) - 1).tolist()
            x = turned(x, turn * self.rotate, 1 + grow * self.scale)
        return x


def total_variation(x: Tensor) -> Tensor:
    """(samples,): the sum of absolute differences between neighbouring places."""
    found = x.new_zeros(len(x))
    for axis in range(2, x.ndim):
        found = found + x.diff(dim=axis).abs().reshape(len(x), -1).sum(1)
    return found


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Blurred along every axis of places by a Gaussian; beyond the border lies what is at it."""
    for axis in range(2, x.ndim):
        reach = min(math.ceil(3 * sigma), max(x.shape[axis] - 1, 0))
        at = torch.arange(-reach, reach + 1).to(x)
        kernel = torch.exp(-(at**2) / (2 * sigma**2))
        line = x.movedim(axis, -1)
        flat = functional.pad(line.reshape(-1, 1, line.shape[-1]), (reach, reach), mode="replicate")
        x = functional.conv1d(flat, (kernel / kernel.sum())[None, None]).reshape(line.shape).movedim(-1, axis)
    return x


def turned(x: Tensor, degrees: float, factor: float) -> Tensor:
    """Pictures (samples, channels, rows, columns) turned and enlarged about the middle; what comes in is as at the border."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
    rows, columns = x.shape[2:]
    matrix = x.new_tensor([[cos, -sin * rows / columns, 0], [sin * columns / rows, cos, 0]])
    grid = functional.affine_grid(matrix.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
