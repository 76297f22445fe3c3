"""DeepDream: a photo in which what a layer sees in it is made stronger.

Belongs here: octaves, tiles, jitter, and the ascent on a photo of any size. Not here: what is made stronger (``objectives``),
reading photos and writing frames (``analyzer.jobs``).

Mordvintsev, Olah and Tyka 2015, *Inceptionism*: gradient ascent on the mean square of a layer, from a small version of the photo
to the whole, each gradient divided by its mean size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from analyzer.errors import UnsupportedError, UsageError
from analyzer.explain.backends import Backends
from analyzer.visualization.domain import Domain, domain_of
from analyzer.visualization.network import Network
from analyzer.visualization.objectives import Goal, objective_of

Array = NDArray[Any]
#: Limits of the parameters: name -> (lowest, highest).
_LIMITS = {"octaves": (1, 16), "steps": (1, 10_000), "tile": (8, 4096), "jitter": (0, 4096), "frames": (0, 1000)}


@dataclass(frozen=True)
class Manner:
    """How a photo is dreamt on.

    Attributes
    ----------
    octaves, octave_scale
        So many sizes, each by this factor larger than the one before; the last is the photo's own.
    steps
        On each.
    rate
        How far the numbers go in a step on average, as a share of half the valid range.
    tile
        Side of the squares that are run one by one, in places; a model that takes one size has that.
    jitter
        Places by which the photo is moved at most in each step, so that borders of tiles don't show; None: half a tile.
    frames
        So many pictures on the way are kept.
    """

    octaves: int = 4
    octave_scale: float = 1.4
    steps: int = 10
    rate: float = 0.03
    tile: int = 256
    jitter: int | None = None
    frames: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is None and name == "jitter":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise UsageError("params.invalid", f"{name}={value!r} is no whole number from {low} to {high}")
        if not 1 < self.octave_scale <= 4:
            message = f"octave_scale={self.octave_scale!r} is not above 1 and up to 4"
            raise UsageError("params.invalid", message, "as in octave_scale=1.4")
        if not 0 < self.rate <= 1:
            raise UsageError("params.invalid", f"rate={self.rate!r} is not above 0 and up to 1", "as in rate=0.03")


@dataclass(frozen=True, eq=False)
class Dream:
    """What became of a photo.

    Attributes
    ----------
    x
        In the model's layout, without the axis of samples; of the photo's size.
    frames
        The same on the way, the photo first.
    scores
        The mean score over the tiles at each step.
    domain
        Of the model's input; its shape is that of a tile.
    notes
        What a reader should know.
    """

    x: Array
    frames: list[Array]
    scores: list[float]
    goal: Goal
    domain: Domain
    notes: list[str] = field(default_factory=list)


def dream(
    backends: Backends,
    photo: Array,
    goal: Goal,
    manner: Manner,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Dream:
    """Dream on a photo of any size.

    Parameters
    ----------
    photo
        In the numbers and the layout of the model's input, without the axis of samples.
    progress
        Called with (steps done, steps).

    Raises
    ------
    UnsupportedError
        ``dream.no_picture`` for models that take none, ``model.no_gradient``, ``op.unsupported``.
    UsageError
        ``params.invalid``, ``layer.*``, ``unit.*``.
    """
    model = backends.model
    domain = _tiled(backends, photo, manner)
    middle = np.broadcast_to(domain.middle, (1, *domain.canonical)).astype(np.float32)
    example = domain.to_model(torch.from_numpy(middle)).numpy().astype(domain.dtype)
    feed = model.feed({domain.name: np.repeat(example, model.fixed_batch or 1, 0)})
    objective = objective_of(model, goal, feed)
    network = Network(backends, objective.value, domain.name, feed)
    dreaming = _Dreaming(domain, manner, lambda x: objective.score(network(domain.to_model(x))), network.device, seed)
    dreaming.begin(torch.from_numpy(domain.from_model(photo[None]).astype(np.float32)).to(network.device))
    notes = [*domain.notes, *objective.notes]
    try:
        dreaming.run(progress)
    except KeyboardInterrupt:
        if not dreaming.scores:
            raise
        notes.append(f"interrupted after {len(dreaming.scores)} of {manner.octaves * manner.steps} steps")
    frames = [domain.to_model(each.cpu()).numpy()[0] for each in dreaming.frames]
    found = domain.to_model(dreaming.whole().cpu()).numpy()[0]
    return Dream(found, frames, dreaming.scores, goal, domain, notes)


def _tiled(backends: Backends, photo: Array, manner: Manner) -> Domain:
    """The model's input at the size of a tile: its own where it is fixed."""
    spec = next(iter(backends.model.inputs.values()))
    name = next(iter(backends.model.inputs))
    if photo.ndim != 3 or len(spec.shape) != 4:
        raise UnsupportedError("dream.no_picture", f"input {name!r} takes no picture: {spec}", "see `maximize`")
    channels = 0 if photo.shape[0] in (1, 3) else 2
    sides = [axis for axis in range(3) if axis != channels]
    shape = [1, *photo.shape]
    for axis in sides:
        declared = spec.shape[axis + 1]
        shape[axis + 1] = (
            declared if isinstance(declared, int) and declared > 0 else min(manner.tile, photo.shape[axis])
        )
    domain = domain_of(backends.model, name, {name: np.empty(shape, np.float32)})
    if len(domain.canonical) != 3 or domain.canonical[0] != photo.shape[channels]:
        raise UnsupportedError("dream.no_picture", f"input {name!r} takes no such picture: {spec}", "see `maximize`")
    return domain


class _Dreaming:
    """The photo on its way, as (1, channels, rows, columns)."""

    def __init__(
        self, domain: Domain, manner: Manner, score: Callable[[Tensor], Tensor], device: torch.device, seed: int
    ) -> None:
        self._domain, self._manner, self._score = domain, manner, score
        self._low, self._high, self._half = (
            torch.from_numpy(np.asarray(each)).to(device, torch.float32)
            for each in (domain.low, domain.high, domain.half)
        )
        self._draw = torch.Generator().manual_seed(seed)
        self.frames: list[Tensor] = []
        self.scores: list[float] = []
        self._photo: Tensor
        self._now: Tensor

    def begin(self, photo: Tensor) -> None:
        """Take the photo."""
        self._photo = self._now = photo
        self.frames = [photo] if self._manner.frames else []

    def whole(self) -> Tensor:
        """The picture at the photo's size: where it is still smaller, the photo with what was added, enlarged."""
        size = self._photo.shape[2:]
        if self._now.shape == self._photo.shape:
            return self._now
        return self._cut(self._photo + _resized(self._now - _resized(self._photo, self._now.shape[2:]), size))

    def run(self, progress: Callable[[int, int], None] | None) -> None:
        """From the smallest size to the photo's own; what was added to one is enlarged and goes on."""
        manner = self._manner
        total = manner.octaves * manner.steps
        every = max(1, total // max(manner.frames, 1))
        added: Tensor | None = None
        for octave in range(manner.octaves):
            factor = manner.octave_scale ** (octave - manner.octaves + 1)
            size = [max(1, round(side * factor)) for side in self._photo.shape[2:]]
            base = _resized(self._photo, size)
            self._now = base if added is None else self._cut(base + _resized(added, size))
            for _ in range(manner.steps):
                self._step()
                done = len(self.scores)
                if manner.frames and (done % every == 0 or done == total):
                    self.frames.append(self.whole())
                if progress is not None:
                    progress(done, total)
            added = self._now - base

    def _step(self) -> None:
        tile = self._domain.canonical[1:]
        most = self._manner.jitter
        shift = [
            int(torch.randint(0, (side // 2 if most is None else most) + 1, (1,), generator=self._draw))
            for side in tile
        ]
        moved = torch.roll(self._now, shift, (2, 3))
        gradient, weights = torch.zeros_like(moved), torch.zeros_like(moved[:, :1])
        found = []
        for rows in _spans(moved.shape[2], tile[0]):
            for columns in _spans(moved.shape[3], tile[1]):
                own, score = self._tile_gradient(moved[:, :, rows, columns])
                gradient[:, :, rows, columns] += own
                weights[:, :, rows, columns] += 1
                found.append(score)
        gradient = torch.roll(gradient / weights, [-each for each in shift], (2, 3)) * self._half
        size = gradient.abs().mean()
        if bool(torch.isfinite(size)) and bool(size > 0):
            self._now = self._cut(self._now + self._half * self._manner.rate * gradient / size)
        self.scores.append(float(np.mean(found)))

    def _tile_gradient(self, part: Tensor) -> tuple[Tensor, float]:
        """The gradient on a tile; a picture smaller than a tile lies in the middle of its own mirror image."""
        rows, columns = self._domain.canonical[1:]
        leaf = part.detach().clone().requires_grad_()
        x = leaf
        if part.shape[2:] != (rows, columns):
            at = [
                torch.from_numpy(_mirrored(side, want))
                for side, want in zip(part.shape[2:], (rows, columns), strict=True)
            ]
            x = leaf[:, :, at[0].to(leaf.device)][:, :, :, at[1].to(leaf.device)]
        score = self._score(x)
        score.sum().backward()
        assert leaf.grad is not None
        return leaf.grad, float(score.detach().mean())

    def _cut(self, x: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(x, self._high), self._low)


def _spans(length: int, tile: int) -> list[slice]:
    """Parts of one tile's length that cover an axis; the last one is moved back so that it ends with it."""
    if length <= tile:
        return [slice(0, length)]
    starts = [*range(0, length - tile, tile), length - tile]
    return [slice(start, start + tile) for start in starts]


def _mirrored(length: int, wanted: int) -> NDArray[np.int64]:
    """Which positions of a short axis stand at each of a longer one: itself in the middle, mirrored at its ends."""
    at = np.arange(wanted) - (wanted - length) // 2
    found = np.mod(at, 2 * length)
    return np.where(found < length, found, 2 * length - 1 - found).astype(np.int64)


def _resized(x: Tensor, size: Any) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return functional.interpolate(x, tuple(size), mode="bilinear", align_corners=False, antialias=True)
