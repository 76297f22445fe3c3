"""Gradient ascent on an input: steps, the best of each row, stopping.

Belongs here: the loop. Not here: where it starts and what comes out (``maximize``), what is optimised (``parametrisation``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyzer.errors import UnsupportedError, UsageError
from analyzer.nearest import did_you_mean
from analyzer.visualization.parametrisation import Code, Parametrisation
from analyzer.visualization.regularisers import Regularisers

Optimizer = Literal["adam", "adamw", "nadam", "radam", "rmsprop", "adagrad", "sgd"]
#: Name -> torch's class.
OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "nadam": "NAdam", "radam": "RAdam", "rmsprop": "RMSprop",
              "adagrad": "Adagrad", "sgd": "SGD"}  # fmt: skip
#: The best must rise by this share of one and its size within the patience.
_GAIN = 1e-4
#: Inputs that are seen in another way in each step are seen as they are once in so many.
_LOOK = 5


@dataclass(frozen=True)
class Steps:
    """How the ascent goes.

    Attributes
    ----------
    steps
        At most so many.
    rate
        Of the optimiser; a step of Adam is about this share of half the valid range.
    optimizer
        One of torch's.
    patience
        It stops when no row has gained for so many steps.
    frames
        So many inputs on the way are kept.
    """

    steps: int = 256
    rate: float = 0.05
    optimizer: Optimizer = "adam"
    patience: int = 64
    frames: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            message = f"unknown optimizer {self.optimizer!r}"
            raise UsageError("params.invalid", message, f"use {', '.join(OPTIMIZERS)}")
        for name, low, high in (("steps", 1, 10**6), ("patience", 1, 10**6), ("frames", 0, 1000)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise UsageError("params.invalid", f"{name}={value!r} is no whole number from {low} to {high}")
        if not 0 < self.rate < 1e6:
            raise UsageError("params.invalid", f"rate={self.rate!r} must be above 0", "as in rate=0.05")


@dataclass
class Ascent:
    """What the steps have given so far.

    Attributes
    ----------
    best
        (rows, channels, *places): of each row the input whose score less penalties was largest.
    gained
        (rows,): that score less penalties.
    begun
        (rows,): the same at the start.
    marked
        (rows,): the same when it last rose by enough to go on for.
    code
        What the best were made from, where a generator makes them.
    history
        The score of each row at each step, as the step saw it.
    frames
        Inputs on the way, all rows, each with the number of its step.
    interrupted
        Whether it was stopped from outside.
    """

    best: Tensor
    gained: Tensor
    begun: Tensor
    marked: Tensor
    code: Tensor | None = None
    history: list[NDArray[np.float64]] = field(default_factory=list)
    frames: list[tuple[int, Tensor]] = field(default_factory=list)
    interrupted: bool = False


@dataclass
class Search:
    """One ascent of several rows at once.

    Attributes
    ----------
    score
        (rows, channels, *places) -> (rows,), differentiable.
    half
        Half of the valid range.
    results
        So many rows belong to one restart, and shall differ.
    code_l2
        Times ‖z‖² of codes is taken from the score.
    seed
        Of the random ways in which steps see the input.
    """

    parametrisation: Parametrisation
    score: Callable[[Tensor], Tensor]
    regularisers: Regularisers
    half: Tensor
    steps: Steps
    results: int = 1
    code_l2: float = 0.0
    seed: int = 0

    def run(self, progress: Callable[[int, int], None] | None = None) -> Ascent:
        """Go up until the steps are done, nothing is gained any more, or the user interrupts: the best is kept.

        Raises
        ------
        UnsupportedError
            ``maximize.nonfinite`` where no score is finite from the start.
        """
        draw, leaf = torch.Generator().manual_seed(self.seed), self.parametrisation.parameters
        made = getattr(torch.optim, OPTIMIZERS[self.steps.optimizer])([leaf], lr=self.steps.rate, maximize=True)
        found: Ascent | None = None
        last_gain, every = 0, max(1, self.steps.steps // max(self.steps.frames, 1))
        try:
            for step in range(self.steps.steps + 1):
                made.zero_grad()
                x = self.regularisers.shaped(self.parametrisation.render())
                scores = self.score(self.regularisers.moved(x, draw))
                objective = scores - self._penalty(x)
                as_is = self._as_is(x, objective, step)
                found = found or self._begun(x, objective)
                if as_is is not None and self._keep(found, x, as_is):
                    last_gain = step
                found.history.append(scores.detach().cpu().double().numpy())
                if self.steps.frames and (step % every == 0 or step == self.steps.steps):
                    found.frames.append((step, x.detach().cpu()))
                if progress is not None:
                    progress(step, self.steps.steps)
                if step == self.steps.steps or step - last_gain >= self.steps.patience:
                    break
                (objective - self.regularisers.likeness(x, self.results)).sum().backward()
                if leaf.grad is not None:
                    leaf.grad.nan_to_num_(0.0, 0.0, 0.0)
                made.step()
                self.parametrisation.project()
        except KeyboardInterrupt:
            if found is None:
                raise
            found.interrupted = True
        assert found is not None
        if not torch.isfinite(found.gained).any():
            raise UnsupportedError("maximize.nonfinite", "the score is finite for none of the inputs tried",
                                   "give another start, or bounds")  # fmt: skip
        return found

    def _penalty(self, x: Tensor) -> Tensor:
        found = self.regularisers.penalty(x, self.half)
        if isinstance(self.parametrisation, Code) and self.code_l2:
            found = found + self.code_l2 * self.parametrisation.parameters.reshape(len(x), -1).square().sum(1)
        return found

    def _as_is(self, x: Tensor, objective: Tensor, step: int) -> Tensor | None:
        """The objective of the input as it is; None in steps that don't look."""
        if not self.regularisers.moving:
            return objective.detach()
        if step % _LOOK and step != self.steps.steps:
            return None
        with torch.no_grad():
            return self.score(x.detach()) - self._penalty(x.detach())

    def _begun(self, x: Tensor, objective: Tensor) -> Ascent:
        code = self.parametrisation.parameters.detach().clone() if isinstance(self.parametrisation, Code) else None
        nothing = torch.full((len(x),), -torch.inf, device=x.device)
        return Ascent(x.detach().clone(), nothing, objective.detach().clone(), nothing.clone(), code)

    def _keep(self, found: Ascent, x: Tensor, objective: Tensor) -> bool:
        """Keep the rows that are better than any before; whether one of them has gained."""
        better = objective > found.gained
        if not bool(better.any()):
            return False
        found.best[better], found.gained[better] = x.detach()[better], objective[better].to(found.gained)
        if found.code is not None:
            found.code[better] = self.parametrisation.parameters.detach()[better]
        clear = (found.gained > found.marked + _GAIN * (1 + found.gained.abs())) | (
            torch.isneginf(found.marked) & torch.isfinite(found.gained)
        )
        found.marked = torch.where(clear, found.gained, found.marked)
        return bool(clear.any())


def checked_fields(what: str, params: Mapping[str, Any], *kinds: type) -> dict[str, Any]:
    """The parameters, all of which are fields of one of some data classes.

    Raises
    ------
    UsageError
        ``params.unknown``, with the near name.
    """
    known = {each.name for kind in kinds for each in fields(kind)}
    for name in params:
        if name not in known:
            message = f"{what} has no parameter {name!r}{did_you_mean(name, known)}"
            raise UsageError("params.unknown", message, f"its parameters: {', '.join(sorted(known))}")
    return dict(params)


def regularisers_and_steps(params: Mapping[str, Any]) -> tuple[Regularisers, Steps]:
    """The two from their fields, as a user gives them together; errors as of :func:`checked_fields`, ``params.invalid``."""
    given = checked_fields("maximize", params, Regularisers, Steps)
    own = {each.name for each in fields(Regularisers)}
    return (
        Regularisers(**{name: value for name, value in given.items() if name in own}),
        Steps(**{name: value for name, value in given.items() if name not in own}),
    )
